"""What the items of a simulated shop are called, who makes and sells them, and what they cost."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.simulate.world import Truth, zipf


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DEPARTMENTS = _words("photo outdoor kitchen garden sport craft music office")
SECTIONS = _words("basics gear care storage")
KINDS = _words(
    "camera tripod card lens bag strap filter lamp battery charger case cable stand mount frame print album "
    "tent stove mat bottle rope knife axe boot jacket glove hat pan pot mixer oven plate bowl cup jar board "
    "rake hose seed spade fence ball racket net bike helmet pump wheel yarn needle hook loom paint brush paper "
    "guitar drum string pedal keyboard speaker headset folder pen desk chair shelf drawer clock scale"
)
USES = _words(
    "travel studio pocket action night field winter summer garden family kids city river trail wall table floor "
    "steel wood glass cotton leather wool bamboo copper stone paper rubber canvas linen silver"
)
FAMILIES = _words(
    "alpina borea calix dorado elara fenix gavia helio isola junco karst lumen mirador nova orbit pavo quarz rigel "
    "sable terra umbra vega wren xenon yarrow zephyr"
)
GRADES = _words("basic classic plus pro master royal prime elite grand")
COLOURS = _words("black white red blue green grey sand rose amber teal plum olive")
N_SELLERS_PER_ITEM = 0.02
OWN_BRAND = 0.8  # share of items made by the family's own brand


def catalogue(truth: Truth) -> pa.Table:
    """`item, title, category, brand, seller, price, margin, in_stock, launched`, and `domain` with several domains."""
    settings, world = truth.settings, truth.world
    rng = np.random.default_rng([settings.seed, 10])
    n = len(truth.leaf)
    numbers = world.family.astype(np.int64)
    brand = np.where(rng.random(n) < OWN_BRAND, numbers, settings.families + rng.integers(0, settings.families, n))
    columns = {
        "item": item_ids(truth),
        "title": _titles(truth, rng),
        "category": category_paths(truth).take(pa.array(truth.leaf)).cast(pa.string()),
        "brand": pa.array([_word(FAMILIES, number) for number in range(2 * settings.families)]).take(pa.array(brand)),
        "seller": numbered("V", _sellers(truth, rng), 6),
        "price": prices(truth),
        "margin": np.round(rng.beta(4, 8, n), 3),
        "in_stock": rng.random(n) >= settings.out_of_stock,
        "launched": pa.array(world.launched, pa.timestamp("us", "UTC")),
    }
    if settings.domains > 1:
        columns["domain"] = pa.array(truth.domain_names()).take(pa.array(truth.leaf_domain[truth.leaf]))
    return pa.table(columns)


def item_ids(truth: Truth) -> pa.StringArray:
    """(n,) external ids, in an order that says nothing."""
    n = len(truth.leaf)
    shuffled = np.random.default_rng([truth.settings.seed, 11]).permutation(n)
    return numbered("I", shuffled, len(str(n)))


def user_ids(truth: Truth, users: NDArray[np.int64]) -> pa.StringArray:
    """External ids; those behind the last user are bots."""
    return numbered("U", users, len(str(truth.settings.n_users + truth.settings.bots)))


def prices(truth: Truth) -> NDArray[np.float64]:
    """(n,) whole cents: a level for each leaf, a step for each band."""
    rng = np.random.default_rng([truth.settings.seed, 12])
    level = rng.lognormal(3.0, 0.8, truth.n_leaves)
    band = truth.world.band - (truth.settings.bands - 1) / 2
    return np.round(level[truth.leaf] * 1.8**band * rng.lognormal(0, 0.12, len(truth.leaf)), 2).clip(0.5)


def leaf_names(truth: Truth) -> list[str]:
    """Two words a leaf, each pair once."""
    rng = np.random.default_rng([truth.settings.seed, 13])
    order = rng.permutation(max(truth.n_leaves, len(USES) * len(KINDS)))[: truth.n_leaves]
    pairs = (divmod(int(number), len(KINDS)) for number in order)
    return [f"{_word(USES, use)} {KINDS[kind]}" for use, kind in pairs]


def category_paths(truth: Truth) -> pa.StringArray:
    """(L,) `department/section/leaf`."""
    names = leaf_names(truth)
    section = np.random.default_rng([truth.settings.seed, 14]).integers(0, len(SECTIONS), truth.n_leaves)
    return pa.array(
        [
            f"{DEPARTMENTS[theme]}/{SECTIONS[where]}/{name.replace(' ', '-')}"
            for theme, where, name in zip(truth.leaf_theme, section, names, strict=True)
        ]
    )


def numbered(prefix: str, numbers: NDArray[np.integer], width: int) -> pa.StringArray:
    """Ids such as I000042; -1 becomes null."""
    n = len(numbers)
    width = max(width, len(str(int(numbers.max(initial=0)))))
    characters = np.empty((n, len(prefix) + width), np.uint8)
    characters[:, : len(prefix)] = np.frombuffer(prefix.encode(), np.uint8)
    rest = np.maximum(numbers, 0).astype(np.int64)
    for place in range(characters.shape[1] - 1, len(prefix) - 1, -1):
        rest, digit = np.divmod(rest, 10)
        characters[:, place] = digit + ord("0")
    offsets = np.arange(0, (n + 1) * characters.shape[1], characters.shape[1], dtype=np.int32)
    missing = numbers < 0
    valid = pa.py_buffer(np.packbits(~missing, bitorder="little")) if missing.any() else None
    return pa.Array.from_buffers(
        pa.string(), n, [valid, pa.py_buffer(offsets), pa.py_buffer(characters)], int(missing.sum())
    )


def _titles(truth: Truth, rng: np.random.Generator) -> pa.StringArray:
    """Family, grade, leaf, colour and a model number."""
    n, world = len(truth.leaf), truth.world
    words = [_word(FAMILIES, number) for number in range(truth.settings.families)]
    return pc.binary_join_element_wise(
        pa.array(words).take(pa.array(world.family)),
        pa.array(GRADES).take(pa.array(world.band)),
        pa.array(leaf_names(truth)).take(pa.array(truth.leaf)),
        pa.array(COLOURS).take(pa.array(rng.integers(0, len(COLOURS), n))),
        numbered("", rng.integers(0, 1000, n), 3),
        " ",
    )


def _sellers(truth: Truth, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sellers keep to a theme: those of a theme share its items unevenly."""
    n = len(truth.leaf)
    per_theme = max(2, round(n * N_SELLERS_PER_ITEM / len(DEPARTMENTS)))
    place = np.searchsorted(np.cumsum(zipf(per_theme, 0.7))[:-1], rng.random(n))
    return truth.leaf_theme[truth.leaf] * per_theme + place


def _word(words: tuple[str, ...], number: int) -> str:
    """The word of a number; past the end of the list they begin again with a counter."""
    again, place = divmod(int(number), len(words))
    return words[place] if again == 0 else f"{words[place]}{again + 1}"
