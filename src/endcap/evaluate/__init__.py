"""Protocols, comparisons with intervals, their report, and the tuner."""

import sys
from types import ModuleType

from endcap.evaluate.by_user import split_people
from endcap.evaluate.contest import PROTOCOLS, evaluate
from endcap.evaluate.report import Difference, Report
from endcap.evaluate.tuner import TuneReport, tune

__all__ = ["PROTOCOLS", "Difference", "Report", "TuneReport", "evaluate", "split_people", "tune"]


class _Verb(ModuleType):
    """Python binds `endcap.evaluate` to this package once it is imported, so the package does what its verb does."""

    __call__ = staticmethod(evaluate)


sys.modules[__name__].__class__ = _Verb
