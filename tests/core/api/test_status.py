"""Health, queue statistics and metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.support.client import children, error_of, eventually, get, post, script, text_script
from tests.support.server import ServerProcess, running_server


def test_health_of_a_ready_server(server: ServerProcess) -> None:
    assert (get(server, "/health").status_code, get(server, "/health").json()) == (
        200,
        {"status": "ok", "models": {"scripted": "ready"}},
    )
    assert get(server, "/health/live").json() == {"status": "live"}
    assert (get(server, "/health/ready").status_code, get(server, "/health/ready").json()) == (200, {"status": "ready"})


def test_health_supports_head(server: ServerProcess) -> None:
    for path in ("/health", "/v1/models", "/v1/models/scripted"):
        head, whole = httpx2.head(server.url + path), get(server, path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(whole.content))
    assert httpx2.head(f"{server.url}/nowhere").status_code == 404
    error = httpx2.head(f"{server.url}/v1/chat/completions")
    assert (error.status_code, error.headers["allow"]) == (405, "POST")


def test_queue_stats(server: ServerProcess) -> None:
    counts = {"queue_size": 0, "max_queue_size": 100, "active_requests": 0, "max_concurrency": 8}
    stats = eventually(
        lambda: (s := get(server, "/v1/queue/stats").json())["queue_stats"]["active_requests"] == 0 and s
    )
    assert stats == {
        "status": "ok",
        "queue_stats": {"running": True, **counts},
        "models": {"scripted": {"running": True, **counts}},
    }


def test_server_is_live_but_not_ready_while_a_model_loads(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running_server("--backend", "scripted", "--load-until", str(gate), wait_ready=False) as server:
        server.find_url()
        assert get(server, "/health/live").status_code == 200
        ready = get(server, "/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "loading"})
        health = get(server, "/health")
        assert (health.status_code, health.json()["models"]) == (503, {"scripted": "loading"})
        assert get(server, "/v1/queue/stats").json()["queue_stats"]["running"] is False
        gate.touch()
        server.wait_for_line("ready: ")
        assert get(server, "/health/ready").status_code == 200


def test_failed_model_makes_the_server_unready_without_disclosing_the_error(tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--load-until", str(tmp_path)) as server:
        for deaths in range(3):
            eventually(lambda: get(server, "/health/ready").status_code == 200)
            (child,) = children(server)
            child.kill()
            server.wait_for_line("model scripted: failed" if deaths == 2 else f"Restarting in {0.5 * 2**deaths} s")
        ready = get(server, "/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "failed"})
        assert str(tmp_path) not in get(server, "/health").text
        error = error_of(post(server, {"messages": text_script("hi")}), 503)
        assert error["code"] == "model_unavailable"
        assert all(fact in error["message"] for fact in ("3 times", "60 s", "SIGKILL"))


def samples(server: ServerProcess) -> dict[tuple[str, ...], float]:
    """All samples: (name, label values …) to value, without the label `model`."""
    found = {}
    for family in text_string_to_metric_families(get(server, "/metrics").text):
        for sample in family.samples:
            labels = [value for key, value in sorted(sample.labels.items()) if key != "model"]
            found[(sample.name.removeprefix("mlx_host_"), *labels)] = sample.value
    return found


def test_metrics_count_requests_tokens_and_times() -> None:
    with running_server("--backend", "scripted") as server:
        bodies: list[dict[str, Any]] = [
            {"messages": text_script("a", "b", "c")},
            {"messages": text_script("a", "b", "c"), "stream": True},
            {"messages": script(["repeat", "x"]), "max_tokens": 5},
            {"messages": script(["reject", "no"])},
            {"messages": script(["fail", "no"])},
        ]
        for body in bodies:
            post(server, body)
        found = samples(server)
        assert found["requests_total", "stop", "chat"] == 2
        assert found["requests_total", "length", "chat"] == 1
        assert found["requests_total", "invalid_request_error", "chat"] == 1
        assert found["requests_total", "engine_failed", "chat"] == 1
        assert found["prompt_tokens_total",] == 3 + 3 + 1 + 1
        assert found["cached_tokens_total",] == 0
        assert found["completion_tokens_total",] == 3 + 3 + 5
        assert found["queue_wait_seconds_count",] == 5
        assert found["request_duration_seconds_count",] == 5
        assert found["time_to_first_token_seconds_count",] == 3
        assert found["time_between_tokens_seconds_count",] <= 2 + 2 + 4
        assert found["batch_size_bucket", "1"] == found["batch_size_count",] > 10
        assert (found["queue_depth",], found["running_requests",], found["restarts_total",]) == (0, 0, 0)
        assert found["model_ready",] == 1
        assert found["model_memory_bytes",] > 1_000_000
        assert re.search(
            r'mlx_host_requests_total\{model="scripted",outcome="stop",task="chat"\} 2\.0', get(server, "/metrics").text
        )
