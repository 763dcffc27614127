"""The zygote, started once, and the laboratory over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Bases, Lab, Zygote


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("crash")
    (folder / "bases").mkdir()
    (folder / "runs").mkdir()
    zygote = Zygote()
    try:
        yield Lab(folder / "runs", zygote, Bases(folder / "bases", zygote))
    finally:
        zygote.close()
