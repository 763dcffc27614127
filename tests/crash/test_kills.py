"""Every job is killed (SIGKILL) anywhere: readers see the old or the new, whole; the same command again ends well.

`ENDCAP_KILLS=200 ENDCAP_KILL_SEED=7` draws as many points from another seed. A point is a share of the way: of the
steps on the file system ("step"), or of the time that an undisturbed run takes ("moment"). It stands in the name of
its test.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from .harness import JOBS, Ended, Job, Lab, check_seen, files_in

FEW = ("ingest-append", "train", "publish", "refresh", "rollback", "prune")  # one point each, with every test run
MANY = 180  # with those of test_served_kills.py 200
SEED = int(os.environ.get("ENDCAP_KILL_SEED", "0"))
WAYS = ("step", "moment")


class Point(NamedTuple):
    """Where a job is killed; a second share: where the second try is killed, too."""

    job: str
    way: str
    shares: tuple[float, ...]

    def __str__(self) -> str:
        return "-".join([self.job, self.way, *(f"{share:.4f}" for share in self.shares), f"seed{SEED}"])


def draw(count: int, seed: int, names: Sequence[str] = tuple(JOBS)) -> list[Point]:
    """Points over jobs and both ways in turn."""
    draws = random.Random(seed)
    points = []
    for number in range(count):
        way = WAYS[(number + number // len(names)) % 2]
        shares = tuple(draws.random() for _ in range(1 + (draws.random() < 0.25)))
        points.append(Point(names[number % len(names)], way, shares))
    return points


def kill(lab: Lab, job: Job, point: Point) -> None:
    reference = lab.reference(job)
    folder, words = lab.start(job)
    for share in point.shares:
        where = (
            {"kill_at": 1 + int(share * reference.steps)}
            if point.way == "step"
            else {"kill_after": share * reference.seconds}
        )
        ended = lab.zygote.run(folder, words, watch=lambda: check_seen(job.look(folder), reference), **where)
        assert killed_or_done(ended), ended.said
        check_seen(job.look(folder), reference)
    if job.repeatable or job.look(folder) == reference.before:
        again = lab.zygote.run(folder, words, watch=lambda: check_seen(job.look(folder), reference))
        assert again.code == 0, again.said
    assert job.look_at_end(folder) == reference.after
    left = files_in(folder) - reference.files
    assert not left, "something is left behind"
    shutil.rmtree(folder)


def killed_or_done(ended: Ended) -> bool:
    """A moment may come too late, and the second try may have fewer steps to take."""
    return ended.signal == signal.SIGKILL or ended.code == 0


def drawn() -> list[Point]:
    """As many points as are asked for, over all jobs; else the few."""
    asked = os.environ.get("ENDCAP_KILLS")
    return draw(int(asked), SEED) if asked else draw(len(FEW), SEED, FEW)


@pytest.mark.parametrize("point", drawn(), ids=str)
def test_killed_anywhere(lab: Lab, point: Point) -> None:
    kill(lab, JOBS[point.job], point)


@pytest.mark.slow
@pytest.mark.parametrize("point", draw(MANY, SEED + 1), ids=str)
def test_killed_anywhere_many_times(lab: Lab, point: Point) -> None:
    kill(lab, JOBS[point.job], point)
