"""What systems declare for a tuning: settings that they have, values that they take."""

from __future__ import annotations

import msgspec
import pytest

from endcap import models
from endcap.models.search_space import OneOf, Range

TUNABLE = sorted(name for name in models.SYSTEMS if models.create(name).search_space)


def test_most_systems_can_be_tuned() -> None:
    assert set(models.SYSTEMS) - set(TUNABLE) == {"popularity"}


@pytest.mark.parametrize("system", TUNABLE)
def test_a_space_names_settings_and_lies_within_their_bounds(system: str) -> None:
    start = models.create(system)
    for name, where in start.search_space.items():
        default = msgspec.to_builtins(start.config)[name]  # a KeyError names a setting that does not exist
        for end in where.ends:
            assert getattr(models.create(system, {name: end}).config, name) == end
            assert isinstance(end, type(default)), f"{name}: {end!r} is no {type(default).__name__}"


@pytest.mark.parametrize("system", TUNABLE)
def test_the_default_lies_in_its_range_or_is_chosen_by_the_model(system: str) -> None:
    start = models.create(system)
    for name, where in start.search_space.items():
        default = msgspec.to_builtins(start.config)[name]
        assert where.holds(default) or default == "auto", f"{name}={default} is not in {where}"


def test_a_range_holds_both_ends_and_what_lies_between() -> None:
    whole, share = Range(1, 4), Range(0.5, 2.0, log=True)
    assert whole.is_whole
    assert not share.is_whole
    assert whole.holds(1)
    assert whole.holds(4)
    assert not whole.holds(5)
    assert not share.holds("auto")
    assert (str(whole), str(share)) == ("1 to 4", "0.5 to 2 (log)")


def test_one_of_holds_its_values() -> None:
    assert OneOf("a", "b").holds("b")
    assert not OneOf("a", "b").holds("auto")
    assert str(OneOf(True, False)) == "true | false"
    assert OneOf(1, 2).ends == (1, 2)
