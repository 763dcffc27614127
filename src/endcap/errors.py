"""Errors that a person can act on: what is wrong, where, and how to mend it, in one line."""

from __future__ import annotations


class EndcapError(Exception):
    """Something failed while working (exit code 1)."""

    exit_code = 1


class InputError(EndcapError):
    """The input or the arguments are wrong (exit code 2, or a 4xx answer over HTTP)."""

    exit_code = 2


class DamagedArtefact(EndcapError):
    """A stored folder (shop, model, release) is incomplete or was changed after it was written."""

    exit_code = 2


class DiskFull(EndcapError):
    """There is no room on the disk for what was to be written; what was there before is unchanged."""
