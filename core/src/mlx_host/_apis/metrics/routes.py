"""GET /metrics, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from psutil import NoSuchProcess, Process

from mlx_host.api import Endpoints, ModelState, ModelStatus, RequestRecord, Service
from mlx_host.api.http import examples, new_router

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

# For the OpenAPI document.
EXAMPLE = 'mlx_host_requests_total{model="demo:smollm2",outcome="stop",task="chat"} 12.0\n'


class RequestCounters:
    """Counters and histograms of finished requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, description: str, *labels: str) -> Counter:
            return Counter(f"mlx_host_{name}", description, ("model", *labels), registry=registry)

        def histogram(name: str, description: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"mlx_host_{name}_seconds", description, ("model",), buckets=buckets, registry=registry)

        self._requests = counter(
            "requests", "Finished requests by outcome: a finish reason, cancelled or an error code.", "task", "outcome"
        )
        self._unparsed = counter(
            "unparsed_answers", "Responses with unparsed tool-call or reasoning markup in the content."
        )
        self._repaired = counter("repaired_tool_calls", "Tool calls whose JSON was damaged and has been repaired.")
        self._prompt = counter("prompt_tokens", "Prompt tokens, including cached ones.")
        self._cached = counter("cached_tokens", "Prompt tokens found in the prefix cache.")
        self._completion = counter("completion_tokens", "Completion tokens.")
        self._queued = histogram("queue_wait", "Time that requests waited for a slot.")
        self._duration = histogram("request_duration", "Time from a request's arrival to its end.")
        self._first = histogram("time_to_first_token", "Time from a request's arrival to its first token.")
        self._between = histogram(
            "time_between_tokens", "Time between consecutive tokens of a response.", TOKEN_SECONDS
        )

    def add(self, record: RequestRecord) -> None:
        model = record.model
        self._requests.labels(model, record.task, record.outcome).inc()
        if record.repaired_calls:
            self._repaired.labels(model).inc(record.repaired_calls)
        if record.has_unparsed_markup:
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


class ModelCollector(Collector):
    """Gauges that are read from the models when Prometheus scrapes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("mlx_host_queue_depth", "Queued requests.", labels=("model",))
        running = GaugeMetricFamily("mlx_host_running_requests", "Running requests.", labels=("model",))
        up = GaugeMetricFamily("mlx_host_model_ready", "1 while the model takes requests.", labels=("model",))
        memory = GaugeMetricFamily(
            "mlx_host_model_memory_bytes", "Resident memory of the model's process.", labels=("model",)
        )
        restarts = CounterMetricFamily("mlx_host_restarts", "Restarts of the model's process.", labels=("model",))
        batch = HistogramMetricFamily(
            "mlx_host_batch_size", "Requests that produced output per decode step.", labels=("model",)
        )
        for model in self._service.models():
            name = model.name
            waiting.add_metric((name,), model.waiting)
            running.add_metric((name,), model.running)
            up.add_metric((name,), model.state is ModelState.READY)
            restarts.add_metric((name,), model.restarts)
            batch.add_metric((name,), *_batch_sizes(model))
            if (size := _resident(model.pid)) is not None:
                memory.add_metric((name,), size)
        yield from (waiting, running, up, memory, restarts, batch)


def _batch_sizes(model: ModelStatus) -> tuple[list[tuple[str, float]], float]:
    """Return the decode steps so far as cumulative buckets, and the sum of their sizes."""
    counts = dict(model.batch_sizes)
    buckets = [(str(limit), sum(n for size, n in counts.items() if size <= limit)) for limit in BATCH_SIZES]
    return [*buckets, ("+Inf", sum(counts.values()))], sum(size * n for size, n in counts.items())


def _resident(pid: int | None) -> int | None:
    if pid is None:
        return None
    try:
        return int(Process(pid).memory_info().rss)
    except NoSuchProcess:
        return None


class MetricsEndpoints(Endpoints):
    """The endpoint that Prometheus scrapes."""

    def __init__(self, service: Service, registry: CollectorRegistry) -> None:
        self._registry = registry
        registry.register(ModelCollector(service))

    def router(self) -> APIRouter:
        router = new_router()

        @router.get("/metrics", response_class=Response, **examples(response=EXAMPLE, response_type="text/plain"))
        async def metrics() -> Response:
            """Report metrics in Prometheus' text format."""
            return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

        return router
