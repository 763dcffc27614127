"""The OpenAPI description of what is read by hand: query parameters and bodies, straight from their structs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, Parameter, RequestBody, Schema

from endcap.serve.problems import Problem

PROBLEM = "application/problem+json"
REFUSALS = {
    400: ResponseSpec(Problem, False, "Wrong input", PROBLEM),
    401: ResponseSpec(Problem, False, "No key, or a wrong one", PROBLEM),
    408: ResponseSpec(Problem, False, "The request did not arrive in time", PROBLEM),
    413: ResponseSpec(Problem, False, "The body is too large", PROBLEM),
    414: ResponseSpec(Problem, False, "The address is too long", PROBLEM),
    431: ResponseSpec(Problem, False, "Too many headers", PROBLEM),
    429: ResponseSpec(Problem, False, "Too many requests; `retry-after` says when", PROBLEM),
    503: ResponseSpec(Problem, False, "Not now; `retry-after` says when", PROBLEM),
}

QUESTIONS = {
    "for a known user": {"user": "u1", "k": 5},
    "for somebody unknown, by what they did just now": {
        "actions": [{"item": "i1"}, {"item": "i2", "interaction": "cart"}],
        "want": "cart",
    },
    "for a cart, with filters": {
        "basket": ["i1", "i2"],
        "surface": "cart-page",
        "filters": {"max_price": 50, "max_per_brand": 2},
    },
}
BASKETS = {
    "what goes with a basket": {"basket": ["i1", "i2"], "k": 5},
    "with what scores are made of, and the rivals that were met": {
        "basket": ["i1"],
        "user": "u1",
        "filters": {"max_price": 50, "max_per_category": 2},
        "parts": True,
        "left_out": True,
    },
}
EVENTS = {
    "one": {"user": "u1", "item": "i1", "interaction": "click"},
    "a batch": [
        {"user": "u1", "item": "i1", "interaction": "cart", "event_id": "e-1", "time": "2026-11-21T10:00:00Z"},
        {"user": "u1", "interaction": "search", "query": "tripod"},
    ],
}
ITEMS = {
    "out of stock": [{"item": "i1", "in_stock": False}],
    "a new item": {"item": "new", "title": "Tripod", "category": "photo/tripods", "price": 49},
}


class Described(Schema):
    """A JSON schema as it stands."""

    def __init__(self, described: dict[str, Any]) -> None:
        super().__init__()
        self._described = described

    def to_schema(self) -> dict[str, Any]:
        return self._described


def with_query(kind: type[msgspec.Struct]) -> type[Operation]:
    """An operation that also takes a struct's fields as query parameters."""
    properties = _schema(kind)["properties"]
    parameters = [Parameter(name, "query", schema=Described(_without_null(it))) for name, it in properties.items()]

    @dataclass
    class WithQuery(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or []), *parameters]

    return WithQuery


def with_body(kind: Any, examples: Mapping[str, Any]) -> type[Operation]:
    """An operation that takes a JSON body of a type."""
    shown: dict[str, Any] = {name: Example(summary=name, value=value) for name, value in examples.items()}
    body = RequestBody({"application/json": OpenAPIMediaType(Described(_schema(kind)), examples=shown)}, required=True)

    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = body

    return WithBody


def _schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type, whole: none of ours refers to itself."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="{name}")

    def whole(part: Any) -> Any:
        if isinstance(part, dict):
            return whole(parts[part["$ref"]]) if "$ref" in part else {key: whole(value) for key, value in part.items()}
        return [whole(value) for value in part] if isinstance(part, list) else part

    found: dict[str, Any] = whole(schema)
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null, only parameters that are left out."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    plain = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return plain | (kinds[0] if kinds else {})
