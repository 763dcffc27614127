"""How much one client, and all of them together, may ask of a server."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

CLIENTS_REMEMBERED = 10_000
ADDRESS_CHARACTERS = 64
IPV6_NETWORK_BITS = 64  # what one customer gets; whoever has one such network has all its addresses


class Buckets:
    """A token bucket a client: `burst` requests at once, then `rate` a second.

    The clients seen least recently are forgotten, so that memory is bounded; one who comes back has a full bucket.

    Args:
        rate: tokens a second; burst: how many a bucket holds; clock: seconds that only grow.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        remembered: int = CLIENTS_REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate, self.burst, self.remembered, self.clock = rate, burst, remembered, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: tokens left, when

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, client: str) -> float:
        """Take a token; 0 if there was one, else in how many seconds there will be."""
        now = self.clock()
        tokens, at = self._buckets.get(client, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - at) * self.rate)
        passes = tokens >= 1
        self._buckets[client] = (tokens - 1 if passes else tokens, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > self.remembered:
            self._buckets.popitem(last=False)
        return 0.0 if passes else (1 - tokens) / self.rate


def client_of(address: tuple[str, int] | None) -> str:
    """Whom a connection counts for: an IPv4 address, an IPv6 network, or all who come by a local socket."""
    if address is None:
        return "local"
    host = address[0][:ADDRESS_CHARACTERS]
    return _network(host) if ":" in host else host


@lru_cache(CLIENTS_REMEMBERED)
def _network(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:  # whatever a trusted proxy calls an address
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, IPV6_NETWORK_BITS), strict=False))
