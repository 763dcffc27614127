"""The one normaliser, tokenizer and hasher: texts as sets of hashed n-grams, the same on every machine."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+", re.UNICODE)
LONGEST_TEXT = 2_000  # signs; what a shop writes below its titles adds little to them
LONGEST_WORD = 24


def words(text: str) -> list[str]:
    """The words of a text, in lower case, with compatibility forms unified and accents kept; at most 2,000 signs."""
    return [word[:LONGEST_WORD] for word in WORD.findall(unicodedata.normalize("NFKC", text[:LONGEST_TEXT]).lower())]


def n_grams(text: str) -> Iterator[str]:
    """Words, pairs of neighbouring words, and the 3- to 5-grams of signs of each word, `<` and `>` at its ends."""
    found = words(text)
    yield from found
    yield from (f"{left} {right}" for left, right in pairwise(found))
    for word in found:
        bounded = f"<{word}>"
        for length in (3, 4, 5):
            if len(bounded) > length:
                yield from (f"#{bounded[at : at + length]}" for at in range(len(bounded) - length + 1))


def hashed(feature: str) -> int:
    """64 bits that depend on the text alone, unlike Python's own hash."""
    return int.from_bytes(blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def hashed_n_grams(
    texts: Sequence[str | None], buckets: int, at_most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct n-grams of each text as numbers below `buckets`: (offsets (n + 1,), features).

    Args:
        at_most: features of a text; words and pairs come first, so that these are kept.
    """
    offsets, features = np.zeros(len(texts) + 1, np.int64), list[int]()
    for row, text in enumerate(texts):
        distinct = dict.fromkeys(n_grams(text)) if text else {}
        found = dict.fromkeys(hashed(gram) % buckets for gram, _ in zip(distinct, range(at_most), strict=False))
        features += found
        offsets[row + 1] = offsets[row] + len(found)
    return offsets, np.array(features, np.int64)
