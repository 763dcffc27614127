"""Load on a server in a process of its own: an open-loop generator, and what the server takes to answer.

Requests leave at times drawn beforehand, whatever the server does, and a latency counts from the time at which the
request should have left: what waits for the generator or for a slow answer before it is not forgotten. So many
connections, so many requests in flight; one that finds none free counts as an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray

CONNECTIONS = 64
CHECKED = 10  # one answer in so many is read and checked
DRAIN_S = 5.0
START_WITHIN_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")

Check = Callable[[bytes], str]
Tick = Callable[[float], None]


class Ask(NamedTuple):
    """A request as it goes over the wire, and what its answer must keep: empty, or what is wrong with it."""

    wire: bytes
    check: Check


def wire(method: str, path: str, body: bytes = b"") -> bytes:
    """An HTTP/1.1 request that keeps its connection."""
    length = f"content-length: {len(body)}\r\ncontent-type: application/json\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{length}\r\n".encode() + body


class Traffic(NamedTuple):
    """Requests of one kind: they leave `rate` times a second on average, in turn."""

    rate: float
    asks: Sequence[Ask]


@dataclass
class Outcome:
    """What happened to the requests of a run.

    Attributes:
        ms: by kind, latencies in milliseconds from when a request should have left; errors: by what went wrong;
        late_ms: how late the generator itself was; server_cpu_s, own_cpu_s: CPU-seconds; seconds: the run's length;
        page_ins: pages of mapped files that the server waited for, as on a machine that is short of memory;
        memory: (moment in seconds, resident bytes, of these anonymous ones) of the server.
    """

    ms: dict[str, NDArray[np.float64]]
    errors: Counter[str]
    late_ms: NDArray[np.float64]
    server_cpu_s: float
    own_cpu_s: float
    page_ins: int
    seconds: float
    memory: list[tuple[float, int, int]] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return len(self.late_ms)

    @property
    def cpu_ms(self) -> float:
        """CPU-milliseconds that the server took for a request."""
        return 1000 * self.server_cpu_s / max(1, self.requests)

    @property
    def all_ms(self) -> NDArray[np.float64]:
        """Latencies of all kinds."""
        return np.concatenate(list(self.ms.values()))


class ServerProcess:
    """`endcap serve` on a free port of loopback, from entering to leaving."""

    def __init__(self, releases: Path, state: Path) -> None:
        self._command = [str(Path(sys.executable).with_name("endcap")), "serve", str(releases)]
        self._command += ["--port", "0", "--state", str(state), "--poll", "0.2", "--stale-after", "5000d"]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        first = self._process.stdout.readline()  # the address, once requests are answered
        if "http://" not in first:
            raise SystemExit("the server did not start")
        address = urlsplit(first.split()[-1])
        self.host, self.port = str(address.hostname), int(address.port or 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def send(self, method: str, path: str, content: object) -> None:
        """One request beside the load."""
        body = json.dumps(content).encode()
        urlopen(
            Request(f"http://{self.host}:{self.port}{path}", body, {"content-type": "application/json"}, method=method)
        )

    def get(self, path: str) -> bytes:
        """What is answered beside the load."""
        return urlopen(f"http://{self.host}:{self.port}{path}").read()

    def cpu_s(self) -> float:
        """CPU-seconds so far, of all its threads."""
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def page_ins(self) -> int:
        """How often it has waited for the disk to bring back a page of a mapped file."""
        return int(self._stat()[9])

    def _stat(self) -> list[str]:
        return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()

    def memory(self) -> tuple[int, int]:
        """Resident bytes, and those of them that no file stands behind."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        held = {
            line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS", "RssAnon"))
        }
        return held["VmRSS"], held["RssAnon"]


def drive(
    server: ServerProcess,
    traffic: Mapping[str, Traffic],
    seconds: float,
    *,
    seed: int = 0,
    every: Mapping[float, Tick] | None = None,
) -> Outcome:
    """Send requests for a while, at times of a Poisson process for each kind.

    Args:
        every: what else happens while it runs, by its period in seconds, each in a thread of its own; told the moment.
    """
    rng = np.random.default_rng(seed)
    plan: list[tuple[float, str, Ask]] = []
    for kind, (rate, asks) in traffic.items():
        moments = np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))
        plan += [(moment, kind, asks[turn % len(asks)]) for turn, moment in enumerate(moments.tolist())]
    plan.sort(key=lambda planned: planned[0])
    # select() knows microseconds, where epoll rounds a wait up to whole milliseconds
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_Generator(server, plan, list(traffic), seconds, every or {}).run())


class _Generator:
    def __init__(
        self,
        server: ServerProcess,
        plan: list[tuple[float, str, Ask]],
        kinds: list[str],
        seconds: float,
        every: Mapping[float, Tick],
    ) -> None:
        self.server, self.plan, self.seconds, self.every = server, plan, seconds, every
        self.free: deque[_Connection] = deque()
        self.answered: dict[str, list[float]] = {kind: [] for kind in kinds}
        self.errors: Counter[str] = Counter()
        self.in_flight = 0

    async def run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            await loop.create_connection(lambda: _Connection(self), self.server.host, self.server.port)
        late = np.empty(len(self.plan))
        cpu, page_ins, own, began = self.server.cpu_s(), self.server.page_ins(), _own_cpu_s(), loop.time()
        memory: list[tuple[float, int, int]] = []
        aside = [asyncio.create_task(_repeat(period, tick, began)) for period, tick in self.every.items()]
        aside.append(asyncio.create_task(_repeat(1.0, lambda at: memory.append((at, *self.server.memory())), began)))
        for row, (moment, kind, ask) in enumerate(self.plan):
            wait = began + moment - loop.time()
            if wait > 0 or row % CONNECTIONS == 0:  # in a hurry, answers must still be read
                await asyncio.sleep(max(0.0, wait))
            late[row] = loop.time() - began - moment
            self._send(kind, ask, began + moment)
        await asyncio.sleep(max(0.0, began + self.seconds - loop.time()))
        last = loop.time() + DRAIN_S
        while self.in_flight and loop.time() < last:
            await asyncio.sleep(0.01)
        self.errors["no answer"] += self.in_flight
        outcome = Outcome(
            {kind: np.array(latencies) for kind, latencies in self.answered.items()},
            +self.errors,
            1000 * late,
            self.server.cpu_s() - cpu,
            _own_cpu_s() - own,
            self.server.page_ins() - page_ins,
            loop.time() - began,
            memory,
        )
        for task in aside:
            task.cancel()
        for connection in self.free:
            connection.close()
        return outcome

    def _send(self, kind: str, ask: Ask, intended: float) -> None:
        if not self.free:
            self.errors[f"{kind}: {CONNECTIONS} requests in flight already"] += 1
            return
        self.in_flight += 1
        self.free.popleft().send(kind, ask, intended)  # the longest idle, so that none is closed for idleness

    def answer(self, kind: str, ask: Ask, latency_s: float, status: int, body: bytes) -> None:
        """Take an answer in."""
        self.in_flight -= 1
        latencies = self.answered[kind]
        latencies.append(1000 * latency_s)
        if status != 200:
            self.errors[f"{kind}: status {status}: {body[:200]!r}"] += 1
        elif len(latencies) % CHECKED == 0 and (wrong := ask.check(body)):
            self.errors[f"{kind}: {wrong}"] += 1

    def lost(self, kind: str | None) -> None:
        """A connection broke, with a request of this kind on it."""
        if kind is not None:
            self.in_flight -= 1
            self.errors[f"{kind}: connection lost"] += 1


class _Connection(asyncio.Protocol):
    """One kept connection with at most one request on it."""

    def __init__(self, generator: _Generator) -> None:
        self._generator = generator
        self._asked: tuple[str, Ask, float] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._generator.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._generator.free:
            self._generator.free.remove(self)
        self._generator.lost(self._asked and self._asked[0])

    def close(self) -> None:
        self._transport.close()

    def send(self, kind: str, ask: Ask, intended: float) -> None:
        self._asked = kind, ask, intended
        self._transport.write(ask.wire)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head) or self._asked is None:
            return
        (kind, ask, intended), now = self._asked, asyncio.get_running_loop().time()
        self._asked, self._received = None, b""
        self._generator.free.append(self)
        self._generator.answer(kind, ask, now - intended, int(head[9:12]), body)


def _length(head: bytes) -> int:
    """The body's length as the head of an answer gives it."""
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


async def _repeat(period: float, tick: Tick, began: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(period - (loop.time() - began) % period)
        await asyncio.to_thread(tick, loop.time() - began)


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
