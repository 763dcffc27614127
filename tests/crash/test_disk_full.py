"""A full disk: one line that says so and where, the old state whole, nothing left, and it works once there is room.

Two kinds of no room: a small file system of its own (where this may be mounted), and a limit on the size of a file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endcap.serve.state import LiveState

from .harness import JOBS, Ended, Job, Lab, check_seen, files_in, serving

WRITERS = [name for name in JOBS if name not in ("prune", "activate", "rollback")]
FEW = {("ingest-append", 32 << 10), ("train-counts", 8 << 10), ("drain", 600)}
KEPT = re.compile(r"\.(training|tuning)/|state\.db-")  # what the same command goes on from; SQLite's own journal
SIZE = 24 << 20
BALLAST = "ballast"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, free: int) -> None:
    """Leave so many bytes."""
    left = shutil.disk_usage(disk).free
    with (disk / BALLAST).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, left - free)


def check_refused(ended: Ended, folder: Path) -> None:
    lines = [line for line in ended.said.splitlines() if line.startswith("error:")]
    assert ended.code == 1, ended.said
    assert len(lines) == 1, ended.said
    assert re.search("the disk (is|fails, or is) full", lines[0])
    places = (str(folder), "shop", "models", "releases", "state.db", "NUMBA_CACHE_DIR")
    assert any(place in lines[0] for place in places)
    assert "Traceback" not in ended.said


def try_without_room(lab: Lab, job: Job, folder: Path, words: list[str], **how: Any) -> bool:
    """Whether there was too little room; all that must then be so is checked."""
    reference, files = lab.reference(job), files_in(folder)
    ended = lab.zygote.run(folder, words, **how)
    if ended.code == 0:
        return False
    check_refused(ended, folder)
    check_seen(job.look(folder), reference)
    if job.look(folder) == reference.before:
        begun = {name for name in files_in(folder) - files if not (folder / name).is_dir() and not KEPT.search(name)}
        assert not begun, "something is left over"
    return True


def check_rerun(lab: Lab, job: Job, folder: Path, words: list[str]) -> None:
    again = lab.zygote.run(folder, words)
    assert again.code == 0, again.said
    assert job.look_at_end(folder) == lab.reference(job).after
    assert not files_in(folder) - lab.reference(job).files


@pytest.mark.parametrize(
    ("name", "free"),
    [
        pytest.param(name, free, marks=[] if (name, free) in FEW else pytest.mark.slow)
        for name in WRITERS
        for free in (0, 8 << 10, 32 << 10, 128 << 10, 512 << 10)
    ],
)
def test_a_full_disk(lab: Lab, small_disk: Path, name: str, free: int) -> None:
    job = JOBS[name]
    folder = lab.bases.copy(job.base, small_disk / "work")
    words = lab.words(job, folder)
    fill(small_disk, free)
    refused = try_without_room(lab, job, folder, words)
    assert refused or free > 8 << 10, "there was no room, and still it went well"
    (small_disk / BALLAST).unlink()
    check_rerun(lab, job, folder, words)


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        pytest.param(name, largest, marks=[] if (name, largest) in FEW else pytest.mark.slow)
        for name in WRITERS
        for largest in (600, 2_000, 6_000)
    ],
)
def test_a_limit_on_the_size_of_files(lab: Lab, name: str, largest: int) -> None:
    job = JOBS[name]
    folder, words = lab.start(job)
    try_without_room(lab, job, folder, words, largest_file=largest)
    check_rerun(lab, job, folder, words)


def post(address: str, ids: list[str]) -> tuple[int, dict[str, Any]]:
    event = {"user": "u1", "item": "i1", "interaction": "click", "query": 500 * "q"}
    events = [event | {"event_id": name} for name in ids]
    request = urllib.request.Request(f"{address}/v1/events", json.dumps(events).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_server_on_a_full_disk_refuses_and_recovers(lab: Lab, small_disk: Path) -> None:
    folder = lab.bases.copy("live", lab.folder / "full-server")
    state = small_disk / "state.db"
    with serving(folder, state=state) as (address, _):
        acknowledged = [f"first {row}" for row in range(20)]
        assert post(address, acknowledged)[0] == 200
        fill(small_disk, 256 << 10)
        for batch in range(40):
            ids = [f"full {batch} {row}" for row in range(20)]
            status, answer = post(address, ids)
            if status != 200:
                break
            acknowledged += ids
        assert status == 503
        assert answer["status"] == 503
        assert "detail" in answer
        with urllib.request.urlopen(f"{address}/v1/items/i1/related", timeout=30) as response:
            assert json.load(response)["items"], "lists are still answered"
        (small_disk / BALLAST).unlink()
        deadline = time.monotonic() + 20
        while post(address, ["after"])[0] != 200:
            assert time.monotonic() < deadline, "it does not recover"
        acknowledged.append("after")
    with LiveState(state) as opened:
        recorded = opened.pending_events()["event_id"].to_pylist()
    assert recorded == acknowledged
    assert "Traceback" not in (folder / "server.log").read_text()
