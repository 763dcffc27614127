"""The little shop, published and served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.testing import TestClient

from endcap.serve.app import Server, create_app
from endcap.serve.service import ServerSettings
from endcap.serve.serving import Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import DEFAULT_SURFACES
from endcap.shop import Shop

from .small import make_shop, publish


@pytest.fixture(scope="session")
def small_shop() -> Shop:
    return make_shop()


@pytest.fixture(scope="session")
def release_folder(tmp_path_factory: pytest.TempPathFactory, small_shop: Shop) -> Path:
    """One release folder. Only for reading."""
    to = tmp_path_factory.mktemp("published") / "releases"
    return to / publish(to, small_shop)


@pytest.fixture
def serving(release_folder: Path) -> Serving:
    return Serving.open(release_folder, DEFAULT_SURFACES)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[LiveState]:
    with LiveState(tmp_path / "state.db") as state:
        yield state


@pytest.fixture
def releases(tmp_path: Path, small_shop: Shop) -> Path:
    """A folder of releases with one live; a test may do what it likes with it."""
    publish(tmp_path / "releases", small_shop)
    return tmp_path / "releases"


@pytest.fixture
def settings(release_folder: Path, tmp_path: Path) -> ServerSettings:
    return ServerSettings(releases=str(release_folder.parent), state=str(tmp_path / "state.db"))


@pytest.fixture
def client(settings: ServerSettings) -> Iterator[TestClient[Server]]:
    with TestClient(create_app(settings)) as client:
        yield client
