"""`endcap cross-sell`, `endcap explain`, `endcap train --relations`, as a person or a script uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from endcap import cli, models, simulate
from endcap.release import Part, activate, write_release
from endcap.shop import Shop
from endcap.shop.ingest import ingest
from endcap.simulate import ShopSettings

TRAINED = [
    "dim=8",
    "epochs=1",
    "batch_size=512",
    "negatives=64",
    "text=none",
    "complement=logistic",
    "score_by=network",
]


class Said(NamedTuple):
    """What a verb did."""

    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `endcap` in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Said:
        monkeypatch.setattr("sys.argv", ["endcap", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        return Said(code if isinstance(code, int) else 0, *capsys.readouterr())

    return call


class Made(NamedTuple):
    """A folder of a small shop, models and a release, and an item that many bought with one of its rivals."""

    folder: Path
    item: str
    rival: str
    partner: str

    @property
    def model(self) -> Path:
        return self.folder / "xsell"

    @property
    def shop(self) -> Path:
        return self.folder / "shop"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("cross-sell")
    tables = simulate.tables(ShopSettings(events=8_000, items=100, seed=1, best=0, converts=0.8, checkout=0.9))
    pq.write_table(tables.events, folder / "events.parquet")
    pq.write_table(tables.items, folder / "items.parquet")
    ingest([str(folder / "events.parquet")], items=[str(folder / "items.parquet")], shop=folder / "shop")
    shop = Shop.open(folder / "shop")
    model = models.create("cross-sell", dict(setting.split("=") for setting in TRAINED)).fit(shop)
    model.save(folder / "xsell")
    models.create("co-purchase").fit(shop).save(folder / "counts")
    written = write_release(folder / "releases", shop, {"cross-sell": Part(folder / "xsell", model.spaces())})
    activate(folder / "releases", written.name)
    ids, leaf = shop.items.ids.to_pylist(), shop.catalogue["category"].to_pylist()
    asked = int(np.argmax(np.bincount(shop.positives.item[shop.positives.interaction == 3])))
    rivals = [ids[n] for n in range(len(ids)) if leaf[n] == leaf[asked] and n != asked]
    partner = model.related(ids[asked], k=1)[0][0]
    return Made(folder, ids[asked], rivals[0], partner)


def test_a_model_answers_with_parts_and_the_rivals_that_it_met(run: Run, made: Made) -> None:
    asked = ("cross-sell", made.item, "--model", made.model, "--shop", made.shop, "-k", 3, "--parts", "--left-out")
    given = json.loads(run(*asked, "--json").out)
    assert given["request_id"] is given["release"] is None
    assert len(given["items"]) == 3
    for row in given["items"]:
        assert {"item", "score", "source", "reasons", "title", "parts"} == row.keys()
        assert set(row["parts"]) == {"similarity", "complement", "recency", "final"}
        assert row["parts"]["complement"] >= 0.5
        assert row["reasons"]
    assert all(met["complement"] < 0.5 and met["reason"] == "substitute" for met in given["left_out"])
    table = run(*asked).out
    assert all(word in table for word in ("similarity", "recency", given["items"][0]["title"]))
    assert ("left out as a substitute" in table) == bool(given["left_out"])


def test_a_basket_and_what_it_does_not_know(run: Run, made: Made) -> None:
    given = json.loads(run("cross-sell", made.item, "nowhere", made.item, "--model", made.model, "--json").out)
    assert given["notes"] == ["unknown items: nowhere"]
    assert made.item not in [row["item"] for row in given["items"]]
    assert "parts" not in given["items"][0]


def test_a_release_answers_as_the_server_would(run: Run, made: Made) -> None:
    given = json.loads(
        run("cross-sell", made.item, made.rival, "--to", made.folder / "releases", "-k", 4, "--parts", "--json").out
    )
    assert len(given["items"]) == 4
    assert given["release"]
    assert not {made.item, made.rival} & {row["item"] for row in given["items"]}
    assert given["items"][0]["source"] == "cross-sell"
    cheap = run("cross-sell", made.item, "--to", made.folder / "releases", "--where", "max_price=0.001").out
    assert "0 of 10 items: no others satisfy the rules" in cheap


def test_a_model_of_counts_says_that_it_has_no_parts(run: Run, made: Made) -> None:
    said = run("cross-sell", made.item, "--model", made.folder / "counts", "--parts")
    assert "co-purchase does not say what its scores are made of" in said.out


def test_explain_tells_a_rival_from_what_goes_with_it(run: Run, made: Made) -> None:
    why = json.loads(run("explain", made.item, made.rival, "--model", made.model, "--shop", made.shop, "--json").out)
    assert why["verdict"] == "substitute"
    assert why["place"] is None
    assert why["parts"]["complement"] < 0.5
    assert next(iter(why["contributions"].values())) < 0
    said = run("explain", made.item, made.rival, "--model", made.model, "--shop", made.shop).out
    assert f"is left out as a substitute of {why['item']['title']}, P(complement) = 0." in said
    assert "- the same category: " in said
    assert "times that of" in said
    goes = json.loads(run("explain", made.item, made.partner, "--model", made.model, "--json").out)
    assert goes["verdict"] == ("complement" if goes["parts"]["complement"] >= 0.5 else "substitute")
    assert (goes["place"] is None) == (goes["verdict"] == "substitute")
    assert set(goes["item"]) == {"item"}, "nothing is known without the shop"


def test_explain_of_a_model_that_tells_no_rivals(run: Run, made: Made) -> None:
    said = run("explain", made.item, made.rival, "--model", made.folder / "counts")
    assert said.code == 0
    assert "co-purchase does not tell complements from substitutes here" in said.out


def test_relations_are_learnt_from_csv_and_parquet(run: Run, made: Made, tmp_path: Path) -> None:
    links = pa.table({"item": [made.item], "other": [made.rival], "relation": ["complement"], "by": ["hand"]})
    pc.write_csv(links, tmp_path / "links.csv")
    pq.write_table(links, tmp_path / "links.parquet")
    train = ("train", "cross-sell", "--shop", made.shop, *(part for one in TRAINED for part in ("--set", one)))
    for kind in ("csv", "parquet"):
        assert run(*train, "--out", tmp_path / kind, "--relations", tmp_path / f"links.{kind}").code == 0
    with_links, without = (models.open(folder) for folder in (tmp_path / "csv", made.model))
    pair = [with_links.origin.items.number(name) for name in (made.item, made.rival)]
    assert with_links._partners[*pair] > without._partners[*pair]
    assert (models.open(tmp_path / "parquet")._target == with_links._target).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cross-sell", "ITEM"], "give either --model DIR, or a release"),
        (["cross-sell", "ITEM", "--model", "MODEL", "--to", "x"], "give either --model DIR, or a release"),
        (["cross-sell", "ITEM", "--model", "MODEL", "--where", "brand=x"], "--where: rules are a release's"),
        (["cross-sell", "ITEM", "--to", "RELEASES", "--shop", "x"], "--shop: a release has its own titles"),
        (["cross-sell", "nowhere", "--model", "MODEL"], "unknown item 'nowhere': it was not in the training data"),
        (["cross-sell", "ITEM", "--to", "RELEASES", "--surface", "cros-sell"], "did you mean 'cross-sell'"),
        (["cross-sell", "", "--to", "RELEASES"], "item is empty"),
        (["explain", "ITEM", "ITEM", "--model", "MODEL"], "an item does not go with itself"),
        (["explain", "ITEM", "nowhere", "--model", "MODEL"], "unknown item 'nowhere'"),
        (["train", "item-knn", "--relations", "LINKS"], "--relations: item-knn learns from the log alone"),
        (["train", "cross-sell", "--relations", "no.csv"], "no.csv: a Parquet or CSV file is needed"),
        (["train", "cross-sell", "--relations", "SHORT"], "there is no column 'relation'"),
        (["train", "cross-sell", "--relations", "HOLES"], "row 2 has no other"),
        (["train", "cross-sell", "--relations", "LINKS", "--tune", "1m"], "--tune: it would search without"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    run: Run, made: Made, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "links.csv").write_text("item,other,relation\na,b,complement\n")
    (tmp_path / "short.csv").write_text("item,other\na,b\n")
    (tmp_path / "holes.csv").write_text("item,other,relation\na,b,complement\na,,complement\n")
    places = {"ITEM": made.item, "MODEL": made.model, "RELEASES": made.folder / "releases"}
    places |= {name: tmp_path / f"{name.lower()}.csv" for name in ("LINKS", "SHORT", "HOLES")}
    further = ["--shop", made.shop, "--out", tmp_path / "out"] if arguments[0] == "train" else []
    said = run(*(places.get(word, word) for word in arguments), *further)
    assert said.code == 2
    assert says in said.err
    assert said.err.startswith("error: ")
    assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
