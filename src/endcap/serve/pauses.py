"""Keeping the interpreter's own pauses short, so that a request does not wait for something it has no part in."""

from __future__ import annotations

import gc
import sys

HAND_OVER_S = 0.0005


def shorten_pauses() -> None:
    """Call once in a process, when all is imported and before anything is opened.

    A full garbage collection no longer looks at what imports have left, which is most of what there is. And a thread
    that opens a release hands the interpreter over ten times sooner than Python's 5 ms: the answering thread asks for
    it back after each system call and every search.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(HAND_OVER_S)


def leave_alone() -> None:
    """Call once the first release is open: garbage collections no longer look at it, either.

    Looking at all that a large shop's models are made of would make somebody's answer wait.
    It is let go all the same when two others have followed, since nothing in it points back to what holds it.
    """
    gc.collect()
    gc.freeze()
