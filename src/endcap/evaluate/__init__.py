"""Protocols, comparisons with intervals, and their report."""

from endcap.evaluate.contest import PROTOCOLS, evaluate
from endcap.evaluate.report import Difference, Report

__all__ = ["PROTOCOLS", "Difference", "Report", "evaluate"]
