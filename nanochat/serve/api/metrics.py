"""Numbers for Prometheus: requests, times, tokens, and what the models are doing now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_GAUGES = {
    "slots": "Answers that a model can write at once.",
    "running": "Answers that are being written.",
    "waiting": "Requests that wait for a slot.",
}
_COUNTERS = {
    "prompt_tokens": "Tokens of prompts.",
    "cached_tokens": "Tokens of prompts that were in the cache.",
    "generated_tokens": "Tokens of answers.",
    "steps": "Steps of a model.",
}
Stats = Mapping[str, Mapping[str, float]]  # model -> name -> number


class Metrics:
    """Counts; ``models`` says on each reading what every loaded model has done and does."""

    def __init__(self, models: Callable[[], Stats]) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_Models(models))  # type: ignore[arg-type]
        self._requests = Counter(
            "nanochat_requests", "Requests that were answered.", ("route", "method", "status"),
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "nanochat_request_seconds", "From a request to the last byte of its answer.", ("route",),
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self._first = Histogram(
            "nanochat_first_token_seconds", "From a request to the first token of its answer.", ("model",),
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request has been answered."""
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)

    def answer(self, model: str, first_token_s: float) -> None:
        """One answer has been written."""
        self._first.labels(model).observe(first_token_s)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class _Models:
    def __init__(self, stats: Callable[[], Stats]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        loaded = GaugeMetricFamily("nanochat_models_loaded", "Models in memory.")
        loaded.add_metric([], len(stats))
        yield loaded
        for kind, names in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name, text in names.items():
                family = kind(f"nanochat_{name}", text, labels=["model"])
                for model, values in stats.items():
                    family.add_metric([model], values[name])
                yield family
