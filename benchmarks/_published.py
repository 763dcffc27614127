"""Published sequence files as shops: ReChorus folders with their sampled negatives, S3-Rec files with their attributes.

Both forms hold out each person's last action for the test and the one before it for validation. Neither has titles, and
both have one interaction: nothing in them tests a text tower or behaviour types. Published models learn from what lies
before both: a model that holds out fewer people's validation items than all (`validation_people`) learns from more.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from _real import data_folder
from endcap import Shop
from endcap.errors import InputError
from endcap.shop.shop import LEAST_ACTIONS

NEGATIVES = 99
START = 1_300_000_000  # seconds: the first place of a sequence without times
EARLIEST = 631_152_000  # seconds: 1990, before which a shop takes no time
# The official files of Grocery_and_Gourmet_Food as git names them: train.csv, and dev.csv and test.csv with negatives.
OFFICIAL = {
    "76e05bd4c3adac964ddbe1813dfa72dc82dba4bb": {
        "dev": "36fb3bbd0360758aeb823c137330cf86091235ca",
        "test": "8feeef5ffa270b613ad6c6da0b8e8c26cb164c0a",
    }
}

Items = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Sequences:
    """A published data set.

    Attributes:
        shop: every action of everybody, each person's held-out ones last; candidates that nobody acted on are items.
        validation, test: (n_users, n) items that each user's held-out one is ranked among, -1 for users of fewer than
            three actions; None: among all items.
        relations: (item, other, relation) as ids, where the set has them.
        note: where the negatives are from.
    """

    name: str
    shop: Shop
    validation: Items | None = None
    test: Items | None = None
    relations: pa.Table | None = None
    note: str = "full ranking"

    @property
    def train(self) -> Shop:
        """What published models learn from; baselines that validate nothing are to be fitted on it, too."""
        return self.shop.without_last(2)


def grocery(given: Path | None) -> Sequences:
    """`--data` itself where it is a ReChorus folder, else amazon-grocery-relations in it."""
    if given is not None and (given / "train.csv").is_file():
        return rechorus(given)
    return rechorus(data_folder(given, "amazon-grocery-relations"))


def beauty(given: Path | None) -> Path:
    """The S3-Rec file of `--data`: itself, or its namesake a folder below; the only one in it; Beauty."""
    if given is not None and given.suffix == ".txt":
        below = sorted(given.parent.glob(f"*/{given.name}"))
        return given if given.is_file() or not below else below[0]
    return given if given is not None and list(given.glob("*.txt")) else data_folder(given, "s3rec-beauty")


# -- ReChorus ----------------------------------------------------------------------------------------------------------


def rechorus(folder: Path, *, interaction: str = "purchase") -> Sequences:
    """A folder of train.csv, dev.csv and test.csv (user_id, item_id, time) split by leave-one-out.

    Tabs or commas. Negatives are the files' column `neg_items`, else drawn as ReChorus's notebook draws them; where the
    folder is the one that it published, they are checked against its files. item_meta.csv may give `i_category` (or
    `i_category_c`) and relations `r_NAME`.

    Raises:
        InputError: for a file that is missing or of another form, or another split.
    """
    parts = {name: _read_part(folder / f"{name}.csv") for name in ("train", "dev", "test")}
    drawn = None if "neg_items" in parts["test"].column_names else _draw(parts)
    meta = _read_meta(folder / "item_meta.csv")
    negatives = drawn or {name: _given_negatives(parts[name], folder / f"{name}.csv") for name in ("dev", "test")}
    rows = pa.concat_tables([part.select(["user_id", "item_id", "time"]) for part in parts.values()])
    everything = [rows["item_id"].to_numpy(), *(part.ravel() for part in negatives.values()), *meta["item_id"]]
    items = np.unique(np.concatenate(everything))
    shop = _shop(
        user=rows["user_id"], item=rows["item_id"], seconds=_as_seconds(rows["time"].to_numpy()),
        interaction=interaction, items=_catalogue(items, meta),
    )  # fmt: skip
    numbers = shop.items.encode(map(str, items))
    asked = {
        name: np.where(rows[:, None] < 0, np.int32(-1), numbers[np.searchsorted(items, negatives[name][rows])])
        for name, rows in _check_split(shop, parts, folder).items()
    }
    where = "as published, checked" if _is_official(parts["train"]) else "drawn by the published recipe"
    return Sequences(
        name=folder.resolve().name,
        shop=shop,
        validation=asked["dev"],
        test=asked["test"],
        relations=meta["relations"],
        note=f"{negatives['test'].shape[1]} negatives {where if drawn else 'of the files'}",
    )


def _read_part(path: Path) -> pa.Table:
    """user_id, item_id, time and, where the file has them, neg_items."""
    table = _read_csv(path)
    missing = {"user_id", "item_id", "time"} - set(table.column_names)
    if missing:
        raise InputError(f"{path}: there is no column {min(missing)}; the columns are {', '.join(table.column_names)}")
    for name in ("user_id", "item_id", "time"):
        column = table[name]
        if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise InputError(f"{path}, column {name}: a number is needed in every row")
        table = table.set_column(table.column_names.index(name), name, pc.cast(column, pa.int64(), safe=False))
    if len(table) == 0 or pc.min(table["item_id"]).as_py() < 1:
        raise InputError(f"{path}: rows are needed, with item ids from 1 on")
    return table


def _read_csv(path: Path) -> pa.Table:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; a ReChorus folder holds train.csv, dev.csv and test.csv")
    with path.open("rb") as file:
        delimiter = "\t" if b"\t" in file.readline() else ","
    try:
        return pa_csv.read_csv(path, parse_options=pa_csv.ParseOptions(delimiter=delimiter))
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a table: {str(error).splitlines()[0]}") from None


def _given_negatives(part: pa.Table, path: Path) -> NDArray[np.int64]:
    if "neg_items" not in part.column_names:
        raise InputError(f"{path}: there is no column neg_items, which the other file has")
    try:
        lists = [msgspec.json.decode(text, type=list[int]) for text in part["neg_items"].to_pylist()]
    except (msgspec.DecodeError, TypeError):
        raise InputError(f"{path}, column neg_items: a list such as [3, 14, 15] is needed in every row") from None
    if len({len(one) for one in lists}) != 1 or not lists[0] or min(map(min, lists)) < 1:
        raise InputError(f"{path}, column neg_items: equally many item ids are needed in every row, from 1 on")
    return np.array(lists, np.int64)


def _draw(parts: dict[str, pa.Table]) -> dict[str, NDArray[np.int64]]:
    """Negatives as ReChorus's notebook draws them: test, then dev, from one stream, from seed 0.

    Ids reach up to the number of items that are left without each person's first action. A draw that the person has
    acted on, in any part, is drawn again, row by row from the left.
    """
    user, item = (np.concatenate([part[name].to_numpy() for part in parts.values()]) for name in ("user_id", "item_id"))
    _, firsts = np.unique(user, return_index=True)
    n_items = len(np.unique(np.delete(item, firsts)))
    stride = max(int(item.max()), n_items) + 1
    acted_on = np.unique(user * stride + item)
    refused = np.unique(acted_on[acted_on % stride <= n_items] // stride, return_counts=True)[1]
    if refused.max(initial=0) == n_items:
        raise InputError(f"somebody acted on all {n_items} items: no negatives can be drawn; give them as neg_items")
    taken = set(acted_on.tolist())
    stream = np.random.RandomState(0)  # the legacy stream of numpy.random.seed(0)
    drawn = {}
    for name in ("test", "dev"):
        people = parts[name]["user_id"].to_numpy()
        found = stream.randint(1, n_items + 1, (len(people), NEGATIVES))
        for row, place in np.argwhere(np.isin(people[:, None] * stride + found, acted_on)):
            while people[row] * stride + found[row, place] in taken:
                found[row, place] = stream.randint(1, n_items + 1)
        drawn[name] = found
    official = OFFICIAL.get(_git_name(parts["train"]), {})
    for name, published in official.items():
        if _git_name(parts[name], drawn[name]) != published:
            raise InputError(f"{name}.csv: the negatives drawn are not those published; is the file the original?")
    return drawn


def _is_official(train: pa.Table) -> bool:
    return _git_name(train) in OFFICIAL


def _git_name(part: pa.Table, negatives: NDArray[np.int64] | None = None) -> str:
    """SHA-1 by which git knows the file that ReChorus's notebook writes: tabs, and lists as Python prints them."""
    names = ["user_id", "item_id", "time"]
    columns = [map(str, part[name].to_pylist()) for name in names]
    if negatives is not None:
        names, columns = [*names, "neg_items"], [*columns, map(str, negatives.tolist())]
    text = "".join("\t".join(row) + "\n" for row in [names, *zip(*columns, strict=True)]).encode()
    return hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()


def _read_meta(path: Path) -> dict[str, Any]:
    """Of item_meta.csv: `item_id` (a list of none or one array), `category` by id, `relations` or None."""
    if not path.is_file():
        return {"item_id": [], "category": {}, "relations": None}
    table = _read_csv(path)
    if "item_id" not in table.column_names:
        raise InputError(f"{path}: there is no column item_id; the columns are {', '.join(table.column_names)}")
    ids = table["item_id"].to_numpy()
    category = {}
    for name in {"i_category", "i_category_c"} & set(table.column_names):  # one or the other; 0: unknown
        codes = table[name].to_pylist()
        category = {item: str(code) for item, code in zip(ids.tolist(), codes, strict=True) if code}
    relations = [name for name in table.column_names if name.startswith("r_")]
    links = [_links(ids, table[name].to_pylist(), name.removeprefix("r_"), path) for name in relations]
    return {"item_id": [ids], "category": category, "relations": pa.concat_tables(links) if links else None}


def _links(ids: NDArray[np.int64], lists: list[str], relation: str, path: Path) -> pa.Table:
    try:
        others = [msgspec.json.decode(text, type=list[int]) for text in lists]
    except (msgspec.DecodeError, TypeError):
        raise InputError(f"{path}, column r_{relation}: a list such as [3, 14] or [] is needed in every row") from None
    item = np.repeat(ids, [len(one) for one in others])
    other = pa.array([number for one in others for number in one], pa.int64())
    return pa.table({
        "item": pc.cast(pa.array(item), pa.string()),
        "other": pc.cast(other, pa.string()),
        "relation": pa.repeat(relation, len(item)),
    })  # fmt: skip


def _catalogue(items: NDArray[np.int64], meta: dict[str, Any]) -> pa.Table:
    categories = [meta["category"].get(item) for item in items.tolist()]
    return pa.table({"item": pc.cast(pa.array(items), pa.string()), "category": pa.array(categories, pa.string())})


def _as_seconds(given: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times as given where they are seconds between 1990 and now; of others the order alone, a second each."""
    if given.min() >= EARLIEST and given.max() < time.time():
        return given
    return START + np.unique(given, return_inverse=True)[1]


def _check_split(shop: Shop, parts: dict[str, pa.Table], folder: Path) -> dict[str, NDArray[np.int64]]:
    """For dev and test (n_users,) the row about each user, -1 for users of fewer than three actions.

    Raises:
        InputError: unless each user's last action by the shop's order is in test and the one before it in dev.
    """
    people = np.flatnonzero(np.diff(shop.user_offsets) >= LEAST_ACTIONS)
    ends = shop.user_offsets[people + 1]
    row_of = {}
    for name, back, which in (("test", 1, "last action"), ("dev", 2, "action before the last")):
        named = shop.users.encode(map(str, parts[name]["user_id"].to_pylist()))
        rows = np.full(shop.n_users, -1, np.int64)
        rows[named] = np.arange(len(named))
        if len(np.unique(named)) < len(named) or (rows[people] < 0).any():
            raise InputError(f"{folder / name}.csv: one row is needed for each person of three actions or more")
        said = shop.items.encode(map(str, parts[name]["item_id"].to_numpy()[rows[people]]))
        if (shop.positives.item[ends - back] != said).any():
            raise InputError(f"{folder / name}.csv: each person's {which} is needed, by time, then by part and row")
        row_of[name] = np.where(np.isin(np.arange(shop.n_users), people), rows, -1)
    return row_of


# -- S3-Rec ------------------------------------------------------------------------------------------------------------


def s3rec(path: Path, *, titles: bool = False, interaction: str = "purchase") -> Sequences:
    """NAME.txt: on each line a person, then items in order. A folder stands for the only such file in it.

    There are no times: a person's actions are a second apart.

    Args:
        titles: give the attributes of NAME_item2attributes.json to the items as text, "a12 a37".

    Raises:
        InputError: for a file that is missing or of another form.
    """
    path = _only_text(path)
    people, lengths, items = [], [], []
    for line, words in enumerate(map(str.split, path.read_text(encoding="utf-8-sig").splitlines()), 1):
        if len(words) == 1:
            raise InputError(f"{path}, line {line}: a person without items")
        people += words[:1]
        lengths += [len(words) - 1] * bool(words)
        items += words[1:]
    if len(set(people)) < len(people) or not people:
        raise InputError(f"{path}: one line a person is needed, a person and then items, with spaces between")
    place = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    shop = _shop(
        user=np.repeat(np.array(people, object), lengths),
        item=items,
        seconds=START + np.repeat(np.arange(len(people)), lengths) + place,  # people are numbered as in the file
        interaction=interaction,
        items=_attributes(path.with_name(f"{path.stem}_item2attributes.json")) if titles else None,
    )
    return Sequences(name=path.stem, shop=shop)


def _only_text(path: Path) -> Path:
    if path.suffix == ".txt" and not path.is_file():
        raise InputError(f"{path}: there is no such file; a person and then items are needed on each of its lines")
    found = [path] if path.suffix == ".txt" else sorted(path.glob("*.txt"))
    found = [one for one in found if not one.stem.endswith("_sample")]
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise InputError(f"{path}: one file NAME.txt is needed, there is {names}; name it with --file")
    return found[0]


def _attributes(path: Path) -> pa.Table:
    """Items with their attributes as titles."""
    try:
        attributes = msgspec.json.decode(path.read_bytes(), type=dict[str, list[int]])
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; without attributes leave the titles out") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not items with lists of attributes: {error}") from None
    titles = [" ".join(f"a{number}" for number in numbers) or None for numbers in attributes.values()]
    return pa.table({"item": pa.array(attributes, pa.string()), "title": pa.array(titles, pa.string())})


# -- both --------------------------------------------------------------------------------------------------------------


def _shop(*, user: Any, item: Any, seconds: NDArray[np.int64], interaction: str, items: pa.Table | None) -> Shop:
    """A shop of one interaction; of actions at the same time the first row came first."""
    events = pa.table({
        "user": pc.cast(pa.chunked_array(user) if isinstance(user, pa.ChunkedArray) else pa.array(user), pa.string()),
        "item": pc.cast(item if isinstance(item, pa.ChunkedArray) else pa.array(item), pa.string()),
        "interaction": pa.repeat(interaction, len(seconds)),
        "time": pa.array(seconds).cast(pa.timestamp("s", tz="UTC")),
    })  # fmt: skip
    return Shop.from_tables(events, items)
