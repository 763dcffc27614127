"""Token buckets: what passes, who counts as one client, and that memory stays bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.serve.limits import Buckets, client_of


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_then_the_rate():
    clock = Clock()
    buckets = Buckets(8, 3, clock=clock)
    assert [buckets.wait("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.wait("a") == 0.125
    assert buckets.wait("b") == 0, "each client has its own"
    clock.now += 0.0625
    assert buckets.wait("a") == 0.0625, "asking too early costs nothing"
    clock.now += 0.0625
    assert buckets.wait("a") == 0
    clock.now += 3600
    assert [buckets.wait("a") > 0 for _ in range(5)] == [False, False, False, True, True], "a bucket holds so many"


@given(
    pauses=st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=60),
    rate=st.floats(0.5, 20),
    burst=st.integers(1, 10),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_never_more_passes_than_burst_and_rate_allow(pauses: list[float], rate: float, burst: int):
    clock = Clock()
    buckets = Buckets(rate, burst, clock=clock)
    start, passed = clock.now, 0
    for pause in pauses:
        clock.now += pause
        passed += buckets.wait("a") == 0
        assert passed <= burst + rate * (clock.now - start) + 1e-6


def test_clients_seen_least_recently_are_forgotten():
    clock = Clock()
    buckets = Buckets(1, 1, remembered=100, clock=clock)
    assert buckets.wait("regular") == 0
    for number in range(100_000):
        buckets.wait(f"10.0.{number}")
        if number % 50 == 0:
            assert buckets.wait("regular") > 0, "who goes on asking stays known"
    assert len(buckets) == 100


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::no address", "::no address", True),
    ],
)
def test_who_is_one_client(one: str, other: str, same: bool):
    assert (client_of((one, 1)) == client_of((other, 2))) is same


def test_who_comes_by_a_local_socket_is_one_client():
    assert client_of(None) == client_of(None)
    assert len(client_of(("x" * 10_000, 1))) < 100
