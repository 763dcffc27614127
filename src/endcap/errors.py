"""Errors that a person can act on: what is wrong, where, and how to mend it, in one line."""

from __future__ import annotations


class EndcapError(Exception):
    """Something failed while working (exit code 1).

    The message is one line that any terminal can print, whatever text of somebody else it quotes.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        line = " ".join(part.strip() for part in message.splitlines())
        super().__init__("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line))


class InputError(EndcapError):
    """The input or the arguments are wrong (exit code 2, or a 4xx answer over HTTP)."""

    exit_code = 2


class DamagedArtefact(EndcapError):
    """A stored folder (shop, model, release) is incomplete or was changed after it was written."""

    exit_code = 2


class DiskFull(EndcapError):
    """There is no room on the disk for what was to be written; what was there before is unchanged."""
