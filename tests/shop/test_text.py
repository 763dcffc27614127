"""The one tokenizer and hasher: stable, bounded, and at home in any script."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from endcap.shop.text import LONGEST_TEXT, hashed, hashed_n_grams, n_grams, words


def test_words_are_lower_case_and_unified():
    assert words("Zelt, 2-Personen  ＡＢＣ!") == ["zelt", "2", "personen", "abc"]
    assert words("") == words("!?") == []
    assert words("Çay 茶 чай") == ["çay", "茶", "чай"]


def test_n_grams_are_words_pairs_and_pieces_of_words():
    assert list(n_grams("red tent")) == [
        "red", "tent", "red tent",
        "#<re", "#red", "#ed>", "#<red", "#red>",
        "#<te", "#ten", "#ent", "#nt>", "#<ten", "#tent", "#ent>", "#<tent", "#tent>",
    ]  # fmt: skip
    assert list(n_grams("a")) == ["a"]


def test_hashes_are_the_same_on_every_machine():
    assert hashed("tent") == 6913708178311620754
    assert hashed("tent") != hashed("tents")


def test_rows_are_packed_and_bounded():
    offsets, features = hashed_n_grams(["red tent", None, "", "red tent", "x" * 10_000_000], 1 << 17, 64)
    rows = [features[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert rows[0] == rows[3]
    assert rows[1] == rows[2] == []
    assert 0 < len(rows[4]) <= 64
    assert len(hashed_n_grams([" ".join(map(str, range(LONGEST_TEXT)))], 1 << 17, 10)[1]) == 10


@given(st.lists(st.one_of(st.none(), st.text()), max_size=5), st.integers(1, 1 << 20), st.integers(1, 80))
def test_any_text_gives_numbers_below_the_buckets(texts, buckets, at_most):
    offsets, features = hashed_n_grams(texts, buckets, at_most)
    assert len(offsets) == len(texts) + 1
    assert offsets[-1] == len(features)
    assert (np.diff(offsets) <= at_most).all()
    assert ((features >= 0) & (features < buckets)).all()
