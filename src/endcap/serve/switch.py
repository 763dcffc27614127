"""Which release is served: notices a new one, opens it aside, and swaps one reference when it is ready."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from endcap import release
from endcap.errors import EndcapError
from endcap.serve.serving import Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import Surface
from endcap.serve.telemetry import Telemetry

log = logging.getLogger("endcap.serve")


class Refusal(NamedTuple):
    """A release that should be live and cannot be served."""

    name: str
    why: str


class Switch:
    """Holds the release that answers now; a request takes `current` once and keeps it to its end.

    The last two releases stay open, so that a rollback is immediate. A release that is damaged, or lacks a model that
    a surface asks for, is refused and the one before it goes on answering.

    Raises:
        InputError: if no release is live, or the surfaces do not fit it; DamagedArtefact: if it was changed.
    """

    def __init__(self, to: Path, surfaces: Mapping[str, Surface], state: LiveState, telemetry: Telemetry) -> None:
        self.to, self.surfaces, self.state, self.telemetry = to, surfaces, state, telemetry
        self.previous: Serving | None = None
        self.refusal: Refusal | None = None
        self._opening = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self.current = self._open(release.live(to))

    def check(self, *, again: bool = False) -> bool:
        """Serve what is live now; true if that changed. With `again`, a refused release gets another chance."""
        with self._opening:
            self._let_go_of_removed()
            try:
                name = release.live(self.to)
            except (EndcapError, OSError) as error:
                self._refuse("CURRENT", str(error))
                return False
            if name == self.current.release.name:
                self.refusal = None
                return False
            if self.refusal and self.refusal.name == name and not again:
                return False
            return self._go_live(name)

    def watch(self, every_s: float) -> None:
        """Check from now on, in a thread, until `stop`."""
        self._watcher = threading.Thread(target=self._watch, args=(every_s,), name="release-switch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            try:
                self.check()
            except Exception:  # whatever it was, the watch goes on and the old release answers
                log.exception("looking for a new release failed")

    def _let_go_of_removed(self) -> None:
        """A release that was removed, as when somebody in it is forgotten, must not stay in memory for a rollback."""
        if self.previous is not None and not self.previous.release.folder.exists():
            self.previous = None

    def _go_live(self, name: str) -> bool:
        try:
            kept = self.previous
            opened = kept if kept is not None and kept.release.name == name else self._open(name)
        except EndcapError as error:
            self._refuse(name, str(error))
            return False
        self.previous, self.current, self.refusal = self.current, opened, None
        self.telemetry.switches.inc()
        log.info("release %s is live", name)
        return True

    def _open(self, name: str) -> Serving:
        serving = Serving.open(self.to / name, self.surfaces)
        serving.catch_up(self.state)
        return serving

    def _refuse(self, name: str, why: str) -> None:
        if self.refusal != (name, why):
            self.telemetry.refusals.inc()
            log.error("release %s is refused: %s; %s goes on answering", name, why, self.current.release.name)
        self.refusal = Refusal(name, why)
