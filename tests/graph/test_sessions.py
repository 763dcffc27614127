"""Typed sessions: tokens, repeats, filters, what follows what."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from endcap.graph import typed_sessions
from endcap.shop import Shop

DAY = 86_400


@pytest.fixture
def shop() -> Shop:
    """u0: click a, click a, click b, cart b | a day later: click a, purchase b; u1: click b."""
    rows = [
        ("u0", "a", "click", 10), ("u0", "a", "click", 11), ("u0", "b", "click", 12), ("u0", "b", "cart", 13),
        ("u0", "a", "click", DAY), ("u0", "b", "purchase", DAY + 1), ("u1", "b", "click", 5),
    ]  # fmt: skip
    user, item, interaction, time = zip(*rows, strict=True)
    times = [1_600_000_000 + t for t in time]
    return Shop.from_tables(pa.table({"user": user, "item": item, "interaction": interaction, "time": times}))


def corpus_of(shop: Shop, kinds: int):
    return typed_sessions(shop.positives, shop.positives.item, shop.n_items, kinds)


def words(shop: Shop, corpus) -> list[list[str]]:
    names = [f"{shop.items[t]}:{k}" for t, k in zip(corpus.thing, corpus.kind, strict=True)]
    return sorted(
        [names[token] for token in corpus.tokens[begin:end]]
        for begin, end in zip(corpus.offsets[:-1], corpus.offsets[1:], strict=True)
    )


def test_tokens_are_pairs_and_a_reload_counts_once(shop):
    assert words(shop, corpus_of(shop, 4)) == [["a:0", "b:0", "b:2"], ["a:0", "b:3"], ["b:0"]]


def test_untyped_tokens_merge_the_interactions_of_an_item(shop):
    assert words(shop, corpus_of(shop, 1)) == [["a:0", "b:0"], ["a:0", "b:0"], ["b:0"]]


def test_tokens_are_numbered_by_interaction(shop):
    corpus = corpus_of(shop, 4)
    assert (np.diff(corpus.kind) >= 0).all()
    assert corpus.type_offsets.tolist() == [0, 2, 2, 3, 4]
    assert (corpus.row_of[corpus.kind, corpus.thing] == np.arange(corpus.n_tokens)).all()
    assert (corpus.row_of >= 0).sum() == corpus.n_tokens


def test_where_keeps_whole_sessions_and_forgets_tokens_that_no_longer_occur(shop):
    corpus = corpus_of(shop, 4)
    kept = corpus.where(np.diff(corpus.offsets) == 2)
    assert words(shop, kept) == [["a:0", "b:3"]]
    assert kept.n_tokens == 2


def test_following_counts_sessions_and_leaves_the_same_item_out(shop):
    corpus = corpus_of(shop, 4)
    click_a = corpus.row_of[0, shop.items.number("a")]
    top, counts = corpus.following(1)
    found = {
        (corpus.kind[t], shop.items[corpus.thing[t]]): c
        for t, c in zip(top[click_a], counts[click_a], strict=True)
        if t >= 0
    }
    assert found == {(0, "b"): 1, (2, "b"): 1, (3, "b"): 1}
    click_b = corpus.row_of[0, shop.items.number("b")]
    assert (corpus.following(1)[0][click_b] == -1).all()
    assert (corpus.following(1, same_thing=True)[0][click_b] >= 0).sum() == 1
