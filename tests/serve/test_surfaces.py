"""surfaces.toml says what is wrong, where, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.errors import InputError
from endcap.serve.rules import Rules
from endcap.serve.serving import Serving
from endcap.serve.surfaces import DEFAULT_SURFACES, Source, Surface, read_surfaces

GOOD = """
[surface.cart-page]
sources = [{model = "co-occurrence", seen_as = "cart", want = "cart", budget = 50}]
merge = "interleave"
rules = {max_per_brand = 2, not_category = ["shop/c1"]}
fallback = ["popular"]
k = 6

[surface.mail]
"""


def write(folder: Path, text: str) -> Path:
    (folder / "surfaces.toml").write_text(text, encoding="utf-8")
    return folder / "surfaces.toml"


def test_declared_surfaces_stand_beside_the_default_ones(tmp_path: Path) -> None:
    surfaces = read_surfaces(write(tmp_path, GOOD))
    assert set(surfaces) == {*DEFAULT_SURFACES, "mail"}
    assert surfaces["cart-page"] == Surface(
        sources=(Source("co-occurrence", "cart", "cart", 50),),
        merge="interleave",
        rules=Rules(max_per_brand=2, not_category=("shop/c1",)),
        fallback=("popular",),
        k=6,
    )
    assert surfaces["mail"] == Surface()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[surface.x]\nsorces = []", "'sorces'; did you mean 'sources'"),
        ("[surface.x]\nsources = [{modell = 'a'}]", "did you mean 'model'"),
        ("[surface.x]\nrules = {max_per_brnd = 1}", "did you mean 'max_per_brand'"),
        ("[surface.x]\nrules = {max_per_brand = 0}", ">= 1"),
        ("[surface.x]\nsources = 3", "list of tables"),
        ("[surface.x]\nrules = 3", "table"),
        ("[surface.x]\nk = 501", "<= 500"),
        ("[surface.x]\nmerge = 'shuffle'", "shuffle"),
        ("[surface.x]\nfallback = ['luck']", "luck"),
        ("surface = 3", "surface.NAME"),
        ("[surface]\nx = 3", "table"),
        ("[surfaces.x]", "surfaces"),
        ("[surface.x", "surfaces.toml"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=r"surfaces\.toml") as refused:
        read_surfaces(write(tmp_path, text))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.toml"):
        read_surfaces(tmp_path / "no.toml")


def test_a_surface_must_fit_the_release(release_folder: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'co-occurrence'"):
        Serving.open(release_folder, {"x": Surface((Source("co-occurence"),))})
    with pytest.raises(InputError, match="unknown interaction 'buy'"):
        Serving.open(release_folder, {"x": Surface((Source(want="buy"),))})
