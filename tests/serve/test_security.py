"""What a request can reach, how much of a server it can have, and what of it is ever written down."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
from litestar.testing import TestClient

from endcap.errors import EndcapError, InputError
from endcap.release import activate, live
from endcap.release import releases as list_releases
from endcap.release.shelf import remove, verify_release
from endcap.release.write import check_name
from endcap.serve import protocol
from endcap.serve.app import MAX_URL, PAGE, create_app
from endcap.serve.run import _config
from endcap.serve.service import ServerSettings, Service, read_keys
from endcap.serve.serving import Loaded, Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import check_surfaces, read_surfaces
from endcap.shop import Shop

from .small import publish
from .test_app import Client, problem_of

JSON = {"content-type": "application/json"}
TRAVERSALS = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd",
    "..\\..\\etc\\passwd",
    "file:///etc/passwd",
    "manifest.json",
]


def replaced(settings: ServerSettings, **values: Any) -> ServerSettings:
    return msgspec.structs.replace(settings, **values)


# -- no path from a request to a file ----------------------------------------------------------------------------------


OPENINGS: list[list[str]] = []


@pytest.fixture
def opened_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this process opens from here on, as Python's audit events say."""
    opened: list[str] = []
    OPENINGS.append(opened)
    yield opened
    OPENINGS.remove(opened)


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir", "sqlite3.connect"):
        for opened in OPENINGS:
            opened.append(str(arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def _listening() -> None:
    sys.addaudithook(_listen)


def test_the_watch_over_files_sees_one(opened_files: list[str], tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("x")
    assert str(tmp_path / "seen") in opened_files


@pytest.mark.parametrize("text", [*TRAVERSALS, "a\0b"])
def test_no_text_of_a_request_is_opened(client: Client, text: str, opened_files: list[str]) -> None:
    paths = [f"/{text}", f"/v1/{text}", f"/schema/{text}", f"/v1/items/{text}/related", f"/v1/admin/{text}"]
    for path in paths:
        with suppress(httpx.InvalidURL):  # the client refuses some of these by itself
            assert client.get(path).status_code in (200, 400, 404, 405)
    for name in ("surface", "user", "want", "seen_as", "category", "brand", "seller"):
        assert client.get("/v1/items/i0/related", params={name: text}).status_code in (200, 400)
    for body in (
        *({name: text} for name in ("user", "item", "surface", "want", "seen_as")),
        {"basket": [text]},
        {"actions": [{"item": text, "interaction": text}]},
        {"filters": {"category": [text]}},
    ):
        assert client.post("/v1/recommend", json=body).status_code in (200, 400)
    event = {"user": text, "item": text, "interaction": "click", "surface": text, "domain": text, "session": text}
    assert client.post("/v1/events", json=event).status_code in (200, 400)
    item = {"item": text, "title": text, "category": text, "pinned": [text], "never_together": [text]}
    assert client.put("/v1/items", json=item).status_code in (200, 400)
    named = [path for path in opened_files if "passwd" in path or path == text]
    assert not named


def test_a_surface_of_a_request_is_looked_up_and_never_opened(client: Client) -> None:
    document = problem_of(client.post("/v1/recommend", json={"surface": "../../etc/passwd"}), 400)
    assert "unknown surface" in document["detail"]


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "..", ".", "", ".hidden", "a\0b", "a\nb", "%2e%2e"])
def test_names_that_become_folders(name: str, releases: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        check_name(name)
    with pytest.raises(InputError):
        verify_release(releases, name)
    with pytest.raises(InputError, match="no release"):
        activate(releases, name)
    (tmp_path / "surfaces.toml").write_text(f"[[surface.test.sources]]\nmodel = {json.dumps(name)}\n")
    surfaces = read_surfaces(tmp_path / "surfaces.toml")
    interactions = Service(ServerSettings(releases=str(releases), state=str(tmp_path / "s.db")))
    try:
        with pytest.raises(InputError, match="no model"):
            check_surfaces(surfaces, ["co-occurrence"], interactions.switch.current.release.interactions)
    finally:
        interactions.close()


def test_a_release_outside_the_shelf_cannot_be_activated(releases: Path, tmp_path: Path) -> None:
    name = live(releases)
    (tmp_path / "elsewhere").mkdir()
    (releases / name).rename(tmp_path / "elsewhere" / name)
    for given in (f"../elsewhere/{name}", str(tmp_path / "elsewhere" / name)):
        with pytest.raises(InputError, match="no release"):
            activate(releases, given)


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_keys(settings: ServerSettings, tmp_path: Path) -> ServerSettings:
    (tmp_path / "keys").write_text("old-key-5d1c\n\n new-key-77ab \n")
    (tmp_path / "keys").chmod(0o600)
    return replaced(settings, api_key_file=str(tmp_path / "keys"))


def test_several_keys_pass_so_that_they_can_be_changed_one_after_the_other(two_keys: ServerSettings) -> None:
    with TestClient(create_app(two_keys)) as client:
        for key in ("old-key-5d1c", "new-key-77ab"):
            assert client.get("/v1/surfaces", headers={"x-api-key": key}).status_code == 200
        for key in ("", "old-key-5d1", "old-key-5d1cc", "new-key-77ab\told-key-5d1c", "old-key-5d1c\nnew-key-77ab"):
            problem_of(client.get("/v1/surfaces", headers={"x-api-key": key}), 401)


def test_keys_are_read_again_without_a_restart(two_keys: ServerSettings, caplog: pytest.LogCaptureFixture) -> None:
    file = Path(str(two_keys.api_key_file))
    with TestClient(create_app(two_keys)) as client:

        def ask(key: str, path: str = "/v1/surfaces") -> int:
            return client.request("POST" if "reload" in path else "GET", path, headers={"x-api-key": key}).status_code

        file.write_text("new-key-77ab\nnewest-key-0e21\n")
        assert (ask("old-key-5d1c"), ask("newest-key-0e21")) == (200, 401)
        assert ask("new-key-77ab", "/v1/admin/reload") == 200
        assert (ask("old-key-5d1c"), ask("newest-key-0e21")) == (401, 200)
        file.write_text("")
        assert ask("new-key-77ab", "/v1/admin/reload") == 200
        assert (ask("new-key-77ab"), ask("")) == (200, 401), "an empty file lets nobody in and locks nobody out"
        assert "the keys stay as they were" in caplog.text


def test_the_comparison_tells_neither_length_nor_place(two_keys: ServerSettings, monkeypatch) -> None:
    """Whatever is sent: as many comparisons as there are keys, each of digests of one length, in constant time."""
    service = Service(two_keys)
    try:
        compared: list[tuple[bytes, bytes]] = []

        def compare(sent: bytes, known: bytes) -> bool:
            compared.append((sent, known))
            return sent == known

        monkeypatch.setattr("endcap.serve.service.hmac.compare_digest", compare)
        for key in ("", "x", "old-key-5d1c", "new-key-77ab", "old-key-5d1d", "x" * 100_000, "\udcff"):
            compared.clear()
            assert service.admits(key) is (key in ("old-key-5d1c", "new-key-77ab"))
            assert len(compared) == 2
            assert {len(text) for pair in compared for text in pair} == {32}
            assert not any(b"key" in text for pair in compared for text in pair)
    finally:
        service.close()


def test_keys_are_in_no_answer_and_in_no_log(two_keys: ServerSettings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), TestClient(create_app(two_keys)) as client:
        said = [
            client.get(path, headers={"x-api-key": key}).text
            for path in ("/metrics", "/schema", "/schema/openapi.json", "/readyz", "/", "/v1/surfaces", "/v1/none")
            for key in ("old-key-5d1c", "wrong-key-9999")
        ]
    for text in (*said, caplog.text):
        assert not re.search("key-5d1c|key-77ab|key-9999", text)


def test_a_key_file_that_everybody_can_read_is_spoken_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "key").write_text("secret-3f\n")
    for mode, warned in ((0o600, False), (0o640, False), (0o644, True)):
        (tmp_path / "key").chmod(mode)
        caplog.clear()
        assert read_keys(str(tmp_path / "key")) == [b"secret-3f"]
        assert ("can read it" in caplog.text) is warned
        assert "secret-3f" not in caplog.text


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_by_default_no_rate_is_refused(client: Client) -> None:
    """A shop's own servers ask from a few addresses, most when most is sold: a limit is for who knows the callers."""
    assert all(client.get("/v1/surfaces").status_code == 200 for _ in range(300))


def test_a_client_that_asks_too_much_is_told_when_to_come_again(settings: ServerSettings) -> None:
    with TestClient(create_app(replaced(settings, rate=0.01, burst=3))) as client:
        assert [client.get("/v1/surfaces").status_code for _ in range(3)] == [200, 200, 200]
        refused = client.post("/v1/recommend", content=b"{")
        problem_of(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 100


def test_keys_are_limited_by_key_and_wrong_keys_by_address(two_keys: ServerSettings) -> None:
    with TestClient(create_app(replaced(two_keys, rate=0.01, burst=2))) as client:

        def ask(key: str) -> int:
            return client.get("/v1/surfaces", headers={"x-api-key": key}).status_code

        assert [ask("old-key-5d1c") for _ in range(3)] == [200, 200, 429]
        assert [ask("new-key-77ab") for _ in range(3)] == [200, 200, 429], "another key, another bucket"
        assert [ask(f"guess {n}") for n in range(4)] == [401, 401, 429, 429], "made-up keys make no buckets"


def test_a_burst_without_a_rate_is_refused(settings: ServerSettings) -> None:
    with pytest.raises(InputError, match="--rate"):
        create_app(replaced(settings, burst=5))


def test_more_requests_at_once_than_it_takes_are_sent_away(settings: ServerSettings) -> None:
    with TestClient(create_app(replaced(settings, max_in_flight=1))) as client:
        assert client.get("/v1/surfaces").status_code == 200
        client.app.in_flight = 1  # one that takes its time
        refused = client.get("/v1/surfaces")
        problem_of(refused, 503)
        assert refused.headers["retry-after"] == "1"
        assert client.get("/readyz").status_code == 200, "a busy server is not a dead one"
        client.app.in_flight = 0
        assert client.get("/v1/surfaces").status_code == 200


def test_requests_in_flight_are_counted_back_whatever_becomes_of_them(client: Client) -> None:
    for path in ("/v1/surfaces", "/v1/none", "/v1/items/%00/related"):
        client.get(path)
    client.post("/v1/recommend", content=b"{")
    assert client.app.in_flight == 0


def test_an_address_that_is_too_long_is_refused(client: Client) -> None:
    problem_of(client.get("/v1/items/i0/related?user=" + "u" * MAX_URL), 414)
    problem_of(client.get("/" + "a/" * (MAX_URL // 2)), 414)


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_a_body_that_is_nested_deeply_is_refused(client: Client, depth: int) -> None:
    for path in ("/v1/recommend", "/v1/events"):
        for opening in (b"[", b'{"filters":'):
            problem_of(client.post(path, content=opening * depth, headers=JSON), 400)


def test_made_up_methods_do_not_fill_the_figures(client: Client) -> None:
    for number in range(50):
        assert client.request(f"METHOD{number}", "/v1/surfaces").status_code in (404, 405)
    text = client.get("/metrics").text
    assert "METHOD" not in text
    assert 'method="OTHER"' in text


# -- connections -------------------------------------------------------------------------------------------------------


@contextmanager
def listening(settings: ServerSettings) -> Iterator[tuple[str, int]]:
    """The application behind a real socket, as `endcap serve` sets it up: its address."""
    server = uvicorn.Server(_config(create_app(settings), settings))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        thread = threading.Thread(target=server.run, args=([taken],), daemon=True)
        thread.start()
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.005)
        assert server.started
        try:
            yield taken.getsockname()
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def said_to(address: tuple[str, int], *pieces: bytes, pause: float = 0.0) -> bytes:
    """All that a server answers to these bytes until it closes; that it does not is a TimeoutError."""
    with socket.create_connection(address, timeout=10) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while received := connection.recv(65_536):
                answer += received
        except ConnectionError:  # it closes while there is more to come: what it said before may be lost
            pass
        return answer


def problem_said(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    document: dict[str, Any] = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % document["status"])
    return document


def test_a_request_that_trickles_in_is_cut_off(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "READ_WITHIN_S", 0.5)
    with listening(settings) as address:
        head = b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\n"
        assert problem_said(said_to(address, head))["status"] == 408
        assert problem_said(said_to(address, head + b"content-length: 100\r\n\r\n{"))["status"] == 408
        assert said_to(address, b"") == b"", "who says nothing at all is told nothing"
        late = said_to(address, head + b"content-length: 2\r\nconnection: close\r\n\r\n", b"{}", pause=0.02)
        assert late.startswith(b"HTTP/1.1 200 "), "in two pieces is in time"
        began = time.monotonic()
        said_to(address, head, *[b"a: b\r\n"] * 400, pause=0.02)
        assert time.monotonic() - began < 6, "a byte now and then does not put it off"


def test_a_connection_that_waits_for_its_next_question_is_not_answered_without_one(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "READ_WITHIN_S", 0.5)
    with listening(settings) as address:
        ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        last = ask.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        for pause, asked in ((0.8, [ask, last]), (0.0, [ask + last]), (0.02, [ask, last[:9], last[9:]])):
            answer = said_to(address, *asked, pause=pause)
            assert answer.count(b"HTTP/1.1 200") == answer.count(b"HTTP/1.1") == 2


def test_what_is_not_a_request_gets_a_problem_document(settings: ServerSettings) -> None:
    head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    with listening(settings) as address:
        assert problem_said(said_to(address, b"nonsense\r\n\r\n"))["status"] == 400
        assert problem_said(said_to(address, head + b"a: " + b"v" * 20_000))["status"] == 400
        many = b"".join(b"h%d: v\r\n" % number for number in range(300))
        assert problem_said(said_to(address, head + many + b"\r\n"))["status"] == 431


def test_more_connections_than_it_holds_are_sent_away(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)
    with listening(settings) as address:
        held = [socket.create_connection(address) for _ in range(2)]
        time.sleep(0.05)
        assert problem_said(said_to(address, b""))["status"] == 503
        for connection in held:
            connection.close()
        time.sleep(0.05)
        answer = said_to(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("trusted", "limited"), [(None, True), ("10.1.1.1", True), ("127.0.0.1", False)])
def test_forwarded_for_is_believed_of_named_proxies_only(
    settings: ServerSettings, trusted: str | None, limited: bool
) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.%d\r\nconnection: close\r\n\r\n"
    with listening(replaced(settings, rate=0.01, burst=1, trusted_proxies=trusted)) as address:
        statuses = [said_to(address, ask % number).split(b" ")[1] for number in range(3)]
    assert statuses == ([b"200", b"429", b"429"] if limited else [b"200"] * 3)


# -- what is written down ----------------------------------------------------------------------------------------------

SECRETS = ("user-7f3a", "item-7f3a", "query-7f3a", "session-7f3a", "order-7f3a", "event-7f3a", "path-7f3a", "body-7f3a")


class Failing:
    """A model that quotes what it was asked in its error."""

    def candidates(self, request: Any) -> Any:
        try:
            {}["item-7f3a"]
        except KeyError as error:
            raise ValueError("user-7f3a asked with query-7f3a\nERROR forged line") from error


def misbehave(address: tuple[str, int]) -> None:
    """Requests of every kind, good and bad, with texts that are found again wherever they end up."""

    def send(method: str, path: str, body: Any = None) -> bytes:
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: path-7f3a\r\ncontent-length: {len(content)}\r\n"
        return said_to(address, head.encode() + b"x-api-key: body-7f3a\r\nconnection: close\r\n\r\n" + content)

    send("GET", "/v1/items/item-7f3a/related?user=user-7f3a")
    send("GET", "/v1/items/item-7f3a%0aERROR%20forged/related?user=user-7f3a%0a")
    send("GET", "/v1/items/item-7f3a%0dERROR%20forged/related?surface=fails")
    send("GET", "/path-7f3a/%0a%0dERROR")
    send("DELETE", "/v1/items/item-7f3a/related")
    send("PATH-7f3a", "/v1/items")
    send("POST", "/v1/recommend", {"user": "user-7f3a", "item": "i1", "seen_as": "query-7f3a"})
    send("POST", "/v1/recommend", {"user": "user-7f3a", "actions": [{"item": "i1"}]})
    send("POST", "/v1/recommend", b'{"body-7f3a": ')
    event = {"user": "user-7f3a", "item": "item-7f3a", "interaction": "click", "event_id": "event-7f3a"}
    event |= {"session": "session-7f3a", "order": "order-7f3a"}
    send("POST", "/v1/events", event)
    send("POST", "/v1/events", {"user": "user-7f3a", "interaction": "search", "query": "query-7f3a"})
    send("POST", "/v1/events", event | {"interaction": "body-7f3a"})
    send("PUT", "/v1/items", {"item": "item-7f3a", "title": "body-7f3a"})
    send("PUT", "/v1/items", {"item": "item-7f3a", "price": "body-7f3a"})
    said_to(address, b"body-7f3a nonsense\r\n\r\n")
    said_to(address, b"GET /path-7f3a HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade, close\r\n\r\n")


def test_no_log_line_holds_what_people_send(
    settings: ServerSettings, caplog: pytest.LogCaptureFixture, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Serving.open.__func__

    def with_a_failing_model(cls: type[Serving], *arguments: Any) -> Serving:
        serving = opening(cls, *arguments)
        serving.models["co-occurrence"] = Loaded(Failing(), 60)
        return serving

    monkeypatch.setattr(Serving, "open", classmethod(with_a_failing_model))
    monkeypatch.setattr(Serving, "_warm", lambda self: None)
    real = Service.record

    def failing_sometimes(self: Service, events: Any) -> Any:
        if any(event.interaction == "search" for event in events):
            raise RuntimeError(f"cannot record {events}")
        if any(event.order for event in events):
            raise EndcapError("the disk\nis full")
        return real(self, events)

    answer = Service.answer

    def failing_on_a_surface(self: Service, question: Any) -> Any:
        if question.surface == "fails":
            raise EndcapError("no answer") from RuntimeError(f"no answer to {question}")
        return answer(self, question)

    monkeypatch.setattr(Service, "record", failing_sometimes)
    monkeypatch.setattr(Service, "answer", failing_on_a_surface)
    with caplog.at_level(logging.INFO), listening(settings) as address:
        misbehave(address)
    shown = capfd.readouterr()
    written = caplog.text + shown.out + shown.err
    assert "GET /v1/items/{item}/related: no answer" in re.sub(r"\{item:str\}", "{item}", written)
    for expected in ("model co-occurrence of release", "POST /v1/events failed: RuntimeError at", "the disk is full"):
        assert expected in written
    assert "Invalid HTTP request" in written
    assert not [secret for secret in SECRETS if secret.lower() in written.lower()]
    assert "forged" not in written
    for record in caplog.records:
        assert "\n" not in record.getMessage()


# -- the page and the description --------------------------------------------------------------------------------------


def test_every_answer_carries_its_protection(client: Client) -> None:
    answers = [client.get(path) for path in ("/", "/v1/surfaces", "/v1/none", "/schema", "/metrics", "/readyz")]
    answers += [client.post("/v1/recommend", content=b"{"), client.get("/" + "a" * MAX_URL)]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers.get_list("content-security-policy") == [answer.headers["content-security-policy"]]
    assert client.get("/v1/surfaces").headers["cache-control"] == "no-store"


def test_the_page_may_run_its_own_script_and_no_other(client: Client) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    for tag in (b"style", b"script"):
        (text,) = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), PAGE, re.DOTALL)
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" in policy
    assert not re.search(rb"\son\w+=|\sstyle=|javascript:", PAGE), "the policy would stop it"


@pytest.mark.parametrize("path", ["/", "/schema", "/schema/openapi.json"])
def test_nothing_asks_for_a_foreign_host(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert not re.search(r"""(src|href|action)\s*=|@import|url\(|https?://(?!www\.w3\.org)""", answer.text)
    assert not re.search(r"//[a-z0-9-]+\.[a-z]{2,}", answer.text)


@pytest.mark.parametrize("viewer", ["redoc", "swagger", "elements", "rapidoc", "scalar", "openapi.yaml"])
def test_no_viewer_is_served(client: Client, viewer: str) -> None:
    assert client.get(f"/schema/{viewer}").status_code == 404


# -- who is forgotten --------------------------------------------------------------------------------------------------


def test_a_running_server_stops_using_what_it_knows_of_somebody_forgotten(client: Client, settings) -> None:
    def reasons(user: str) -> str:
        answer = client.post("/v1/recommend", json={"user": user}).json()
        return json.dumps([answer.get("notes"), [row["reasons"] for row in answer["items"]]])

    client.post("/v1/events", json={"user": "u3", "item": "i7", "interaction": "click"})
    assert "because you" in reasons("u3")
    with LiveState(settings.state) as other_process:
        assert other_process.forget("u3", below=40) == 1
        other_process.scrub()
    assert "because you" not in reasons("u3")
    assert "user 'u3' is unknown" in reasons("u3")
    assert "because you" in reasons("u4"), "others are not touched"
    client.post("/v1/events", json={"user": "u3", "item": "i8", "interaction": "click"})
    assert "because you clicked Thing 8" in reasons("u3"), "what they do from now on is a new person's"
    bought = {row["item"] for row in client.post("/v1/recommend", json={"user": "u3", "k": 60}).json()["items"]}
    assert len(bought) > 50, "not even what they bought is held against them"


def test_a_release_that_was_removed_answers_until_the_switch_and_is_let_go_of_then(
    releases: Path, small_shop: Shop, tmp_path: Path
) -> None:
    """Forgetting removes releases at once, and a server looks for a new one only now and then."""
    settings = ServerSettings(releases=str(releases), state=str(tmp_path / "state.db"), poll_s=3600)
    first = live(releases)
    with TestClient(create_app(settings)) as client:
        second = publish(releases, small_shop)
        remove(releases, [first])
        assert [info.name for info in list_releases(releases)] == [second]
        for body in (
            {"user": "u1"},
            {"item": "i3"},
            {"item": "i3", "filters": {"brand": ["b1"]}},
            {"basket": ["i1", "i2"]},
            {"item": "nothing"},
            {"item": "i19", "k": 60},
        ):
            given = client.post("/v1/recommend", json=body).json()
            assert given["release"] == first
            assert given["items"]
        assert client.post("/v1/admin/reload").json()["release"] == second
        switch = client.app.state.service.switch
        assert switch.previous is not None
        client.post("/v1/admin/reload")
        assert switch.previous is None
    with pytest.raises(InputError, match="is live"):
        remove(releases, [second])


def test_the_threat_model_names_tests_that_exist() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "security.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"`([A-Z])`(?: is)?\s+\[(tests/\S+?)\]", text))
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    found = re.findall(r"`([A-Z])` ([a-z_0-9]+(?:, [a-z_0-9]+)*)", table)
    named = [(letter, name) for letter, names in found for name in names.split(", ")]
    assert len(files) == 3
    assert len(named) > 20
    for letter, name in named:
        assert f"def test_{name}(" in (root / files[letter]).read_text(encoding="utf-8"), (letter, name)
