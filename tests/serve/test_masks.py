"""Masks that are kept up with the catalogue allow what masks made anew do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endcap.release import Release
from endcap.serve.catalogue import LiveCatalogue
from endcap.serve.events import ItemUpdate
from endcap.serve.masks import Masks
from endcap.serve.rules import NO_RULES, Rules
from endcap.serve.state import LiveState

from .small import N_ITEMS

SOME_RULES = (
    NO_RULES,
    Rules(in_stock=False),
    Rules(category=("shop/c1", "shop/new"), not_brand=("b2",)),
    Rules(category=("shop",), min_price=10, max_price=40.5),
    Rules(brand=("b1", "b9"), seller=("s1", "s2", "nobody")),
    Rules(not_category=("shop/c3",), min_margin=0.3),
    Rules(items=("i1", "i7", "i19", "new-1"), not_items=("i7",)),
)
CHANGES = {
    "in_stock": st.sampled_from([True, False, None]),
    "suppressed": st.booleans(),
    "price": st.sampled_from([1.0, 20.0, 40.5, None]),
    "margin": st.sampled_from([0.0, 0.9, None]),
    "category": st.sampled_from(["shop/c1", "shop/new", "elsewhere", None]),
    "brand": st.sampled_from(["b1", "b9", None]),
    "seller": st.sampled_from(["s1", "nobody", None]),
}
UPDATES = st.builds(
    lambda item, change: ItemUpdate(item=item, **change),
    st.sampled_from([*(f"i{number}" for number in range(0, N_ITEMS, 6)), "i1", "i7", "i19", "new-1", "new-2"]),
    st.fixed_dictionaries({}, optional=CHANGES),
)


def catalogue_of(folder: Path) -> LiveCatalogue:
    release = Release.open(folder, verify=False)
    return LiveCatalogue(release.items, release.catalogue)


def allowed_by(masks: Masks, catalogue: LiveCatalogue, surface: Rules, filters: Rules) -> set[str]:
    """By id: new items are numbered as they come."""
    mask = masks.allowed(surface, filters)
    assert mask is None or len(mask) == len(catalogue)
    return {catalogue.id(item) for item in range(len(catalogue)) if mask is None or mask[item]}


@given(st.lists(st.lists(UPDATES, min_size=1, max_size=4, unique_by=lambda update: update.item), max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mask_that_is_kept_up_is_a_mask_made_anew(release_folder: Path, tmp_path: Path, batches) -> None:
    (tmp_path / "state.db").unlink(missing_ok=True)
    with LiveState(tmp_path / "state.db") as state:
        old = catalogue_of(release_folder)
        kept = Masks(old)
        for batch in [[], *batches]:
            state.update_items(batch).result()
            new = catalogue_of(release_folder)
            for catalogue in (old, new):
                catalogue.catch_up(state)
            for surface in SOME_RULES[:3]:
                for filters in SOME_RULES:
                    anew = allowed_by(Masks(new), new, surface, filters)
                    assert allowed_by(kept, old, surface, filters) == anew
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"state.db{suffix}").unlink(missing_ok=True)


def test_a_change_that_does_not_matter_leaves_the_mask_as_it_is(release_folder: Path, state: LiveState) -> None:
    """What an index has worked out for it stays true."""
    catalogue = catalogue_of(release_folder)
    masks, cheap = Masks(catalogue), Rules(max_price=30)
    before = masks.allowed(NO_RULES, cheap)
    state.update_items([ItemUpdate(item="i5", title="new title", price=6.0)]).result()
    catalogue.catch_up(state)
    assert masks.allowed(NO_RULES, cheap) is before
    state.update_items([ItemUpdate(item="i5", price=60.0)]).result()
    catalogue.catch_up(state)
    after = masks.allowed(NO_RULES, cheap)
    assert after is not before
    assert before is not None
    assert before[5], "who holds the old one still sees what it was"


def test_nobody_can_write_a_mask(release_folder: Path) -> None:
    mask = Masks(catalogue_of(release_folder)).allowed(NO_RULES, Rules(brand=("b1",)))
    assert mask is not None
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = True


def test_what_was_asked_for_last_is_remembered(release_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.serve.masks.MAX_REMEMBERED", 3)
    masks = Masks(catalogue_of(release_folder))
    rules = [Rules(max_price=price) for price in range(4)]
    first = masks.allowed(NO_RULES, rules[0])
    masks.allowed(NO_RULES, rules[1])
    masks.allowed(NO_RULES, rules[2])
    assert masks.allowed(NO_RULES, rules[0]) is first
    masks.allowed(NO_RULES, rules[3])
    assert len(masks) == 3
    assert masks.allowed(NO_RULES, rules[0]) is first


@pytest.mark.parametrize("most", [0, 5])
def test_who_is_too_far_behind_begins_anew(
    release_folder: Path, state: LiveState, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("endcap.serve.catalogue.MAX_LOGGED", most)
    catalogue = catalogue_of(release_folder)
    for number in range(8):
        state.update_items([ItemUpdate(item=f"i{number}", suppressed=True)]).result()
        catalogue.catch_up(state)
    assert catalogue.changed_since(0) is None
    assert catalogue.changed_since(catalogue.version - most).tolist() == list(range(8 - most, 8))
