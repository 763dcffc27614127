"""How hard a test tries, and what counts as a proper refusal."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from endcap.errors import EndcapError

SEED = os.environ.get("ENDCAP_FUZZ_SEED")
TIMES = int(os.environ.get("ENDCAP_FUZZ_TIMES", "1"))
DEEP = 25  # times as many examples as by default

DEPTHS = pytest.mark.parametrize("depth", [1, pytest.param(DEEP, marks=pytest.mark.slow)], ids=["shallow", "deep"])


def try_out(check: Callable[..., None], *garbage: st.SearchStrategy[Any], examples: int) -> None:
    """Call `check` with made-up arguments, the same ones every time unless ENDCAP_FUZZ_SEED says otherwise."""
    run = given(*garbage)(check)
    run = settings(
        max_examples=examples * TIMES,
        deadline=None,
        database=None,
        derandomize=SEED is None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(run)
    (run if SEED is None else seed(int(SEED))(run))()


def refusal(call: Callable[[], Any]) -> EndcapError | None:
    """What `call` was refused with, None if it went through; any other exception passes on and fails the test."""
    try:
        call()
    except EndcapError as error:
        assert_one_line(str(error))
        return error
    return None


def assert_one_line(message: str) -> None:
    assert message.strip(), "a refusal without a word"
    assert "\n" not in message, f"more than one line: {message!r}"
    assert "Traceback" not in message
    assert len(message) < 20_000
