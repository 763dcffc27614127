"""What the HTTP routes stand on: settings, live state, the release that is served, and the figures."""

from __future__ import annotations

import hmac
import os
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
from endcap.serve.problems import Flaw, Refused
from endcap.serve.questions import Answer, Question
from endcap.serve.state import LiveState
from endcap.serve.surfaces import read_surfaces
from endcap.serve.switch import Switch
from endcap.serve.telemetry import Telemetry
from endcap.shop import duration

KEY_VARIABLE = "ENDCAP_API_KEY"


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a server is set up.

    Attributes:
        releases: the folder that `publish` writes to; state: the live state's file; surfaces: a surfaces.toml;
        api_key_file: holds the key that requests must carry; else the variable ENDCAP_API_KEY; else none is needed;
        poll_s: how often a new release is looked for; stale_after: older training data make answers `stale`.
    """

    releases: str
    state: str = "state.db"
    surfaces: str | None = None
    api_key_file: str | None = None
    poll_s: Annotated[float, Meta(gt=0, le=3600)] = 1.0
    stale_after: str = "7d"


class Service:
    """One server, without HTTP."""

    def __init__(self, settings: ServerSettings) -> None:
        surfaces = read_surfaces(None if settings.surfaces is None else Path(settings.surfaces))
        self.settings, self.telemetry = settings, Telemetry()
        self.stale_after = duration(settings.stale_after)
        self._key = read_key(settings.api_key_file)
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

    def admits(self, key: str | None) -> bool:
        """Whether a request with this key may pass."""
        return self._key is None or hmac.compare_digest((key or "").encode("utf-8", "replace"), self._key)

    @property
    def needs_key(self) -> bool:
        return self._key is not None

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


def read_key(path: str | None) -> bytes | None:
    """The API key from a file, else from the environment, else None.

    Raises:
        InputError: if the file cannot be read or holds no key.
    """
    if path is None:
        return os.environ.get(KEY_VARIABLE, "").encode() or None
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--api-key-file {path}: {error}") from None
    if not key:
        raise InputError(f"--api-key-file {path}: the file is empty; write the key into it")
    return key.encode()


def _refuse_flawed(flaws: list[Flaw], n: int) -> None:
    if flaws:
        raise Refused(flaws, n)
