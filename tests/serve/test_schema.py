"""Whatever the OpenAPI description allows, and much that it does not, gets an answer that the description foresees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from endcap.serve.app import Server, create_app
from endcap.serve.service import ServerSettings


@pytest.fixture(scope="module")
def app(release_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("schema") / "state.db"
    app = create_app(ServerSettings(releases=str(release_folder.parent), state=str(state)))
    yield app
    app.state.service.close()


OPERATIONS = [
    ("/v1/items/{item}/related", "GET"),
    ("/v1/items/{item}/cross-sell", "GET"),
    ("/v1/cross-sell", "POST"),
    ("/v1/recommend", "POST"),
    ("/v1/events", "POST"),
    ("/v1/items", "PUT"),
    ("/v1/surfaces", "GET"),
    ("/v1/admin/reload", "POST"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
    ("/metrics", "GET"),
]


@pytest.fixture(scope="module")
def description(app: Server) -> Any:
    async def running_already(scope: Any, receive: Any, send: Any) -> None:
        """Schemathesis starts and stops an application for every call; a stopped one is rightly closed."""
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
        else:
            await app(scope, receive, send)

    return schemathesis.openapi.from_asgi("/schema/openapi.json", running_already)


def ask(description: Any, path: str, method: str, mode: GenerationMode, examples: int) -> None:
    """Make up requests for one operation, valid or not by its description, and look at the answers."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=description[path][method].as_strategy(generation_mode=mode))
    def try_out(case: Any) -> None:
        response = case.call()
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        if response.status_code >= 400:
            assert response.headers["content-type"] == ["application/problem+json"]

    try:
        try_out()
    except Unsatisfiable:  # there is no way to ask this wrongly
        assert mode is GenerationMode.NEGATIVE


def test_all_operations_are_tried(description: Any) -> None:
    found = {(result.ok().path, result.ok().method.upper()) for result in description.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS[:6])
def test_no_server_error(description: Any, path: str, method: str, mode: GenerationMode) -> None:
    ask(description, path, method, mode, 5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_server_error_at_length(description: Any, path: str, method: str, mode: GenerationMode) -> None:
    ask(description, path, method, mode, 300)
