"""Published sequence files: what is read from tiny ones, and the published popularity rows on the real ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import _published
from endcap import Shop
from endcap.errors import InputError

TRAIN = [(1, 3, 100), (2, 5, 100), (1, 4, 200), (2, 3, 200), (1, 6, 300)]
DEV = [(1, 5, 300), (2, 6, 250)]
TEST = [(2, 4, 250), (1, 7, 300)]
DATA = os.environ.get("ENDCAP_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="ENDCAP_DATA names no folder of real data")


def write(
    path: Path, rows: list[tuple], *, names: str = "user_id,item_id,time", tabs=False, end="\n", start=""
) -> None:
    lines = [names.split(","), *([str(cell) for cell in row] for row in rows)]
    quoted = [[f'"{cell}"' if "," in cell else cell for cell in line] for line in lines]
    path.write_text(start + "".join(("\t" if tabs else ",").join(line) + end for line in quoted), newline="")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rows in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        write(tmp_path / f"{name}.csv", rows)
    return tmp_path


def with_negatives(folder: Path, n: int = 2) -> None:
    names = "user_id,item_id,time,neg_items"
    write(folder / "dev.csv", [(1, 5, 300, [9, 3][:n]), (2, 6, 250, [7, 7][:n])], names=names)
    write(folder / "test.csv", [(2, 4, 250, [1, 7]), (1, 7, 300, [2, 5])], names=names)


def actions(shop: Shop) -> dict[str, list[str]]:
    past = shop.positives
    return {shop.users[u]: shop.items.decode(past.item[past.user == u]) for u in range(shop.n_users)}


def test_a_persons_last_two_actions_are_dev_and_test_although_their_times_are_equal(folder):
    found = _published.rechorus(folder)
    assert actions(found.shop) == {"1": ["3", "4", "6", "5", "7"], "2": ["5", "3", "6", "4"]}
    assert actions(found.train) == {"1": ["3", "4", "6"], "2": ["5", "3"]}


@pytest.mark.parametrize(
    ("tabs", "end", "start"), [(True, "\n", ""), (False, "\r\n", "\ufeff"), (True, "\r\n", "\ufeff")]
)
def test_tabs_line_ends_and_byte_order_marks_are_read(folder, tabs, end, start):
    expected = _published.rechorus(folder)
    for name, rows in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        write(folder / f"{name}.csv", rows, tabs=tabs, end=end, start=start)
    found = _published.rechorus(folder)
    assert actions(found.shop) == actions(expected.shop)
    np.testing.assert_array_equal(found.test, expected.test)


def test_given_negatives_are_numbered_by_the_shop_and_sorted_by_person(folder):
    with_negatives(folder)
    found = _published.rechorus(folder)
    decoded = {
        name: [found.shop.items.decode(row) for row in rows]
        for name, rows in (("dev", found.validation), ("test", found.test))
    }
    assert decoded == {"dev": [["9", "3"], ["7", "7"]], "test": [["2", "5"], ["1", "7"]]}
    assert found.shop.n_items == 8  # 1, 2 and 9 are candidates that nobody acted on


def test_drawn_negatives_come_from_the_legacy_stream_without_what_the_person_acted_on(tmp_path):
    rng = np.random.default_rng(5)
    sequences = {person: 1 + rng.choice(150, 4, replace=False) for person in range(1, 61)}
    for place, name in ((3, "test"), (2, "dev")):
        write(tmp_path / f"{name}.csv", [(p, items[place], 10**9 + place) for p, items in sequences.items()])
    write(tmp_path / "train.csv", [(p, items[t], 10**9 + t) for t in (0, 1) for p, items in sequences.items()])
    found = _published.rechorus(tmp_path)

    bound = len({item for items in sequences.values() for item in items[1:]}) + 1
    np.random.seed(0)  # noqa: NPY002 (the published recipe)
    for rows, name in ((found.test, "test"), (found.validation, "dev")):
        expected = np.random.randint(1, bound, (60, 99))  # noqa: NPY002
        for row, person in enumerate(sequences):
            for place in range(99):
                while expected[row, place] in sequences[person]:
                    expected[row, place] = np.random.randint(1, bound)  # noqa: NPY002
        by_person = {found.shop.users[user]: found.shop.items.decode(row) for user, row in enumerate(rows)}
        assert by_person == {str(p): [str(i) for i in expected[row]] for row, p in enumerate(sequences)}, name
    assert found.note == "99 negatives drawn by the published recipe"


def test_relations_and_categories_are_those_of_item_meta(folder):
    with_negatives(folder)
    names = "item_id,i_category,r_complement,r_substitute"
    write(folder / "item_meta.csv", [(3, 0, [4, 5], []), (4, 12, [], [3])], names=names, tabs=True)
    found = _published.rechorus(folder)
    assert found.relations.to_pylist() == [
        {"item": "3", "other": "4", "relation": "complement"},
        {"item": "3", "other": "5", "relation": "complement"},
        {"item": "4", "other": "3", "relation": "substitute"},
    ]
    category = dict(
        zip(found.shop.catalogue["item"].to_pylist(), found.shop.catalogue["category"].to_pylist(), strict=True)
    )
    assert category["3"] is None
    assert category["4"] == "12"


def test_people_of_fewer_actions_are_learnt_from_and_not_asked(folder):
    with_negatives(folder)
    write(folder / "train.csv", [*TRAIN, (3, 8, 50)])
    found = _published.rechorus(folder)
    assert actions(found.shop)["3"] == ["8"]
    assert found.test[found.shop.users.number("3")].tolist() == [-1, -1]


def test_another_form_or_split_is_refused_and_told(folder):
    with_negatives(folder, n=1)
    write(folder / "dev.csv", [(1, 5, 300, [9]), (2, 6, 250, [7, 7])], names="user_id,item_id,time,neg_items")
    with pytest.raises(InputError, match="equally many"):
        _published.rechorus(folder)
    write(folder / "dev.csv", DEV)
    with pytest.raises(InputError, match=r"dev\.csv: there is no column neg_items"):
        _published.rechorus(folder)
    write(folder / "test.csv", TEST[:1])
    with pytest.raises(InputError, match=r"test\.csv: one row is needed for each person"):
        _published.rechorus(folder)
    write(folder / "test.csv", [(2, 4, 250), (1, 7, 299)])
    with pytest.raises(InputError, match="each person's last action"):
        _published.rechorus(folder)
    (folder / "train.csv").unlink()
    with pytest.raises(InputError, match=r"train\.csv: there is no such file"):
        _published.rechorus(folder)


def test_lines_of_items_become_sequences_with_attributes_on_request(tmp_path):
    (tmp_path / "Toys.txt").write_text("7 3 1 2\n5 1 9 3 3\n6 2 1\n")
    (tmp_path / "Toys_item2attributes.json").write_text('{"3": [12, 4], "9": [], "1": [7]}')
    found = _published.s3rec(tmp_path, titles=True)
    assert actions(found.shop) == {"7": ["3", "1", "2"], "5": ["1", "9", "3", "3"], "6": ["2", "1"]}
    assert found.test is None
    titles = dict(zip(found.shop.catalogue["item"].to_pylist(), found.shop.catalogue["title"].to_pylist(), strict=True))
    assert titles == {"3": "a12 a4", "9": None, "1": "a7", "2": None}
    assert _published.s3rec(tmp_path / "Toys.txt").shop.catalogue["title"].null_count == 4


@pytest.mark.parametrize(
    ("text", "told"), [("1 2\n3\n", "line 2: a person without"), ("1 2\n1 3\n", "one line a person")]
)
def test_a_text_of_another_form_is_refused_and_told(tmp_path, text, told):
    (tmp_path / "A.txt").write_text(text)
    with pytest.raises(InputError, match=told):
        _published.s3rec(tmp_path)
    (tmp_path / "B.txt").write_text("1 2\n")
    with pytest.raises(InputError, match=r"A\.txt, B\.txt"):
        _published.s3rec(tmp_path)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "D.txt").write_text("1 2\n")
    assert _published.beauty(tmp_path / "D.txt") == tmp_path / "below" / "D.txt"
    with pytest.raises(InputError, match=r"C\.txt: there is no such file"):
        _published.s3rec(_published.beauty(tmp_path / "C.txt"))


def held_out(found: _published.Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Each person's last item, and how often each item occurs in what is learnt from."""
    last = found.shop.positives.item[found.shop.user_offsets[1:] - 1]
    return last, np.bincount(found.train.positives.item, minlength=found.shop.n_items)


@needs_data
def test_popularity_on_grocery_is_what_was_published():
    found = _published.grocery(Path(DATA))
    assert found.note == "99 negatives as published, checked"
    wanted, counts = held_out(found)
    ours, others = counts[wanted][:, None], counts[found.test]
    best, worst = ((others > ours).sum(1), (others >= ours).sum(1))
    assert [round((ranks < 5).mean(), 4) for ranks in (best, worst)] == [0.2072, 0.2031]  # published: .2065
    gains = [np.where(ranks < 5, 1 / np.log2(ranks + 2), 0).mean() for ranks in (best, worst)]
    assert [round(gain, 4) for gain in gains] == [0.1305, 0.1281]  # published: .1301

    more = np.bincount(found.shop.without_last().positives.item, minlength=found.shop.n_items)
    more_hits = (more[found.test] >= more[wanted][:, None]).sum(1) < 5
    assert round(more_hits.mean(), 4) == 0.2209  # having seen the validation items


@needs_data
def test_popularity_on_beauty_is_about_what_was_published():
    found = _published.s3rec(_published.beauty(Path(DATA)))
    wanted, counts = held_out(found)
    past, offsets = found.shop.positives, found.shop.user_offsets
    ranks = []
    for person, item in enumerate(wanted):
        seen = np.unique(past.item[offsets[person] : offsets[person + 1] - 1])
        ranks.append((counts > counts[item]).sum() - (counts[seen] > counts[item]).sum())
    hits = [(np.array(ranks) < k).mean() for k in (5, 10, 20)]
    assert hits == pytest.approx([0.0080, 0.0152, 0.0217], abs=0.004)
