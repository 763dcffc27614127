"""Problem documents (RFC 9457): what is wrong, where, and how to mend it, with a status of 4xx."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.types import ExceptionHandlersMap

from endcap.errors import EndcapError, InputError

log = logging.getLogger("endcap.serve")

RETRY_AFTER_S = "1"


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
    document = Problem(HTTPStatus(status).phrase, status, detail, errors=flaws or [])
    content = msgspec.json.encode(msgspec.to_builtins(document) | {"type": document.type})
    return Response(content, status_code=status, media_type="application/problem+json", headers=headers)


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


def _of_work(request: Request[Any, Any, Any], error: EndcapError) -> Response:
    log.error("%s %s: %s", request.method, request.url.path, error)
    return problem(503, "this cannot be done now; try again", headers={"retry-after": RETRY_AFTER_S})


def _of_anything(request: Request[Any, Any, Any], error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(500, "this server made a mistake; its log says more")


HANDLERS: ExceptionHandlersMap = {
    HTTPException: _of_http,
    InputError: _of_input,
    EndcapError: _of_work,
    Exception: _of_anything,
}
