"""The HTTP API: routes over `Service`, problem documents for whatever is wrong, OpenAPI with examples."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec
from litestar import Litestar, Request, Response, Router, get, post, put
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import Parameter
from litestar.types import Message, Scope
from msgspec import Meta

import endcap
from endcap.errors import InputError
from endcap.serve.description import BASKETS, EVENTS, ITEMS, QUESTIONS, REFUSALS, with_body, with_query
from endcap.serve.events import Event, ItemUpdate
from endcap.serve.limits import client_of
from endcap.serve.pauses import leave_alone, shorten_pauses
from endcap.serve.problems import HANDLERS, Refusal, method_of, refuse, route_of
from endcap.serve.queries import CrossSellQuery, RelatedQuery, read_query
from endcap.serve.questions import Answer, BasketQuestion, Question
from endcap.serve.service import ServerSettings, Service
from endcap.serve.telemetry import Telemetry

MAX_BODY = 2_000_000  # bytes
MAX_URL = 8_000  # bytes
MAX_HEADERS = 100
MAX_BATCH = 1000
KEY_HEADER = "x-api-key"
SETTINGS_VARIABLE = "ENDCAP_SERVE_SETTINGS"
FOR_WATCHERS = frozenset({"/healthz", "/readyz", "/metrics"})
ABOUT_AN_ITEM = (b"/related", b"/cross-sell")  # what a path may end with after an item's id

T = TypeVar("T")

Asked = Request[Any, Any, State]
EventBatch = Annotated[list[Event], Meta(min_length=1, max_length=MAX_BATCH)]
ItemBatch = Annotated[list[ItemUpdate], Meta(min_length=1, max_length=MAX_BATCH)]


class Recorded(msgspec.Struct, frozen=True):
    """Events that are safe on the disk. An event whose id was there already is a duplicate and changes nothing."""

    recorded: int
    duplicates: int
    event_ids: list[str]


class Updated(msgspec.Struct, frozen=True):
    """Changes of items that are safe on the disk and count from the next answer on."""

    updated: int


class Reloaded(msgspec.Struct, frozen=True):
    """What is served after looking for a new release."""

    release: str
    changed: bool
    refused: str | None = None


_QUESTION = msgspec.json.Decoder(Question)
_BASKET = msgspec.json.Decoder(BasketQuestion)
_EVENTS = msgspec.json.Decoder(Event | EventBatch)
_ITEMS = msgspec.json.Decoder(ItemUpdate | ItemBatch)


@get("/items/{item:str}/related", operation_class=with_query(RelatedQuery), responses=REFUSALS, tags=["lists"])
async def related(
    request: Asked, item: Annotated[str, Parameter(description="the item's id, percent-encoded")]
) -> Answer:
    """Because somebody saw this item, they may want those.

    An unknown item is no error: the answer falls back to what is popular and says so.
    """
    query = read_query(RelatedQuery, request.query_params.multi_items())
    return _service(request).answer(query.question(unquote(item)))


@get("/items/{item:str}/cross-sell", operation_class=with_query(CrossSellQuery), responses=REFUSALS, tags=["lists"])
async def cross_sell(
    request: Asked, item: Annotated[str, Parameter(description="the item's id, percent-encoded")]
) -> Answer:
    """What goes with this item: never the item itself, nor what would be bought in its place.

    `parts` adds what scores are made of, `reasons` all that is known of why, `left_out` the rivals that were met.
    """
    query = read_query(CrossSellQuery, request.query_params.multi_items())
    return _service(request).answer(query.question(unquote(item)))


@post(
    "/cross-sell", status_code=200, operation_class=with_body(BasketQuestion, BASKETS), responses=REFUSALS,
    tags=["lists"],
)  # fmt: skip
async def cross_sell_basket(request: Asked) -> Answer:
    """What goes with a basket: nothing that lies in it, nor a rival of that.

    Unknown items are passed over and named in the notes; of a long basket the items put in last count.
    """
    return _service(request).answer((await _body(request, _BASKET)).question())


@post("/recommend", status_code=200, operation_class=with_body(Question, QUESTIONS), responses=REFUSALS, tags=["lists"])
async def recommend(request: Asked) -> Answer:
    """A list for a user, for recent actions of somebody unknown, for a basket or about an item."""
    return _service(request).answer(await _body(request, _QUESTION))


@post(
    "/events",
    status_code=200,
    operation_class=with_body(Event | EventBatch, EVENTS),
    responses=REFUSALS,
    tags=["live state"],
)
async def record_events(request: Asked) -> Recorded:
    """Record one event or a batch: all of it or, if one is wrong, none of it.

    The answer comes when the events are safe on the disk, and the next list reflects them.
    """
    service, sent = _service(request), await _body(request, _EVENTS)
    ids, stored = service.record(sent if isinstance(sent, list) else [sent])
    recorded = await asyncio.wrap_future(stored)
    service.telemetry.events.labels("recorded").inc(recorded)
    service.telemetry.events.labels("duplicate").inc(len(ids) - recorded)
    return Recorded(recorded, len(ids) - recorded, ids)


@put("/items", operation_class=with_body(ItemUpdate | ItemBatch, ITEMS), responses=REFUSALS, tags=["live state"])
async def update_items(request: Asked) -> Updated:
    """Change what is known of items, or announce new ones: all of the batch or none of it. Live over the release."""
    sent = await _body(request, _ITEMS)
    return Updated(
        await asyncio.wrap_future(_service(request).update_items(sent if isinstance(sent, list) else [sent]))
    )


@get("/surfaces", responses=REFUSALS, tags=["about"])
async def surfaces(request: Asked) -> dict[str, Any]:
    """What can be asked: surfaces, the live release's models and interactions."""
    current = _service(request).switch.current
    return {
        "release": current.release.name,
        "models": list(current.models),
        "interactions": list(current.release.interactions.names),
        "surfaces": msgspec.to_builtins(current.surfaces),
    }


@post("/admin/reload", status_code=200, responses=REFUSALS, tags=["about"], sync_to_thread=True)
def reload(request: Asked) -> Reloaded:
    """Look for a new release at once, and read the keys again; a refused release gets another chance."""
    service = _service(request)
    changed, switch = service.reload(), service.switch
    return Reloaded(switch.current.release.name, changed, switch.refusal.why if switch.refusal else None)


@get("/healthz", tags=["about"])
async def healthz() -> dict[str, str]:
    """The process is alive."""
    return {"status": "alive"}


@get("/readyz", tags=["about"])
async def readyz(request: Asked) -> dict[str, Any]:
    """A release is loaded: which, how old it is, and whether a newer one was refused."""
    return _service(request).readiness()


@get("/metrics", tags=["about"], media_type="text/plain", sync_to_thread=True)
def metrics(request: Asked) -> Response[bytes]:
    """Figures for Prometheus."""
    return Response(_service(request).metrics(), media_type="text/plain; version=0.0.4")


@get("/", include_in_schema=False)
async def page() -> Response[bytes]:
    """The web page for looking at lists."""
    return Response(PAGE, media_type="text/html")


def _digests(tag: bytes) -> str:
    """What stands inside these tags of the page, as the sources of a content security policy: that and no other."""
    found = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), PAGE, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in found)


PAGE = resources.files("endcap.serve").joinpath("page.html").read_bytes()
PAGE_POLICY = (
    f"default-src 'none'; style-src {_digests(b'style')}; script-src {_digests(b'script')}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ALL_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
PAGE_HEADERS = (*ALL_HEADERS, (b"content-security-policy", PAGE_POLICY.encode()))
ANSWER_HEADERS = (
    *ALL_HEADERS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),  # lists are somebody's
)


class Server(Litestar):
    """Litestar with ids in paths taken from the raw path, requests bounded, and every one of them measured."""

    in_flight = 0  # requests that are being answered now

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        began, status = time.perf_counter(), 500

        async def protected(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = PAGE_HEADERS if scope["path"] == "/" else ANSWER_HEADERS
                message["headers"] = [*message["headers"], *own]
            await send(message)

        self.in_flight += 1
        try:
            if (refusal := self._refusal(scope)) is not None:
                await refuse(protected, refusal)
            else:
                _keep_item_whole(scope)
                await super().__call__(scope, receive, protected)
        finally:
            self.in_flight -= 1
            telemetry: Telemetry = self.state.service.telemetry
            telemetry.answered(method_of(scope), route_of(scope), status, time.perf_counter() - began)

    def _refusal(self, scope: Any) -> Refusal | None:
        """Why a request is not looked at, or None. Who watches over the server is answered however busy it is."""
        service: Service = self.state.service
        if len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > MAX_URL:
            return Refusal(414, f"the address is longer than {MAX_URL:,} bytes; POST /v1/recommend takes more")
        if len(scope["headers"]) > MAX_HEADERS:
            return Refusal(431, f"more than {MAX_HEADERS} headers")
        if service.buckets is not None and (wait := service.buckets.wait(_client(scope, service))):
            return Refusal(429, f"more than {service.buckets.rate:g} requests a second; wait and try again", wait)
        if self.in_flight > service.settings.max_in_flight and scope["path"] not in FOR_WATCHERS:
            return Refusal(503, "this server is busy with as many requests as it takes at once; try again", 1)
        return None


def create_app(settings: ServerSettings) -> Server:
    """The application, with the live release opened and verified.

    Raises:
        InputError: if no release is live, or the surfaces do not fit it; DamagedArtefact: if it was changed.
    """
    service = Service(settings)
    api = Router(
        "/v1",
        route_handlers=[
            related,
            cross_sell,
            cross_sell_basket,
            recommend,
            record_events,
            update_items,
            surfaces,
            reload,
        ],
        guards=[_check_key] if service.needs_key else None,
        security=[{"key": []}] if service.needs_key else None,
    )
    return Server(
        [api, healthz, readyz, metrics, page],
        state=State({"service": service}),
        lifespan=[_running],
        exception_handlers=HANDLERS,
        request_max_body_size=MAX_BODY,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="endcap",
            version=endcap.__version__,
            description="Recommendations of a shop, live.",
            render_plugins=[JsonRenderPlugin(path=("/", "/openapi.json"))],  # the viewers load scripts from elsewhere
            use_handler_docstrings=True,
            components=Components(
                security_schemes={"key": SecurityScheme(type="apiKey", name=KEY_HEADER, security_scheme_in="header")}
            ),
        ),
    )


def from_environment() -> Server:
    """The application of one worker among several, which find their settings in the environment."""
    shorten_pauses()
    app = create_app(msgspec.json.decode(os.environ[SETTINGS_VARIABLE], type=ServerSettings))
    leave_alone()
    return app


@asynccontextmanager
async def _running(app: Litestar) -> AsyncIterator[None]:
    """From start to stop: the watch for new releases, SIGHUP, and at the end the state's last writes."""
    service: Service = app.state.service
    service.start()
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, service.reload))
    try:
        yield
    finally:
        await asyncio.get_running_loop().run_in_executor(None, service.close)


async def _body(request: Asked, decoder: msgspec.json.Decoder[T]) -> T:
    """The body, decoded once and strictly.

    Raises:
        InputError: saying where it is wrong.
    """
    try:
        return decoder.decode(await request.body())
    except RecursionError:
        raise InputError("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the body is not the JSON that is needed here: {error}") from None


def _service(request: Asked) -> Service:
    service: Service = request.app.state.service
    return service


async def _check_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:  # not in a thread
    service: Service = connection.app.state.service
    if not service.admits(connection.headers.get(KEY_HEADER)):
        raise NotAuthorizedException(
            f"this needs the API key in the header {KEY_HEADER}", headers={"www-authenticate": "ApiKey"}
        )


def _client(scope: Scope, service: Service) -> str:
    """Whom a request counts for: the key that it carries, if that is one, else where it comes from."""
    if service.needs_key:
        sent = next((value for name, value in scope["headers"] if name == KEY_HEADER.encode()), None)
        if sent is not None and (number := service.key_number(sent.decode("latin-1"))) is not None:
            return f"key {number}"
    return client_of(scope["client"])


def _keep_item_whole(scope: Scope) -> None:
    """Route `/v1/items/a%2Fb/related` by its raw path: an id may hold slashes, encoded or not."""
    raw = scope.get("raw_path") or b""
    path, prefix = raw.partition(b"?")[0], b"/v1/items/"
    suffix = next((suffix for suffix in ABOUT_AN_ITEM if path.endswith(suffix)), b"")
    if suffix and path.startswith(prefix) and len(path) > len(prefix) + len(suffix):
        item = quote(unquote_to_bytes(path[len(prefix) : -len(suffix)]), safe="")
        scope["path"] = f"/v1/items/{item}{suffix.decode()}"
