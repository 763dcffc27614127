"""Requests of anything: never a 5xx, refusals as problem documents, no 200 that breaks the rules it was asked with."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import strategies as st
from litestar.testing import TestClient

from endcap.serve.app import Server, create_app
from endcap.serve.run import BoundedProtocol
from endcap.serve.service import ServerSettings
from serve.small import N_ITEMS, N_USERS, make_shop, publish

from .trying import DEPTHS, try_out

SHOP = make_shop()
ROWS = {row["item"]: row for row in SHOP.catalogue.to_pylist()}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ServerSettings:
    folder = tmp_path_factory.mktemp("fuzzed")
    publish(folder / "releases", SHOP)
    return ServerSettings(releases=str(folder / "releases"), state=str(folder / "state.db"))


@pytest.fixture(scope="module")
def client(settings: ServerSettings) -> Iterator[TestClient[Server]]:
    with TestClient(create_app(settings), raise_server_exceptions=True) as client:
        yield client


# -- right questions: each 200 keeps to what was asked -----------------------------------------------------------------

ITEM = st.integers(0, N_ITEMS - 1).map("i{}".format)
ITEMS = st.lists(ITEM, max_size=4)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "category": st.lists(
            st.sampled_from(["shop", "shop/c0", "shop/c1", "shop/c", "nothing"]), min_size=1, max_size=2
        ),
        "not_category": st.lists(st.sampled_from(["shop/c2", "shop/c3"]), max_size=2),
        "brand": st.lists(st.sampled_from(["b0", "b1", "b2"]), min_size=1, max_size=3),
        "not_brand": st.lists(st.sampled_from(["b3", "b4"]), max_size=2),
        "not_seller": st.lists(st.sampled_from(["s0", "s1"]), max_size=2),
        "items": st.lists(ITEM, min_size=1, max_size=30),
        "not_items": st.lists(ITEM, max_size=30),
        "min_price": st.sampled_from([0.0, 5.0, 30.0, 100.0]),
        "max_price": st.sampled_from([0.0, 20.0, 40.0]),
        "min_margin": st.sampled_from([0.1, 0.5, 0.9]),
        "max_per_brand": st.integers(1, 3),
        "max_per_category": st.integers(1, 3),
        "not_bought": st.booleans(),
        "in_stock": st.booleans(),
        "pins": ITEMS,
    },
)
QUESTIONS = st.fixed_dictionaries(
    {"k": st.integers(1, 70)},
    optional={
        "user": st.integers(0, N_USERS).map("u{}".format),
        "actions": st.lists(
            st.fixed_dictionaries({"item": ITEM | st.just("new"), "interaction": st.sampled_from(["click", "cart"])}),
            max_size=4,
        ),
        "basket": ITEMS,
        "item": ITEM | st.just("new"),
        "seen_as": st.sampled_from(["click", "cart", "purchase"]),
        "want": st.sampled_from(["click", "cart", "purchase"]),
        "surface": st.sampled_from(["item-page", "cart-page", "home", "cross-sell"]),
        "filters": FILTERS,
    },
)


def under(path: str, names: list[str]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in names)


def bought_by(user: str | None) -> set[str]:
    number = -1 if user is None else SHOP.users.number(user)
    mine = (SHOP.events.user == number) & (SHOP.events.interaction == SHOP.interactions.code("purchase"))
    return set(SHOP.items.decode(SHOP.events.item[mine]))


def assert_keeps_to(question: dict[str, Any], answer: dict[str, Any]) -> None:
    """The rules as a shopper would check them by hand."""
    rules = question.get("filters", {})
    items = [entry["item"] for entry in answer["items"]]
    assert len(items) <= question["k"]
    assert len(set(items)) == len(items)
    assert not {*question.get("basket", []), question.get("item")} & set(items)
    surface = question.get("surface") or (
        "item-page" if "item" in question else "cart-page" if question.get("basket") else "home"
    )
    if rules.get("not_bought") or surface == "home":
        assert not bought_by(question.get("user")) & set(items)
    for name in items:
        row = ROWS[name]
        assert row["in_stock"], "every default surface shows what is in stock"
        for field in ("brand", "seller"):
            assert not rules.get(field) or row[field] in rules[field]
            assert row[field] not in rules.get(f"not_{field}", [])
        assert not rules.get("category") or under(row["category"], rules["category"])
        assert not under(row["category"], rules.get("not_category", []))
        assert not rules.get("items") or name in rules["items"]
        assert name not in rules.get("not_items", [])
        for field, least in (("price", rules.get("min_price")), ("margin", rules.get("min_margin"))):
            assert least is None or (row[field] is not None and row[field] >= least)
        assert rules.get("max_price") is None or (row["price"] is not None and row["price"] <= rules["max_price"])
    for field in ("brand", "category"):
        most = max(Counter(ROWS[name][field] for name in items).values(), default=0)
        assert most <= rules.get(f"max_per_{field}", len(items))


@DEPTHS
def test_no_wrong_200_of_recommend(depth: int, client: TestClient[Server]) -> None:
    def check(question: dict[str, Any]) -> None:
        answer = client.post("/v1/recommend", json=question)
        assert answer.status_code == 200, (question, answer.text)
        assert_keeps_to(question, answer.json())

    try_out(check, QUESTIONS, examples=80 * depth)


@DEPTHS
def test_no_wrong_200_of_related(depth: int, client: TestClient[Server]) -> None:
    def check(item: str, question: dict[str, Any]) -> None:
        asked = {name: question[name] for name in ("k", "seen_as", "want", "surface", "user") if name in question}
        parameters = {
            **asked,
            **{name: value for name, value in question.get("filters", {}).items() if name != "items"},
        }
        answer = client.get(f"/v1/items/{item}/related", params=parameters)
        if answer.status_code == 200:
            rules = {name: value for name, value in parameters.items() if name not in asked}
            assert_keeps_to({**asked, "item": item, "filters": rules}, answer.json())
        else:
            assert_refused(answer.status_code, answer.headers, answer.content)

    try_out(check, ITEM, QUESTIONS, examples=80 * depth)


@DEPTHS
def test_no_wrong_200_of_cross_sell(depth: int, client: TestClient[Server]) -> None:
    def check(question: dict[str, Any], said: dict[str, bool]) -> None:
        asked = {name: value for name, value in question.items() if name not in ("item", "seen_as", "want", "surface")}
        answer = client.post("/v1/cross-sell", json={**asked, "basket": asked.get("basket", []), **said})
        if asked.get("basket"):
            assert answer.status_code == 200, (asked, answer.text)
            assert_keeps_to({**asked, "surface": "cross-sell"}, answer.json())
        else:
            assert_refused(answer.status_code, answer.headers, answer.content)

    said = st.dictionaries(st.sampled_from(["parts", "reasons", "left_out"]), st.booleans())
    try_out(check, QUESTIONS, said, examples=40 * depth)


def assert_refused(status: int, headers: Any, content: bytes) -> None:
    assert 400 <= status < 500, (status, content)
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(content)
    assert problem["status"] == status
    assert problem["detail"].strip()
    assert "Traceback" not in problem["detail"]


# -- wrong ones --------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["click", "i1", "u1"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.sampled_from(["k", "item"]), inner)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "user",
        "actions",
        "basket",
        "item",
        "seen_as",
        "want",
        "surface",
        "k",
        "filters",
        "time",
        "interaction",
        "price",
        "pin",
        "boost",
        "parts",
        "left_out",
    ]
)
BODIES = st.one_of(
    st.dictionaries(FIELDS, JSON, max_size=5).map(json.dumps).map(str.encode),
    JSON.map(json.dumps).map(str.encode),
    st.binary(max_size=60),
    st.sampled_from(
        [b"[" * 50_000, b'{"a":' * 50_000, b'{"k":1e999}', b'{"k":NaN}', b'{"k":' + b"9" * 5000 + b"}", b'"\\ud800"']
    ),
)
TYPES = st.sampled_from(
    ["application/json", "text/plain", "", "application/json; charset=utf-16", "multipart/form-data", "\xff"]
)
ROUTES = st.sampled_from(
    [
        "/v1/recommend",
        "/v1/events",
        "/v1/items",
        "/v1/items/i1/related",
        "/v1/items/%00/related",
        "/v1/items/i1/cross-sell",
        "/v1/items/%ff/cross-sell",
        "/v1/cross-sell",
        "/v1/items/%ff/related",
        "/v1/surfaces",
        "/v1",
        "/healthz",
        "/readyz",
        "/metrics",
        "/",
        "/schema",
        "/nothing",
        "//v1//recommend",
        "/v1/items/../../etc/passwd",
        "/v1/admin/reload",
    ]
)
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"])
QUERY = st.dictionaries(
    FIELDS | st.text(max_size=3), st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=3
)


@DEPTHS
def test_no_server_error_whatever_is_asked(depth: int, client: TestClient[Server]) -> None:
    def check(method: str, route: str, query: dict[str, str], body: bytes, content_type: str) -> None:
        headers = {"content-type": content_type.encode("latin-1")}
        answer = client.request(method, route, params=query, content=body, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code < 500, (method, route, query, body, answer.text)
        if answer.status_code >= 400 and method != "HEAD":
            assert_refused(answer.status_code, answer.headers, answer.content)

    try_out(check, METHODS, ROUTES, QUERY, BODIES, TYPES, examples=120 * depth)


# -- not even HTTP -----------------------------------------------------------------------------------------------------

LINES = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /v1/recommend HTTP/1.1", b"GET /healthz HTTP/9.9", b"GET", b"\0\1\2", b"PRI * HTTP/2.0"]
)
HEADERS = st.sampled_from(
    [
        b"Host: a",
        b"Host",
        b": x",
        b"Content-Length: 5",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: x",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: nonsense",
        b"A: " + b"x" * 70_000,
        b"Content-Type: application/json",
        b"X\0: y",
        b"Cookie: \xff\xfe",
        b"Expect: 100-continue",
        b"Upgrade: websocket",
        b"Connection: Upgrade, close",
        b" folded",
        b"B: \r C: d",
        b"Accept: */*;q=x",
        b"X-Api-Key: \xff",
    ]
)
TAILS = st.sampled_from(
    [b"", b"{}", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"ffffffffffffffffff\r\n", b"0\r\n\r\n", b"-1\r\n", b"{" * 2000]
)
MESSAGES = st.lists(
    st.builds(
        lambda line, headers, tail: b"\r\n".join([line, *headers, b"", tail]),
        LINES,
        st.lists(HEADERS, max_size=5),
        TAILS,
    )
    | st.binary(max_size=40),
    min_size=1,
    max_size=3,
).map(b"".join)
HEALTHY = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def exchange(port: int, message: bytes) -> bytes:
    """Send bytes, close the sending side, read what comes until the server closes or says nothing more for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(message)
        writer.write_eof()
        while part := await asyncio.wait_for(reader.read(65_536), 0.25):
            received += part
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return received


@DEPTHS
def test_bytes_of_anything_on_the_socket(depth: int, settings: ServerSettings) -> None:
    async def send_all(messages: list[bytes]) -> None:
        config = uvicorn.Config(create_app(settings), port=0, log_level="critical", http=BoundedProtocol, ws="none")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        for message in messages:
            received = await exchange(port, message)
            assert b" 500 " not in received.split(b"\r\n")[0], (message, received)
            assert b"Traceback" not in received
            assert (await exchange(port, HEALTHY)).startswith(b"HTTP/1.1 200"), message
        server.should_exit = True
        await running

    def check(messages: list[bytes]) -> None:
        asyncio.run(send_all(messages))

    try_out(check, st.lists(MESSAGES, min_size=4, max_size=8), examples=2 * depth)
