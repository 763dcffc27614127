"""Settings: an unknown key is an error, a bad value as well, text is converted."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from endcap.errors import InputError
from endcap.settings import make_settings, read_settings


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    dim: Annotated[int, Meta(ge=1)] = 200
    typed: bool = True
    rate: float = 0.1


def test_text_is_converted_to_the_declared_types():
    assert make_settings(Settings, {"dim": "64", "typed": "false", "rate": "1e-3"}) == Settings(
        dim=64, typed=False, rate=1e-3
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dims": 3}, "did you mean 'dim'"),
        ({"zzz": 3}, "known settings: dim, rate, typed"),
        ({"dim": 0}, ">= 1"),
        ({"dim": "many"}, "int"),
    ],
)
def test_what_is_wrong_is_said(values, said):
    with pytest.raises(InputError, match=said):
        make_settings(Settings, values, where="model")


def test_assignments_win_over_the_file(tmp_path):
    (tmp_path / "c.toml").write_text("dim = 8\nrate = 0.5\n")
    assert read_settings(tmp_path / "c.toml", ["dim=16"]) == {"dim": "16", "rate": 0.5}


@pytest.mark.parametrize(("text", "assignments"), [("dim = ", []), (None, []), ("dim = 1", ["dim"])])
def test_unreadable_settings_are_refused(tmp_path, text, assignments):
    path = tmp_path / "c.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError):
        read_settings(path, assignments)
