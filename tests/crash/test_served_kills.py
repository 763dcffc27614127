"""A server is killed (SIGKILL) while a client writes: what it acknowledged is there once, anything else at most once.

See `test_kills.py` for how to draw other points: `ENDCAP_KILLS`, `ENDCAP_KILL_SEED`.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from endcap.jobs.drain import drain
from endcap.serve.state import LiveState
from endcap.shop.storage import current_generation

from .harness import SERVE, Lab, serving
from .test_kills import SEED

FEW, MANY = 1, 20
LONGEST_S = 1.2


class Client:
    """Writes until it is cut off, and knows what was acknowledged."""

    def __init__(self, address: str, round_: int) -> None:
        self.place, self.round = urlsplit(address), round_
        self.sent: list[str] = []
        self.acknowledged: list[str] = []
        self.priced: dict[str, float] = {}
        self.thread = threading.Thread(target=self._write)
        self.thread.start()

    def _write(self) -> None:
        connection = http.client.HTTPConnection(self.place.hostname or "", self.place.port, timeout=30)
        try:
            for batch in range(10_000):
                ids = [f"live {self.round} {batch} {row}" for row in range(1 + batch % 7)]
                events = [{"event_id": name, "user": "u1", "item": "i1", "interaction": "click"} for name in ids]
                self.sent += ids
                self._ask(connection, "POST", "/v1/events", events)
                self.acknowledged += ids
                if batch % 5 == 0:
                    price = float(1 + batch)
                    self._ask(connection, "PUT", "/v1/items", {"item": f"new {self.round}", "price": price})
                    self.priced[f"new {self.round}"] = price
        except (OSError, http.client.HTTPException):
            return  # the server is gone

    def _ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any) -> None:
        connection.request(method, path, json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said


def draw(count: int, seed: int) -> list[float]:
    draws = random.Random(seed)
    return [draws.random() for _ in range(count)]


def kill_while_written(folder: Path, shares: list[float]) -> None:
    """Kill one server after the other over one state file, and at last drain it into the shop."""
    clients = []
    for number, share in enumerate(shares):
        with serving(folder) as (address, process):
            clients.append(Client(address, number))
            time.sleep(0.02 + share * LONGEST_S)
            os.kill(process.pid, signal.SIGKILL)
            clients[-1].thread.join()
        check_recorded(folder, clients)
    with serving(folder) as (address, process):
        resent = Client(address, 0)  # the first client sends again all that it ever sent
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
        resent.thread.join()
    check_recorded(folder, [*clients, resent])
    with LiveState(folder / "state.db") as state:
        recorded = state.count_events()
    before = current_generation(folder / "shop").manifest["counts"]["events"]
    drain(folder / "state.db", folder / "shop")
    assert current_generation(folder / "shop").manifest["counts"]["events"] == before + recorded


def check_recorded(folder: Path, clients: list[Client]) -> None:
    """Each acknowledged event once, no event twice, none that nobody sent; items as last acknowledged, or as sent."""
    with LiveState(folder / "state.db") as state:
        ids = state.pending_events()["event_id"].to_pylist()
        prices = {update.item: update.price for update in state.item_changes()[0]}
    assert len(ids) == len(set(ids))
    assert set(ids) >= {name for client in clients for name in client.acknowledged}
    assert set(ids) <= {name for client in clients for name in client.sent}
    for client in clients:
        for item, price in client.priced.items():
            assert prices[item] is not None
            assert prices[item] >= price or client is not clients[-1]


def start_folder(lab: Lab, name: str) -> Path:
    folder = lab.bases.copy("live", lab.folder / name)
    (folder / "state.db").unlink()
    return folder


def test_nothing_acknowledged_is_lost_or_doubled(lab: Lab) -> None:
    shares = draw(max(FEW, int(os.environ.get("ENDCAP_KILLS", 0)) // 10), SEED)
    print("seed", SEED, "shares", shares)
    kill_while_written(start_folder(lab, "served"), shares)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_or_doubled_in_many_kills(lab: Lab) -> None:
    kill_while_written(start_folder(lab, "served-long"), draw(MANY, SEED + 1))


@pytest.mark.slow
def test_killed_while_it_starts(lab: Lab) -> None:
    """Any moment of the start, also that in which it makes its state file: the next start serves."""
    folder = start_folder(lab, "starting")
    for share in draw(1, SEED):
        process = subprocess.Popen(SERVE, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(share * 2)
        process.kill()
        process.communicate()
    with serving(folder) as (address, _):
        client = Client(address, 0)
        time.sleep(0.2)
    client.thread.join()
    assert client.acknowledged
    check_recorded(folder, [client])
