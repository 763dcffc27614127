"""Checkpoints of long trainings: what an interrupted `endcap train` goes on from."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.artefact import new_artefact, read_manifest, remove_artefact, save_array, verify
from endcap.errors import DamagedArtefact, InputError

SAVE_EVERY_S = 30.0

log = logging.getLogger("endcap.models")


class Checkpoint:
    """The last state of one stage of a training; without a folder nothing is kept.

    Args:
        folder: where stages are stored, one folder each, or None.
        key: what the state depends on (configuration, seed, data). A state of another `config` is refused, one that
            differs in anything else, such as yesterday's data, is not used.
    """

    def __init__(self, folder: Path | None, key: Mapping[str, Any]) -> None:
        self.folder, self.saved_at = folder, time.monotonic()
        self.key = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        self.config = json.loads(json.dumps(key.get("config", {}), default=str))  # as it is stored: no tuples

    def stage(self, name: str) -> Checkpoint:
        """The checkpoint of one part of the training."""
        part = Checkpoint(self.folder / name if self.folder else None, {})
        part.key, part.config = self.key, self.config
        return part

    def load(self) -> tuple[int, dict[str, NDArray[Any]]]:
        """(steps done, arrays); (0, {}) where there is nothing to go on from. What is damaged is named and not used.

        Raises:
            InputError: if something else lies there, or a state of other settings.
        """
        if self.folder is None or not self.folder.is_dir():
            return 0, {}
        try:
            manifest = read_manifest(self.folder, kind="checkpoint")
            verify(self.folder, manifest)
        except DamagedArtefact as error:
            log.warning("%s: a damaged checkpoint is passed over, this training starts anew", error)
            return 0, {}
        if manifest["key"] != self.key:
            self._check_config(manifest.get("config", {}))
            log.warning("%s: a checkpoint of other data or another seed, this training starts anew", self.folder)
            return 0, {}
        arrays = {path.stem: np.load(path, allow_pickle=False) for path in self.folder.glob("*.npy")}
        return int(manifest["step"]), arrays

    def due(self) -> bool:
        """Whether the last time is long enough ago to keep the state again."""
        return self.folder is not None and time.monotonic() - self.saved_at >= SAVE_EVERY_S

    def save(self, step: int, arrays: Mapping[str, NDArray[Any]], *, now: bool = False) -> None:
        """Keep the state after `step` steps, if the last time is `SAVE_EVERY_S` ago or it must be `now`."""
        if self.folder is None or not (now or self.due()):
            return
        with new_artefact(
            self.folder, {"kind": "checkpoint", "key": self.key, "config": self.config, "step": step}
        ) as building:
            for name, array in arrays.items():
                save_array(building / f"{name}.npy", array)
        self.saved_at = time.monotonic()

    def _check_config(self, stored: Mapping[str, Any]) -> None:
        for name in sorted(set(stored) | set(self.config)):
            if stored.get(name) != self.config.get(name):
                raise InputError(
                    f"{self.folder}: a training with {name}={stored.get(name)} was interrupted here, this one has "
                    f"{self.config.get(name)}: give the same settings to go on with it, or remove {self.folder}"
                )

    def remove(self) -> None:
        """Forget all stages at once: the trained model is stored."""
        if self.folder is not None and self.folder.is_dir():
            remove_artefact(self.folder)
