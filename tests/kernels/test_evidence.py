"""Walks that go on from their strongest places alone, and leave nothing behind for the next question."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from endcap.kernels.evidence import COUNT, N_SUMS, WALK1, WALK2, WALK3, Links, Walker

# 0 - 1 twice, 0 - 2 once; 1 - 3 and 2 - 4 once, 3 - 5 once: rows by falling strength
ROWS = {0: [(1, 2), (2, 1)], 1: [(0, 2), (3, 1)], 2: [(0, 1), (4, 1)], 3: [(1, 1), (5, 1)], 4: [(2, 1)], 5: [(3, 1)]}


def links() -> Links:
    n_of = np.array([sum(count for _, count in row) for row in ROWS.values()], np.float32)
    flat = [(item, other, count) for item, row in ROWS.items() for other, count in row]
    count = np.array([count for *_, count in flat], np.float32)
    return Links(
        np.append(0, np.cumsum([len(row) for row in ROWS.values()])),
        np.array([other for _, other, _ in flat], np.int32),
        count,
        count / n_of[[item for item, *_ in flat]],
        n_of,
    )


def reached(walker: Walker, *asked: int) -> dict[int, np.ndarray]:
    items, sums = walker.reach(np.array(asked, np.int32))
    assert len(np.unique(items)) == len(items)
    return dict(zip(items.tolist(), sums, strict=True))


def test_every_hop_goes_on_from_its_strongest_places_alone() -> None:
    wide = reached(Walker(links(), frontier=9, onward=9), 0)
    assert set(wide) == {1, 2, 3, 4, 5}
    np.testing.assert_allclose([wide[item][WALK2] for item in (3, 4)], [2 / 3 / 3, 1 / 3 / 2], rtol=1e-6)
    one = reached(Walker(links(), frontier=1, onward=9), 0)
    assert set(one) == {1, 2, 3, 5}  # 4 lies behind 2, the weaker place
    assert one[2][WALK1] > 0
    assert one[3][WALK2] == wide[3][WALK2]
    short = reached(Walker(links(), frontier=9, onward=1), 0)
    assert set(short) == {1, 2}  # the strongest partner of both is where the walk comes from
    assert short[1][COUNT] == 2


def test_nothing_comes_back_to_what_was_asked_with() -> None:
    found = reached(Walker(links(), frontier=9, onward=9), 0, 3)
    assert not {0, 3} & set(found)
    assert found[5][WALK1] == np.float32(0.25)
    assert found[5][WALK3] == 0


def test_questions_of_many_threads_do_not_disturb_each_other() -> None:
    walker = Walker(links(), frontier=9, onward=9)
    alone = [reached(Walker(links(), frontier=9, onward=9), item) for item in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda item: reached(walker, item % 6), range(600)))
    for item, found in enumerate(together):
        assert found.keys() == alone[item % 6].keys()
        for other, sums in found.items():
            assert len(sums) == N_SUMS
            np.testing.assert_array_equal(sums, alone[item % 6][other])
