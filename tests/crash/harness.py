"""Jobs that are killed, what a reader sees of them, and the zygote that runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from endcap import models
from endcap.release import Release, live, releases
from endcap.serve.events import EVENT_COLUMNS
from endcap.serve.state import LiveState
from endcap.shop import Shop
from endcap.shop.storage import current_generation, is_shop

TESTS = Path(__file__).parents[1]
START, MINUTE, DAY = 1_790_000_000_000_000, 60_000_000, 86_400_000_000
INTERACTIONS = ("click", "click", "click", "favourite", "cart", "purchase")
MODEL = ["--set", "dim=8", "--set", "epochs=3", "--set", "reg_k=2"]
VOLATILE = ("name", "created", "seal", "notes", "endcap", "tuning")
RELEASE_NAME = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")

State = Mapping[str, Any]  # what a reader sees, by what it looked at


class Ended(NamedTuple):
    """How a command ended: `code` is None where it was killed; `steps` is 0 there."""

    killed: bool
    code: int | None
    signal: int | None
    steps: int
    seconds: float
    said: str


class Zygote:
    """See `crash.zygote`."""

    def __init__(self) -> None:
        environment = os.environ | {
            "PYTHONPATH": str(TESTS),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "ARROW_DEFAULT_MEMORY_POOL": "system",  # the other one has a thread of its own
            "COLUMNS": "200",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "crash.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert self._answer() == "ready"

    def run(
        self, folder: Path, words: str | list[str], *, watch: Callable[[], None] | None = None, **how: Any
    ) -> Ended:
        """Run a command in a folder; `watch` is called again and again until it has ended.

        Args:
            how: `kill_at` (step), `kill_after` (seconds) or `largest_file` (bytes).
        """
        assert self.process.stdin is not None
        task = {
            "folder": str(folder),
            "words": words.split() if isinstance(words, str) else words,
            **how,
        }
        answers: list[str] = []
        waiting = threading.Thread(target=lambda: answers.append(self._answer()))
        print(json.dumps(task), file=self.process.stdin, flush=True)
        waiting.start()
        try:
            while watch is not None and waiting.is_alive():
                watch()
                waiting.join(0.02)
        finally:
            waiting.join()
        return Ended(**json.loads(answers[0]))

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


# -- what readers see ---------------------------------------------------------------------------------------------


def see_shop(folder: Path) -> Any:
    """The content of the shop, or None before there is one. Raises if it cannot be read."""
    if not is_shop(folder / "shop"):
        return None
    manifest = current_generation(folder / "shop").manifest
    Shop.open(folder / "shop")
    return {key: value for key, value in manifest.items() if key not in VOLATILE}


def see_model(folder: Path) -> Any:
    """Checksums of the model's files, or None before there is one."""
    if not (folder / "models" / "m").exists():
        return None
    model = models.open(folder / "models" / "m")
    assert model.related("i1", k=3) is not None
    return json.loads((folder / "models" / "m" / "manifest.json").read_text())["files"]


def see_release(folder: Path) -> Any:
    """The content of the live release, whatever its name; its models answer."""
    release = Release.open(folder / "releases" / live(folder / "releases"))
    for path in release.model_folders.values():
        assert models.open(path).related("i1", k=3) is not None
    return {key: value for key, value in release.manifest.items() if key not in VOLATILE}


def see_shelf(folder: Path) -> Any:
    """The name of the live release; all that are listed are sound."""
    shelf = releases(folder / "releases", check=True)
    damaged = [info.damaged for info in shelf if info.damaged and not _was_removed(folder, info.name)]
    assert not damaged
    return live(folder / "releases")


def _was_removed(folder: Path, name: str) -> bool:
    """Whether a release went away while we looked at it."""
    return not (folder / "releases" / name).exists()


def see_pending(folder: Path) -> Any:
    """How many recorded events are not in the shop yet, as far as the live state knows."""
    with LiveState(folder / "state.db") as state:
        return len(state.pending_events())


# -- jobs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A command, the folder that it begins with, and what readers look at meanwhile.

    Attributes:
        base: which of `bases` it starts from; see: by name; again: what to do after a kill, None: the same command;
        only_at_end: what is compared after the last run only.
    """

    name: str
    base: str
    words: list[str]
    see: Mapping[str, Callable[[Path], Any]]
    only_at_end: Mapping[str, Callable[[Path], Any]]
    repeatable: bool = True

    def look(self, folder: Path) -> State:
        return {name: see(folder) for name, see in self.see.items()}

    def look_at_end(self, folder: Path) -> State:
        return {name: see(folder) for name, see in (*self.see.items(), *self.only_at_end.items())}


def _job(name: str, base: str, words: str, *see: Callable[[Path], Any], at_end: Any = (), **more: Any) -> Job:
    return Job(
        name, base, words.split(), {f.__name__: f for f in see}, {f.__name__: f for f in at_end}, **more
    )  # fmt: skip


TRAIN = "train {} --shop shop --out models/m"
JOBS = {
    job.name: job
    for job in (
        _job("ingest-first", "files", "ingest a.parquet --items items.parquet --shop shop", see_shop),
        _job("ingest-append", "shop", "ingest b.parquet --items items.parquet --shop shop", see_shop),
        _job("train", "model", " ".join([TRAIN.format("item-interaction"), *MODEL]), see_model),
        _job("tune", "model", f"{TRAIN.format('item-knn')} --tune 0.001s", see_model),
        _job("train-counts", "model", TRAIN.format("co-occurrence"), see_model),
        _job("train-first", "shop", TRAIN.format("co-occurrence"), see_model),
        _job("publish", "shelf", "publish models/m --shop shop --to releases --force --keep 2", see_release),
        _job("publish-hnsw", "shelf", "publish models/m --shop shop --to releases --force --index hnsw", see_release),
        _job(
            "refresh", "live",
            "refresh shop --from-live state.db --to releases --config refresh.toml",
            see_shop, see_release, at_end=(see_pending,),
        ),
        _job("drain", "live", "ingest --from-live state.db --shop shop", see_shop, at_end=(see_pending,)),
        _job("activate", "shelf", "releases activate releases FIRST", see_release, see_shelf),
        _job("rollback", "shelf", "releases rollback releases", see_release, see_shelf, repeatable=False),
        _job("prune", "shelf", "prune releases 1", see_release, see_shelf),
    )
}  # fmt: skip


def log(n_users: int, first: int, seed: int) -> pa.Table:
    """Events of users u0.. on items i0..i39: five sessions each of six events, every event with an id."""
    rng = np.random.default_rng(seed)
    n = n_users * 5 * 6
    session = np.arange(n) // 6
    taste = rng.integers(0, 8, n_users * 5)[session]
    item = taste * 5 + rng.integers(0, 5, n)
    return pa.table(
        {
            "event_id": [f"e{first + number}" for number in range(n)],
            "user": [f"u{number}" for number in session // 5],
            "item": [f"i{number}" for number in item],
            "interaction": [INTERACTIONS[number % 6] for number in range(n)],
            "time": pa.array(START + (first + np.arange(n)) * MINUTE + session * DAY // 10, pa.timestamp("us", "UTC")),
        }
    )


class Bases:
    """Folders to start from, each made once."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self.folder, self.zygote = folder, zygote
        self._made: set[str] = set()

    def copy(self, name: str, to: Path) -> Path:
        self._make(name)
        return Path(shutil.copytree(self.folder / name, to))

    def _make(self, name: str) -> None:
        if name not in self._made:
            shutil.rmtree(self.folder / name, ignore_errors=True)  # where the last try failed
            getattr(self, f"_make_{name}")(self.folder / name)
            self._made.add(name)

    def _do(self, folder: Path, words: str) -> None:
        ended = self.zygote.run(folder, words)
        assert ended.code == 0, ended.said

    def _make_files(self, folder: Path) -> None:
        folder.mkdir()
        events = log(12, 0, seed=1)
        bad = pa.table({**{name: events[name][:2] for name in events.column_names}, "user": pa.nulls(2, pa.string())})
        pq.write_table(pa.concat_tables([events, bad]), folder / "a.parquet")
        pq.write_table(log(15, 400, seed=2), folder / "b.parquet")
        items = {"item": [f"i{n}" for n in range(40)], "category": [f"c{n // 5}" for n in range(40)]}
        pq.write_table(pa.table(items), folder / "items.parquet")

    def _make_shop(self, folder: Path) -> None:
        self.copy("files", folder)
        self._do(folder, "ingest a.parquet --shop shop")

    def _make_model(self, folder: Path) -> None:
        self.copy("shop", folder)
        self._do(folder, f"{TRAIN.format('item-interaction')} {' '.join(MODEL)} --seed 7")

    def _make_shelf(self, folder: Path) -> None:
        self.copy("shop", folder)
        for system in ("co-occurrence", "item-knn", "popularity"):
            self._do(folder, TRAIN.format(system))
            self._do(folder, "publish models/m --shop shop --to releases --force")
        self._do(folder, f"{TRAIN.format('item-interaction')} {' '.join(MODEL)} --seed 4")

    def _make_live(self, folder: Path) -> None:
        self.copy("shop", folder)
        (folder / "refresh.toml").write_text('hold_out = "none"\n[gate]\nmargin = 1.0\ncoverage = 0.0\n')
        self._do(folder, TRAIN.format("co-occurrence"))
        self._do(folder, "publish models/m --shop shop --to releases --force")
        names = log(8, 2000, seed=3)
        with LiveState(folder / "state.db") as state:
            rows = [{**row, "time": int(row["time"].timestamp() * 1e6)} for row in names.to_pylist()]
            state.record([tuple(row.get(name) for name in EVENT_COLUMNS) for row in rows]).result()


# -- killing ------------------------------------------------------------------------------------------------------


class Reference(NamedTuple):
    """An undisturbed run: what was seen before and after, what lies there after, how long it took."""

    before: State
    after: State
    files: set[str]
    steps: int
    seconds: float


class Lab:
    """Runs jobs undisturbed and disturbed, each in a fresh folder."""

    def __init__(self, folder: Path, zygote: Zygote, bases: Bases) -> None:
        self.folder, self.zygote, self.bases = folder, zygote, bases
        self._references: dict[str, Reference] = {}
        self._count = 0

    def start(self, job: Job) -> tuple[Path, list[str]]:
        """A fresh folder, and the words of the command in it."""
        self._count += 1
        folder = self.bases.copy(job.base, self.folder / f"{job.name}-{self._count}")
        return folder, self.words(job, folder)

    def words(self, job: Job, folder: Path) -> list[str]:
        shelf = folder / "releases"
        first = min((path.name for path in shelf.iterdir() if RELEASE_NAME.fullmatch(path.name)), default="") \
            if shelf.exists() else ""  # fmt: skip
        return [first if word == "FIRST" else word for word in job.words]

    def reference(self, job: Job) -> Reference:
        if job.name not in self._references:
            folder, words = self.start(job)
            before = job.look(folder)
            ended = self.zygote.run(folder, words)
            assert ended.code == 0, ended.said
            self._references[job.name] = Reference(
                before, job.look_at_end(folder), files_in(folder), ended.steps, ended.seconds
            )
            shutil.rmtree(folder)
        return self._references[job.name]


def files_in(folder: Path) -> set[str]:
    """All paths, with release names made alike."""
    return {RELEASE_NAME.sub("RELEASE", str(path.relative_to(folder))) for path in folder.rglob("*")}


def check_seen(seen: State, reference: Reference) -> None:
    """Everything that a reader saw is the old or the new."""
    for name, value in seen.items():
        assert value in (reference.before[name], reference.after[name]), f"{name}: neither the old nor the new"


SERVE = [sys.executable, "-c", "from endcap.cli import main; main()", "serve", "releases", "--port", "0"]


@contextmanager
def serving(folder: Path, state: Path = Path("state.db")) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A real server on a free port: its address and process; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*SERVE, "--state", str(state)],
        stdout=subprocess.PIPE,
        stderr=(folder / "server.log").open("a"),
        text=True,
        cwd=folder,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert "http://" in first, (folder / "server.log").read_text()[-2000:]
        yield first.split()[-1], process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
