"""Any words after `endcap`: done, failed or refused, never a traceback, and what stood on the disk still stands."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints
from unittest import mock

import pytest
import typer
from hypothesis import strategies as st

from endcap import models
from endcap.cli import _add_verbs, app, main
from endcap.release import Release, live
from endcap.shop import Shop

from .places import PATHS, make_places
from .trying import DEPTHS, try_out

_add_verbs()
ROOT = typer.main.get_command(app)
SHELF = ROOT.commands["releases"]
COMMANDS = {
    **{name: command for name, command in ROOT.commands.items() if name not in ("demo", "releases")},
    **{f"releases {name}": command for name, command in SHELF.commands.items()},
}
EXAMPLES = {"doctor": 3, "simulate": 8, "evaluate": 8, "train": 10}

MEANT = """
    popularity als no-such-system u0 i0 i1 nobody click cart any:cart click:cart all 7d 0.1 1s 0s -1 0 1 3 nan inf 1e400
    2020-09-15 9999-12-31 0001-01-01 UTC k=3 k=x als.factors=2 model=counts a=b category=a/1 exact hnsw csv parquet
    next-item purchase-intent leave-one-out by-user keep zero uniform3 popularity2 * , = : -- --help
"""
WORDS = st.sampled_from(MEANT.split()) | st.text(st.characters(exclude_characters="\0"), max_size=5)
NUMBERS = st.sampled_from(["0", "1", "2", "3", "-1", "9" * 30, "nan", "inf", "1.5", "x", ""])
PLACES = st.sampled_from(PATHS)
ANY = WORDS | NUMBERS | PLACES
ALWAYS = {"simulate": ["--events", "50"]}  # else it writes a million
NEVER = {"--tune", "--help", "--events"}  # tests/evaluate/test_tuner.py tunes


@st.composite
def words_for(draw: st.DrawFn, name: str) -> list[str]:
    """Arguments that a command might be given: mostly of the right kind, all in place more often than not."""
    words: list[str] = []
    types = get_type_hints(COMMANDS[name].callback)
    for parameter in COMMANDS[name].params:
        kind = str(types.get(parameter.name))
        if set(parameter.opts) & NEVER or not draw(st.integers(0, 9 if parameter.required else 1)):
            continue
        is_option = parameter.opts[0].startswith("-")
        words += [parameter.opts[0]] if is_option else []
        if "bool" not in kind:
            words.append(draw(fitting(parameter) | (PLACES if "Path" in kind else NUMBERS if "int" in kind else ANY)))
    if not draw(st.integers(0, 5)):
        words.insert(draw(st.integers(0, len(words))), draw(WORDS))
    return words + ALWAYS.get(name, [])


FITTING = {
    **{"shop": "shop", "to": "releases", "releases": "releases", "model": "model", "models": "model", "out": "new"},
    **{"state": "state.db", "from_live": "state.db", "system": "popularity", "item": "i1", "events": "log.csv"},
}


def fitting(parameter: Any) -> st.SearchStrategy[str]:
    """What would be right there, where that is known."""
    known = FITTING.get(parameter.name or "")
    return st.nothing() if known is None else st.just(known)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("places")
    make_places(folder)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def said(words: list[str]) -> tuple[int, str]:
    """Exit code and stderr of `endcap WORDS`."""
    errors = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["endcap", *words]),
        mock.patch("uvicorn.Server.run"),
        mock.patch("endcap.serve.run.Multiprocess"),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as left:
            return (left.code if isinstance(left.code, int) else 1 if left.code else 0), errors.getvalue()
    return 0, errors.getvalue()


@DEPTHS
@pytest.mark.parametrize("name", COMMANDS)
def test_any_words(depth: int, name: str, places: Path) -> None:
    def check(words: list[str]) -> None:
        code, errors = said([*name.split(), *words])
        assert code in (0, 1, 2), (code, words)
        assert "Traceback" not in errors, (words, errors)
        if code == 1 or (code == 2 and "error: " in errors):
            assert errors.rstrip().splitlines()[-1].startswith("error: "), (words, errors)
        assert len(Shop.open("shop").events) > 0
        models.open("model")
        Release.open(Path("releases") / live(Path("releases")))

    try_out(check, words_for(name), examples=EXAMPLES.get(name, 15) * depth)
