"""What a program costs in a process of its own: time, processor time and peak memory; and what a call costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Cost(NamedTuple):
    """What a child process took."""

    seconds: float
    cpu_seconds: float
    peak_gb: float


def cost_of(program: str, *given: Path | str | int) -> Cost:
    """Run a Python program in a process of its own; it is given the arguments as text."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", program, *map(str, given)])
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"the program failed: {program}")
    return Cost(time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9)


def cpu_ms(call: Callable[[], object], rounds: int) -> float:
    """CPU milliseconds of a call, the median of some rounds."""
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        call()
        times.append(time.process_time() - begun)
    return float(np.median(times)) * 1e3
