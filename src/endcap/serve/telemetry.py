"""Measurements for Prometheus: requests, latency, fallbacks, events, and what is served."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it: several workers, one set of figures


class Telemetry:
    """The figures of one server, for /metrics."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("endcap_requests", "Requests", ["method", "route", "status"], registry=registry)
        self.seconds = Histogram(
            "endcap_request_seconds", "Time to answer", ["route"], buckets=BUCKETS, registry=registry
        )
        self.fallbacks = Counter("endcap_fallbacks", "Lists that a fallback had to fill", ["step"], registry=registry)
        self.failures = Counter("endcap_model_failures", "Errors of a model", ["model"], registry=registry)
        self.events = Counter("endcap_events", "Events taken in", ["outcome"], registry=registry)
        self.switches = Counter("endcap_release_switches", "Releases gone live", registry=registry)
        self.refusals = Counter("endcap_release_refusals", "Releases refused", registry=registry)
        self.age = Gauge(
            "endcap_release_age_seconds", "Since the release was written", registry=registry, multiprocess_mode="max"
        )
        self.data_age = Gauge(
            "endcap_trained_age_seconds", "Since its models' data end", registry=registry, multiprocess_mode="max"
        )
        self.refused = Gauge(
            "endcap_release_refused", "1: the release that should be live is refused, an older one is served",
            registry=registry, multiprocess_mode="max",
        )  # fmt: skip

        self._of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; methods and routes must be those that there are, not what somebody sent."""
        key = method, route, status
        if key not in self._of:
            self._of[key] = self.requests.labels(method, route, str(status)), self.seconds.labels(route)
        counter, histogram = self._of[key]
        counter.inc()
        histogram.observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format; of all workers where they share a folder."""
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)
        return generate_latest(together)
