"""GET /metrics: what the models do, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from psutil import NoSuchProcess, Process

from mlx_host._host import Host, ModelState, RequestRecord, ServedModel

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Requests:
    """What is counted when a request has ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"mlx_host_{name}", what, ("model", *labels), registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"mlx_host_{name}_seconds", what, ("model",), buckets=buckets, registry=registry)

        self._requests = counter(
            "requests", "Requests by how they ended: a finish reason, cancelled or an error code.", "task", "outcome"
        )
        self._unparsed = counter("unparsed_answers", "Answers with a call or thinking left in the content.")
        self._prompt = counter("prompt_tokens", "Tokens of prompts, cached ones included.")
        self._cached = counter("cached_tokens", "Tokens of prompts that needed no prefill.")
        self._completion = counter("completion_tokens", "Tokens of answers.")
        self._queued = histogram("queue_wait", "Time that requests waited for a slot.")
        self._duration = histogram("request_duration", "Time from a request's arrival to its end.")
        self._first = histogram("time_to_first_token", "Time from a request's arrival to its first token.")
        self._between = histogram("time_between_tokens", "Time from one token of an answer to the next.", TOKEN_SECONDS)

    def add(self, record: RequestRecord) -> None:
        model = record.model
        self._requests.labels(model, record.task, record.outcome).inc()
        if record.warning is not None:
            self._unparsed.labels(model).inc()
        self._prompt.labels(model).inc(record.prompt_tokens)
        self._cached.labels(model).inc(record.cached_tokens)
        self._completion.labels(model).inc(record.completion_tokens)
        self._queued.labels(model).observe(record.queued)
        self._duration.labels(model).observe(record.duration)
        if record.first_token is not None:
            self._first.labels(model).observe(record.first_token)
        between = self._between.labels(model)
        for gap in record.gaps:
            between.observe(gap)


class Models(Collector):
    """What is looked up in the models when somebody asks."""

    def __init__(self, host: Host) -> None:
        self._models = host.models

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("mlx_host_queue_depth", "Requests that wait.", labels=("model",))
        running = GaugeMetricFamily("mlx_host_running_requests", "Requests that hold a slot.", labels=("model",))
        up = GaugeMetricFamily("mlx_host_model_ready", "1 while the model takes requests.", labels=("model",))
        memory = GaugeMetricFamily(
            "mlx_host_model_memory_bytes", "Resident memory of the model's process.", labels=("model",)
        )
        restarts = CounterMetricFamily("mlx_host_restarts", "Times the process was started again.", labels=("model",))
        batch = HistogramMetricFamily(
            "mlx_host_batch_size", "Requests that said something in one round of the loop.", labels=("model",)
        )
        for name, model in self._models.items():
            waiting.add_metric((name,), model.admission.waiting)
            running.add_metric((name,), model.admission.running)
            up.add_metric((name,), model.state is ModelState.READY)
            restarts.add_metric((name,), model.restarts)
            batch.add_metric((name,), *_rounds(model))
            if (size := _resident(model.pid)) is not None:
                memory.add_metric((name,), size)
        yield from (waiting, running, up, memory, restarts, batch)


def _rounds(model: ServedModel) -> tuple[list[tuple[str, float]], float]:
    """The rounds so far as cumulative buckets, and the sum of their sizes."""
    counts = dict(model.rounds)
    buckets = [(str(limit), sum(n for size, n in counts.items() if size <= limit)) for limit in BATCH_SIZES]
    return [*buckets, ("+Inf", sum(counts.values()))], sum(size * n for size, n in counts.items())


def _resident(pid: int | None) -> int | None:
    if pid is None:
        return None
    try:
        return int(Process(pid).memory_info().rss)
    except NoSuchProcess:
        return None


def routes(router: APIRouter, host: Host, registry: CollectorRegistry) -> None:
    """Add the endpoint."""
    registry.register(Models(host))

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
