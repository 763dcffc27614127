"""Problem documents (RFC 9457): what is wrong, where, and how to mend it, with a status of 4xx."""

from __future__ import annotations

import logging
import math
import sqlite3
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.types import ExceptionHandlersMap, Send

from endcap.errors import EndcapError, InputError
from endcap.serve.logs import one_line, where

log = logging.getLogger("endcap.serve")

RETRY_AFTER_S = "1"
MEDIA_TYPE = "application/problem+json"
UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class Flaw(msgspec.Struct, frozen=True):
    """One thing that is wrong with one row of a batch."""

    index: int
    detail: str


class Problem(msgspec.Struct, omit_defaults=True, frozen=True):
    """A problem document. `errors` names the rows of a batch that were refused, by index."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    errors: list[Flaw] = []


class Refusal(NamedTuple):
    """Why a request is not even looked at."""

    status: int
    detail: str
    retry_after_s: float = 0.0


class Refused(InputError):
    """A batch with flaws; nothing of it was taken."""

    def __init__(self, flaws: list[Flaw], n: int) -> None:
        super().__init__(f"{len(flaws)} of {n} rows are wrong and nothing was stored; first, row {flaws[0].index}: "
                         f"{flaws[0].detail}")  # fmt: skip
        self.flaws = flaws


def problem(
    status: int, detail: str, flaws: list[Flaw] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """An answer that carries a problem document."""
    return Response(problem_body(status, detail, flaws), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def problem_body(status: int, detail: str, flaws: list[Flaw] | None = None) -> bytes:
    """A problem document as JSON."""
    document = Problem(HTTPStatus(status).phrase, status, detail, errors=flaws or [])
    return msgspec.json.encode(msgspec.to_builtins(document) | {"type": document.type})


async def refuse(send: Send, refusal: Refusal) -> None:
    """Answer with a problem document before the request reaches a route."""
    body = problem_body(refusal.status, refusal.detail)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if refusal.retry_after_s:
        headers.append((b"retry-after", str(math.ceil(refusal.retry_after_s)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def route_of(scope: Any) -> str:
    """What a request is counted and logged as: the template of its route, never its path."""
    return scope.get("path_template", UNMATCHED)


def method_of(scope: Any) -> str:
    """A method as it is counted and logged: anybody can make up new ones."""
    return scope["method"] if scope["method"] in METHODS else "OTHER"


def _of_http(request: Request[Any, Any, Any], error: HTTPException) -> Response:
    detail = error.detail
    if isinstance(error, NotFoundException):
        detail = f"there is nothing at {request.url.path}; /schema lists what there is"
    elif isinstance(error, MethodNotAllowedException):
        detail = f"{request.method} is not possible here"
    elif isinstance(error, ValidationException) and isinstance(error.extra, list):
        detail = "; ".join(f"{row.get('key', 'body')}: {row.get('message')}" for row in error.extra) or detail
    return problem(error.status_code, detail, headers=error.headers)


def _of_input(request: Request[Any, Any, Any], error: InputError) -> Response:
    return problem(400, str(error), error.flaws if isinstance(error, Refused) else None)


def _of_work(request: Request[Any, Any, Any], error: EndcapError | sqlite3.Error) -> Response:
    log.error("%s %s: %s", method_of(request.scope), route_of(request.scope), one_line(error))
    return problem(503, "this cannot be done now; try again", headers={"retry-after": RETRY_AFTER_S})


def _of_anything(request: Request[Any, Any, Any], error: Exception) -> Response:
    log.error("%s %s failed: %s", method_of(request.scope), route_of(request.scope), where(error))
    return problem(500, "this server made a mistake; its log says more")


HANDLERS: ExceptionHandlersMap = {
    HTTPException: _of_http,
    InputError: _of_input,
    EndcapError: _of_work,
    sqlite3.Error: _of_work,  # the live state cannot be read
    Exception: _of_anything,
}
