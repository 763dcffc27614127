"""Training SASRec: sequences and targets a second, ours beside RecBole's on the same sequences.

    python benchmarks/sequence_training.py --peer-python PATH [--data FILE.txt] [--people 3000] [--json FILE] [--quick]

PATH is the interpreter of an environment that RecBole is installed in (`pip install recbole==1.2.1 'setuptools<81'
'numpy<2' 'pandas<2.3' 'scipy<1.14'` and the torch that we use). Without it RecBole's rows are not run. --data: a file
of S3-Rec's form, from which people are drawn; without it long sequences are made up.

Same on both sides: d = 64, 50 actions at most, 2 layers, 2 heads, inner width 64, dropout .2, 256 sequences a batch,
one thread, a process each, float32. A pass foresees every action but each person's first, once, on both sides.

RecBole makes a sequence of a batch for each of these targets: what came before it, padded to 50. Trained the same way,
one target a sequence, ours is compared in sequences a second. Its own way has one sequence for each 50 actions of a
person and foresees at every place: there the targets of a second are compared, which is to say whole passes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from _published import s3rec
from _report import Row, arguments, report
from endcap import Shop
from endcap.models.sequential import SASRec

PEOPLE, QUICK_PEOPLE, LONGEST, TARGET = 3000, 100, 50, 2.0
PASSES = 2  # of RecBole and of one target a sequence
LONGER = 6  # of every position: what is prepared once weighs more there
LONG_PEOPLE, LONG_ITEMS = 400, 20_000
START = 1_300_000_000_000_000  # microseconds
SIZE = {"dim": 64, "longest": LONGEST, "layers": 2, "heads": 2, "dropout": 0.2, "targets": "all", "batch_size": 256}
ALL_ITEMS, ONE_NEGATIVE = "softmax over all items, its default", "one negative"
PEER: dict[str, dict[str, Any]] = {
    ALL_ITEMS: {"loss_type": "CE", "train_neg_sample_args": None},
    ONE_NEGATIVE: {"loss_type": "BPR"},
}


class Way(NamedTuple):
    """A way of ours to train, and which of RecBole's stands beside it."""

    by_position: bool
    settings: dict[str, Any]
    beside: str


OURS = {
    "one target a sequence, softmax over all items": Way(False, {"negatives": 0}, ALL_ITEMS),
    "one target a sequence, one negative": Way(False, {"loss": "pairwise"}, ONE_NEGATIVE),
    "every position, 2,048 shared negatives, our default": Way(True, {"negatives": 2048}, ALL_ITEMS),
    "every position, softmax over all items": Way(True, {"negatives": 0}, ALL_ITEMS),
    "every position, one negative": Way(True, {"loss": "pairwise"}, ONE_NEGATIVE),
}
PEER_SIZE = {
    "hidden_size": 64, "MAX_ITEM_LIST_LENGTH": LONGEST, "n_layers": 2, "n_heads": 2, "inner_size": 64,
    "hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2, "hidden_act": "relu", "train_batch_size": 256,
}  # fmt: skip


class Outcome(msgspec.Struct):
    """What a pass took: rows, targets, seconds and CPU-seconds."""

    rows: int
    targets: int
    seconds: float
    cpu_seconds: float

    def speeds(self) -> tuple[float, float]:
        """Targets a second and a CPU-second."""
        return self.targets / self.seconds, self.targets / self.cpu_seconds


class OneTarget(SASRec):
    """SASRec trained as RecBole does: from what came before, one action."""

    by_position = False


def long_sequences(people: int) -> Shop:
    """Everybody acts on 51 items in a walk through planted clusters: no row is padded."""
    rng = np.random.default_rng(3)
    home = rng.integers(0, LONG_ITEMS // 100, (people, 1))
    item = (home * 100 + rng.integers(0, 100, (people, LONGEST + 1))).ravel()
    user = np.repeat(np.arange(people), LONGEST + 1)
    return Shop.from_tables(
        pa.table({
            "user": pa.array(user).cast(pa.string()),
            "item": pa.array(item).cast(pa.string()),
            "interaction": pa.repeat("purchase", len(item)),
            "time": START + np.tile(np.arange(LONGEST + 1), people) * 1_000_000,
        })
    )  # fmt: skip


def ours(shop: Shop, way: Way) -> Outcome:
    """A whole training, what it prepares and its validation on one person included, by its number of passes."""
    kind, passes = (SASRec, LONGER) if way.by_position else (OneTarget, PASSES)
    model = kind(**SIZE, **way.settings, epochs=passes, patience=passes, validation_people=1)
    begun = time.perf_counter(), time.process_time()
    model.fit(shop, seed=1, threads=1)
    seconds, cpu_seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    rows = model._learned()["course"]["epochs"][-1]["instances"]
    return Outcome(rows, targets_of(shop), seconds / passes, cpu_seconds / passes)


def targets_of(shop: Shop) -> int:
    """Actions with one of the same person before them."""
    return int((np.diff(shop.user_offsets) - 1).clip(0).sum())


def peer(python: Path, shop: Shop, settings: dict[str, Any]) -> Outcome:
    """RecBole in a process of its own interpreter."""
    with tempfile.TemporaryDirectory(prefix="endcap-benchmark-") as name:
        write_atomic_file(shop, Path(name, "sequences"))
        given = msgspec.json.encode({**PEER_SIZE, **settings, "threads": 1, "passes": PASSES}).decode()
        driver = Path(__file__).with_name("_peer_sasrec.py")
        done = subprocess.run(
            [python, driver, name, given], capture_output=True, text=True, check=False, cwd=name, env=one_thread()
        )
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-3000:]}")
    found = msgspec.json.decode(done.stdout.splitlines()[-1])
    fastest = min(found["passes"], key=lambda took: took["seconds"])
    return Outcome(found["rows"], targets_of(shop), fastest["seconds"], fastest["cpu_seconds"])


def write_atomic_file(shop: Shop, folder: Path) -> None:
    """The actions as RecBole reads them."""
    folder.mkdir()
    past = shop.positives
    place = np.arange(len(past)) - shop.user_offsets[past.user]
    lines = [f"{user}\t{item}\t{at}\n" for user, item, at in zip(past.user, past.item, place, strict=True)]
    (folder / f"{folder.name}.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(lines))


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def in_child(shop_of: list[str], name: str) -> Outcome:
    """Ours in a process of its own."""
    command = [sys.executable, __file__, "--child", name, *shop_of]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread())
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Outcome)


def shop_of(data: Path | None, people: int) -> tuple[str, Shop]:
    """What is trained on: all but the last two actions of people drawn from a file, or made up."""
    if data is None:
        return f"{people:,} made-up sequences of {LONGEST + 1}", long_sequences(people)
    found = s3rec(data)
    shop = found.train
    chosen = np.sort(np.random.default_rng(0).permutation(shop.n_users)[:people])
    events = shop.events.where(np.isin(shop.events.user, chosen))
    shop = Shop(events, shop.items, shop.users, shop.catalogue, shop.interactions)
    return f"{found.name}, {min(people, shop.n_users):,} people", shop


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--peer-python", type=Path, help="interpreter of an environment with RecBole")
    parser.add_argument("--people", type=int, help=f"people to train on (default {PEOPLE}; made-up: {LONG_PEOPLE})")
    parser.add_argument("--child", help="used by itself")
    given = parser.parse_args()
    people = given.people or (QUICK_PEOPLE if given.quick else PEOPLE if given.data else LONG_PEOPLE)
    name, shop = shop_of(given.data, people)
    if given.child:
        print(msgspec.json.encode(ours(shop, OURS[given.child])).decode())
        return
    again = [f"--people={people}", *([f"--data={given.data}"] if given.data else [])]
    own = {who: in_child(again, who) for who in OURS}
    theirs = {who: peer(given.peer_python, shop, PEER[who]) for who in PEER} if given.peer_python else {}
    command = f"python benchmarks/sequence_training.py --people {people}" + (" --data FILE" if given.data else "")
    rows = [row for who in OURS for row in _rows(who, own[who], theirs, f"{command} --peer-python PATH")]
    named = {f"ours, {who}": outcome for who, outcome in own.items()}
    named |= {f"RecBole, {who}": outcome for who, outcome in theirs.items()}
    notes = "; ".join(
        f"{who}: {outcome.rows:,} sequences and {outcome.targets:,} targets a pass, {outcome.seconds:.1f} s"
        for who, outcome in named.items()
    )
    report("sequence_training", f"{name}, {shop.n_items:,} items", rows, given.json, quick=given.quick, notes=notes)


def _rows(who: str, own: Outcome, theirs: dict[str, Outcome], command: str) -> list[Row]:
    """One way of ours beside the peer's."""
    other, found = theirs.get(OURS[who].beside), []
    for place, clock in enumerate(("second", "CPU-second")):
        speed = own.speeds()[place]
        beside = None if other is None else other.speeds()[place]
        ratio = None if beside is None else speed / beside
        unit = "targets" if OURS[who].by_position else "sequences"
        found.append(
            Row(
                what=f"{unit} a {clock}, {who}: times RecBole's, {OURS[who].beside}",
                ours=None if ratio is None else round(ratio, 2),
                reference=f"ours {speed:,.0f}, RecBole {'not run' if beside is None else f'{beside:,.0f}'}",
                target=f">= {TARGET:g}",
                met=None if ratio is None else ratio >= TARGET,
                command=command,
            )
        )
    return found


if __name__ == "__main__":
    main()
