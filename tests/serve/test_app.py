"""The HTTP API: good questions are answered, bad ones get a problem document, nothing gets a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from litestar.testing import TestClient

from endcap.errors import DamagedArtefact, InputError
from endcap.serve.app import MAX_BATCH, MAX_BODY, Server, create_app
from endcap.serve.service import ServerSettings

Client = TestClient[Server]
JSON = {"content-type": "application/json"}


def problem_of(response: Any, status: int) -> dict[str, Any]:
    """The problem document of a refused request, whose shape is checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["title"]
    assert "Traceback" not in document["detail"]
    return document


def items_of(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [row["item"] for row in response.json()["items"]]


# -- lists -------------------------------------------------------------------------------------------------------------


def test_a_related_list_has_the_contracts_fields(client: Client) -> None:
    given = client.get("/v1/items/i0/related?seen_as=click&want=cart&k=3").json()
    assert {"request_id", "release", "items"} <= given.keys()
    assert len(given["items"]) == 3
    assert {"item", "score", "source", "reasons", "title"} == given["items"][0].keys()
    assert "fallback" not in given, "nothing had to help out"


def test_filters_of_a_query(client: Client) -> None:
    given = client.get(
        "/v1/items/i0/related?k=5&category=shop/c1&category=shop/c2&max_price=30&max_per_brand=2&user=u1"
    )
    assert all(int(item[1:]) % 6 in (1, 2) and int(item[1:]) <= 30 for item in items_of(given))
    assert len(items_of(given)) == 5


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("k=0", ">= 1"),
        ("k=1000000000", "<= 500"),
        ("k=ten", "int"),
        ("k=1&k=2", "more than once"),
        ("kk=1", "did you mean 'k'"),
        ("want=buy", "unknown interaction 'buy'"),
        ("surface=nowhere", "unknown surface"),
        ("in_stock=perhaps", "bool"),
        ("max_price=nan", "max_price"),
        ("user=%00", "control character"),
    ],
)
def test_a_wrong_query_is_refused_with_the_reason(client: Client, query: str, says: str) -> None:
    assert says in problem_of(client.get(f"/v1/items/i0/related?{query}"), 400)["detail"]


@pytest.mark.parametrize(
    "item", ["a/b", "/a//b/", "50% off?", "ünïcode 日本", "a b+c", "related", "...", "%2F", "a#b;c=1"]
)
def test_any_id_can_stand_in_a_path(client: Client, item: str) -> None:
    assert client.put("/v1/items", json={"item": item, "category": "shop/c0", "title": f"<{item}>"}).status_code == 200
    given = client.get(f"/v1/items/{quote(item, safe='')}/related?k=2").json()
    assert given["items"][0]["source"] == "category-popularity", given
    assert "notes" not in given
    posted = client.post("/v1/recommend", json={"item": item, "k": 2}).json()
    assert posted["items"] == given["items"]


def test_ids_that_cannot_be(client: Client) -> None:
    assert "512" in problem_of(client.get(f"/v1/items/{'x' * 513}/related"), 400)["detail"]
    assert "control" in problem_of(client.get("/v1/items/a%00b/related"), 400)["detail"]
    assert client.get("/v1/items/%ff%fe/related").status_code == 200, "not UTF-8: unknown"
    problem_of(client.post("/v1/recommend", content=b'{"user": "\\ud800"}', headers=JSON), 400)
    problem_of(client.post("/v1/recommend", content=b'{"user": "a\\u0000"}', headers=JSON), 400)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\x00", b"{", b"[]", b"null", b'"x"', b"[" * 50_000),
        *(b'{"user": "\xff"}', b'{"k": 1e400}', b'{"k": NaN}', b'{"k": -1}', b'{"usr": "u1"}'),
        *(b'{"filters": {"min_prize": 1}}', b'{"actions": [{"interaction": "cart"}]}'),
    ],
)
def test_malformed_bodies_are_refused(client: Client, body: bytes) -> None:
    problem_of(client.post("/v1/recommend", content=body, headers=JSON), 400)


def test_a_question_without_anything_gets_what_is_popular(client: Client) -> None:
    assert client.post("/v1/recommend", json={}).json()["fallback"] == "recent-popularity"


# -- live state --------------------------------------------------------------------------------------------------------


def test_the_next_answer_reflects_an_event(client: Client) -> None:
    assert client.post("/v1/recommend", json={"user": "new"}).json()["notes"] == ["user 'new' is unknown"]
    stored = client.post("/v1/events", json={"user": "new", "item": "i0", "interaction": "click"})
    assert stored.status_code == 200
    assert stored.json()["recorded"] == 1
    reasons = client.post("/v1/recommend", json={"user": "new"}).json()["items"][0]["reasons"]
    assert reasons == ["because you clicked Thing 0, you may want to cart this"]


def test_an_event_delivered_twice_counts_once(client: Client) -> None:
    event = {"user": "u1", "item": "i1", "interaction": "cart", "event_id": "e1"}
    assert client.post("/v1/events", json=event).json() == {"recorded": 1, "duplicates": 0, "event_ids": ["e1"]}
    assert client.post("/v1/events", json=[event]).json() == {"recorded": 0, "duplicates": 1, "event_ids": ["e1"]}


def test_one_wrong_row_refuses_the_batch_and_every_wrong_row_is_named(client: Client) -> None:
    good = {"user": "fresh", "item": "i0", "interaction": "click"}
    batch = [good, good | {"interaction": "look"}, good, good | {"item": ""}]
    document = problem_of(client.post("/v1/events", json=batch), 400)
    assert [flaw["index"] for flaw in document["errors"]] == [1, 3]
    assert "unknown interaction 'look'" in document["errors"][0]["detail"]
    assert client.post("/v1/recommend", json={"user": "fresh"}).json()["notes"] == ["user 'fresh' is unknown"]
    flawed = problem_of(client.put("/v1/items", json=[{"item": "i1", "in_stock": False}, {"item": "\t"}]), 400)
    assert [flaw["index"] for flaw in flawed["errors"]] == [1]
    assert "i1" in items_of(client.post("/v1/recommend", json={"k": 100}))


def test_batches_have_a_limit(client: Client) -> None:
    event = {"user": "u", "item": "i0", "interaction": "click"}
    assert client.post("/v1/events", json=[event] * MAX_BATCH).json()["recorded"] == MAX_BATCH
    problem_of(client.post("/v1/events", json=[event] * (MAX_BATCH + 1)), 400)
    problem_of(client.post("/v1/events", json=[]), 400)


def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    problem_of(client.post("/v1/events", content=b" " * (MAX_BODY + 1), headers=JSON), 413)


def test_stock_counts_from_the_next_answer_on(client: Client) -> None:
    first = items_of(client.get("/v1/items/i0/related?k=3"))[0]
    assert client.put("/v1/items", json=[{"item": first, "in_stock": False}]).json() == {"updated": 1}
    assert first not in items_of(client.get("/v1/items/i0/related?k=50"))


# -- around it ---------------------------------------------------------------------------------------------------------


def test_unknown_routes_and_methods_are_problems(client: Client) -> None:
    problem_of(client.get("/v2/nothing"), 404)
    refused = client.delete("/v1/items/i0/related")
    assert "DELETE" in problem_of(refused, 405)["detail"]
    assert "GET" in refused.headers["allow"]
    problem_of(client.get("/v1/items//related"), 404)


def test_health_readiness_and_what_can_be_asked(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert ready["refused"] is None
    assert ready["trained_age_seconds"] > ready["age_seconds"] >= 0
    about = client.get("/v1/surfaces").json()
    assert about["models"] == ["co-occurrence"]
    assert set(about["surfaces"]) == {"item-page", "cart-page", "home", "cross-sell"}


def test_metrics_count_by_route_not_by_url(client: Client) -> None:
    for item in ("i0", "i1", "x%2Fy"):
        client.get(f"/v1/items/{item}/related")
    client.get("/nowhere/1")
    client.get("/nowhere/2")
    client.post("/v1/events", json={"user": "u", "item": "i0", "interaction": "click"})
    text = client.get("/metrics").text
    assert 'endcap_requests_total{method="GET",route="/v1/items/{item}/related",status="200"} 3.0' in text
    assert 'endcap_requests_total{method="GET",route="unmatched",status="404"} 2.0' in text
    assert 'endcap_request_seconds_count{route="/v1/items/{item}/related"} 3.0' in text
    assert 'endcap_fallbacks_total{step="recent-popularity"} 1.0' in text
    assert 'endcap_events_total{outcome="recorded"} 1.0' in text
    assert "endcap_release_age_seconds" in text


def test_the_page_needs_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text


def test_the_openapi_description_has_examples_that_work(client: Client) -> None:
    described = client.get("/schema/openapi.json").json()
    tried = 0
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                response = client.request(method.upper(), path, json=example["value"])
                assert response.status_code == 200, (path, example, response.text)
                tried += 1
    assert tried >= 6
    names = {parameter["name"] for parameter in described["paths"]["/v1/items/{item}/related"]["get"]["parameters"]}
    assert {"item", "seen_as", "want", "k", "surface", "max_per_brand", "category"} <= names


def test_a_key_guards_reads_and_writes(settings: ServerSettings, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("geheim-ü\n", encoding="utf-8")
    guarded = msgspec.structs.replace(settings, api_key_file=str(tmp_path / "key"))
    with TestClient(create_app(guarded)) as client:
        for given in ({}, {"x-api-key": "wrong"}, {"x-api-key": "geheim"}):
            problem_of(client.get("/v1/items/i0/related", headers=given), 401)
            problem_of(client.post("/v1/events", content=b"{", headers=given), 401)
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200
        assert '"geheim-ü"' not in client.get("/schema/openapi.json").text


def test_the_key_may_come_from_the_environment(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_API_KEY", "secret")
    with TestClient(create_app(settings)) as client:
        problem_of(client.get("/v1/items/i0/related"), 401)
        assert client.get("/v1/items/i0/related", headers={"x-api-key": "secret"}).status_code == 200


def test_wrong_settings_are_told_before_anything_is_served(
    settings: ServerSettings, tmp_path: Path, releases: Path
) -> None:
    with pytest.raises(InputError, match="no release is live"):
        create_app(msgspec.structs.replace(settings, releases=str(tmp_path / "none"), state=str(tmp_path / "new.db")))
    assert not (tmp_path / "new.db").exists()
    with pytest.raises(InputError, match="not a duration"):
        create_app(msgspec.structs.replace(settings, stale_after="soon"))
    (tmp_path / "empty").write_text("\n")
    for key_file in ("empty", "missing"):
        with pytest.raises(InputError, match="--api-key-file"):
            create_app(msgspec.structs.replace(settings, api_key_file=str(tmp_path / key_file)))
    damaged = next(releases.glob("*/items.parquet"))
    damaged.write_bytes(damaged.read_bytes() + b"x")
    with pytest.raises(DamagedArtefact, match=r"items\.parquet"):
        create_app(msgspec.structs.replace(settings, releases=str(releases)))


def test_a_full_disk_is_a_503_and_not_an_acknowledgement(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    state = client.app.state.service.state
    state.record([]).result()
    state._submit(lambda connection: connection.execute("PRAGMA max_page_count = 1")).result()
    pages = [{"user": "u" * 500, "item": f"{n}" * 100, "interaction": "click"} for n in range(200)]
    refused = client.post("/v1/events", json=pages)
    problem_of(refused, 503)
    assert refused.headers["retry-after"]
    assert state.count_events() == 0
