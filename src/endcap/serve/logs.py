"""Log lines that say what went wrong and hold nothing of what people sent."""

from __future__ import annotations

import traceback
from pathlib import Path


def where(error: BaseException) -> str:
    """An error's kind and where it was raised, innermost call last; not its text, which may quote a request."""
    frames = traceback.extract_tb(error.__traceback__)
    calls = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{type(error).__name__} at {calls or 'no line'}" + (f", because of {where(cause)}" if cause else "")


def one_line(error: BaseException) -> str:
    """The text of an error of ours, which quotes no request, as one line."""
    return " ".join(str(error).split())
