"""What the HTTP routes stand on: settings, live state, the release that is served, and the figures."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import os
import stat
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from endcap.errors import InputError
from endcap.release import live
from endcap.serve.answerer import answer
from endcap.serve.events import Event, ItemUpdate, event_problem, event_row, item_problem, now_us
from endcap.serve.limits import Buckets
from endcap.serve.logs import one_line
from endcap.serve.problems import Flaw, Refused
from endcap.serve.questions import Answer, Question
from endcap.serve.state import LiveState
from endcap.serve.surfaces import read_surfaces
from endcap.serve.switch import Switch
from endcap.serve.telemetry import Telemetry
from endcap.shop import duration

KEY_VARIABLE = "ENDCAP_API_KEY"

log = logging.getLogger("endcap.serve")


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a server is set up.

    Attributes:
        releases: the folder that `publish` writes to; state: the live state's file; surfaces: a surfaces.toml;
        api_key_file: keys, one a line, of which requests must carry one; else the variable ENDCAP_API_KEY; else none
            is needed;
        rate: requests a second that one client may send, a client being a key or else an address; None: as many as
            they like; burst: how many at once, twice the rate where it is not given; of each worker;
        max_in_flight: requests that are answered at once, of each worker; more get a 503;
        trusted_proxies: addresses, with commas, whose X-Forwarded-For is believed; None: nobody's;
        poll_s: how often a new release is looked for; stale_after: older training data make answers `stale`.
    """

    releases: str
    state: str = "state.db"
    surfaces: str | None = None
    api_key_file: str | None = None
    rate: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    max_in_flight: Annotated[int, Meta(ge=1, le=100_000)] = 512
    trusted_proxies: str | None = None
    poll_s: Annotated[float, Meta(gt=0, le=3600)] = 1.0
    stale_after: str = "7d"


class Service:
    """One server, without HTTP."""

    def __init__(self, settings: ServerSettings) -> None:
        surfaces = read_surfaces(None if settings.surfaces is None else Path(settings.surfaces))
        self.settings, self.telemetry = settings, Telemetry()
        self.stale_after = duration(settings.stale_after)
        self._keys = [_digest(key) for key in read_keys(settings.api_key_file)]
        self.buckets = _buckets(settings)
        live(Path(settings.releases))  # before a state file is made where nothing can be served
        self.state = LiveState(settings.state)
        try:
            self.switch = Switch(Path(settings.releases), surfaces, self.state, self.telemetry)
        except BaseException:
            self.state.close()
            raise

    def start(self) -> None:
        """Look for new releases from now on."""
        self.switch.watch(self.settings.poll_s)

    def close(self) -> None:
        """Finish all writes and let go of the files."""
        self.switch.stop()
        self.state.close()

    def reload(self) -> bool:
        """Read the keys again and look for a new release, giving a refused one another chance; true if one went live.

        Keys that cannot be read leave those that there are.
        """
        try:
            self._keys = [_digest(key) for key in read_keys(self.settings.api_key_file)]
        except InputError as error:
            log.error("the keys stay as they were: %s", one_line(error))
        return self.switch.check(again=True)

    def admits(self, key: str | None) -> bool:
        """Whether a request with this key may pass."""
        return not self._keys or self.key_number(key or "") is not None

    def key_number(self, key: str) -> int | None:
        """Which of the keys this is, None where it is none.

        All are compared, digest with digest, so that the time tells neither length nor place of what is right.
        """
        sent = _digest(key.encode("utf-8", "replace"))
        equal = [hmac.compare_digest(sent, known) for known in self._keys]
        return equal.index(True) if any(equal) else None

    @property
    def needs_key(self) -> bool:
        return bool(self._keys)

    def answer(self, question: Question) -> Answer:
        """Answer from the release that is live now."""
        given = answer(
            question,
            self.switch.current,
            self.state,
            stale_after=self.stale_after,
            on_failure=lambda model: self.telemetry.failures.labels(model).inc(),
        )
        if given.fallback is not None:
            self.telemetry.fallbacks.labels(given.fallback).inc()
        return given

    def record(self, events: Sequence[Event]) -> tuple[list[str], Future[int]]:
        """Check events and hand them to the live state, all or none.

        Returns:
            Their ids, and a future that is done when they are safe: how many were new.

        Raises:
            Refused: naming every wrong event by its index.
        """
        interactions, now = self.switch.current.release.interactions, now_us()
        problems = ((index, event_problem(event, interactions, now)) for index, event in enumerate(events))
        _refuse_flawed([Flaw(index, why) for index, why in problems if why], len(events))
        rows = [event_row(event, now) for event in events]
        return [str(row[0]) for row in rows], self.state.record(rows)

    def update_items(self, updates: Sequence[ItemUpdate]) -> Future[int]:
        """Check changes of items and hand them to the live state, all or none.

        Raises:
            Refused: naming every wrong change by its index.
        """
        problems = ((index, item_problem(update)) for index, update in enumerate(updates))
        _refuse_flawed([Flaw(index, why) for index, why in problems if why], len(updates))
        return self.state.update_items(updates)

    def metrics(self) -> bytes:
        """All figures in Prometheus' text format."""
        release, telemetry = self.switch.current.release, self.telemetry
        telemetry.age.set(release.age())
        telemetry.data_age.set(max(0.0, (now_us() - release.trained_until) / 1e6))
        telemetry.refused.set(self.switch.refusal is not None)
        return telemetry.text()

    def readiness(self) -> dict[str, Any]:
        """What is served, and what is wrong with what should be."""
        release, refusal = self.switch.current.release, self.switch.refusal
        return {
            "status": "ready",
            "release": release.name,
            "models": list(self.switch.current.models),
            "age_seconds": round(release.age(), 1),
            "trained_age_seconds": round(max(0.0, (now_us() - release.trained_until) / 1e6), 1),
            "stale": now_us() - release.trained_until > self.stale_after,
            "refused": None if refusal is None else {"release": refusal.name, "why": refusal.why},
        }


def read_keys(path: str | None) -> list[bytes]:
    """The API keys from a file, one a line, else from the environment, else none.

    Raises:
        InputError: if the file cannot be read or holds no key.
    """
    if path is None:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        return [key.encode()] if key else []
    try:
        text, mode = Path(path).read_text(encoding="utf-8"), Path(path).stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--api-key-file {path}: {error}") from None
    keys = [line.strip().encode() for line in text.splitlines() if line.strip()]
    if not keys:
        raise InputError(f"--api-key-file {path}: the file is empty; write the key into it")
    if mode & stat.S_IROTH:
        log.warning("--api-key-file %s: everybody on this machine can read it; chmod 600 keeps it to you", path)
    return keys


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _buckets(settings: ServerSettings) -> Buckets | None:
    """What limits the rate of a client, None where nothing does.

    Raises:
        InputError: for a burst without a rate.
    """
    if settings.rate is None:
        if settings.burst is not None:
            raise InputError("--burst says how many requests may come at once above --rate; give --rate, too")
        return None
    return Buckets(settings.rate, settings.burst or math.ceil(2 * settings.rate))


def _refuse_flawed(flaws: list[Flaw], n: int) -> None:
    if flaws:
        raise Refused(flaws, n)
