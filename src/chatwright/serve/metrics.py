"""Figures for Prometheus. Labels are route templates, never paths, and no names of people."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from chatwright.serve.engine import EngineRegistry

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _EngineCollector:
    """Reads the engines' own counts when they are asked for."""

    def __init__(self, registry: EngineRegistry) -> None:
        self._registry = registry

    def describe(self) -> list[Metric]:
        """Nothing is read at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per figure, one sample per model."""
        stats = [(engine.name, engine.stats()) for engine in self._registry.all()]
        for figure, kind, text in (
            ("waiting", GaugeMetricFamily, "requests in the queue"),
            ("running", GaugeMetricFamily, "answers being generated"),
            ("prompt_tokens", CounterMetricFamily, "prompt tokens read"),
            ("completion_tokens", CounterMetricFamily, "tokens generated"),
            ("cached_tokens", CounterMetricFamily, "prompt tokens found in the prefix cache"),
            ("prefix_bytes", GaugeMetricFamily, "memory of the prefix cache"),
        ):
            family = kind(f"chatwright_engine_{figure}", text, labels=["model"])
            for name, values in stats:
                family.add_metric([name], getattr(values, figure))
            yield family


class Metrics:
    """The figures of one server."""

    def __init__(self, registry: EngineRegistry) -> None:
        self._collectors = CollectorRegistry()
        self._collectors.register(_EngineCollector(registry))
        self.requests = Counter(
            "chatwright_http_requests", "requests answered", ["method", "route", "status"], registry=self._collectors
        )
        self.seconds = Histogram(
            "chatwright_http_request_seconds", "time to the end of the answer", ["route"], buckets=SECONDS,
            registry=self._collectors,
        )  # fmt: skip
        self.open = Gauge("chatwright_http_requests_open", "requests being answered", registry=self._collectors)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._collectors)
