"""The request queue: order, rejection, timeouts, and requests during loading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.support.client import error_of, get, post, queue, script, sdk, text_script, wait_for_queue
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def narrow() -> Iterator[ServerProcess]:
    """A server with one slot and three places in the queue."""
    with running_server(
        "--backend", "scripted", "--slots", "4", "--max-concurrency", "1", "--queue-size", "3"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def hasty() -> Iterator[ServerProcess]:
    """A server with one slot and a timeout of one second."""
    with running_server("--backend", "scripted", "--slots", "1", "--queue-timeout", "1") as server:
        yield server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def test_queue_is_served_in_order_within_each_priority(
    narrow: ServerProcess, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    gate, order = tmp_path / "gate", tmp_path / "order"
    first = pool.submit(post, narrow, {"messages": script(["until", str(gate)])})
    wait_for_queue(narrow, 1)
    waiting = []
    for number, (name, tier) in enumerate([("low", "flex"), ("normal", None), ("high", "priority")], 1):
        body = {"messages": script(["append_line", str(order), name]), "service_tier": tier}
        waiting.append(pool.submit(post, narrow, body))
        wait_for_queue(narrow, 1, number)
    gate.touch()
    assert [response.result().status_code for response in (first, *waiting)] == [200] * 4
    assert order.read_text().split() == ["high", "normal", "low"]


def test_full_queue_is_a_429_with_retry_after(narrow: ServerProcess, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    blocked: dict[str, Any] = {"messages": script(["until", str(gate)], ["text", "done"])}
    waiting = []
    for number in range(4):
        waiting.append(pool.submit(post, narrow, blocked))
        wait_for_queue(narrow, 1, number)
    stats = get(narrow, "/v1/queue/stats").json()["queue_stats"]
    assert stats == {
        "running": True,
        "queue_size": 3,
        "max_queue_size": 3,
        "active_requests": 1,
        "max_concurrency": 1,
    }
    for stream in (False, True):
        rejected = post(narrow, {**blocked, "stream": stream})
        error = error_of(rejected, 429)
        assert error == {
            "message": "Too many requests. Service is at capacity.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        assert 1 <= int(rejected.headers["retry-after"]) <= 120
    with sdk(narrow) as client, pytest.raises(openai.RateLimitError, match="at capacity"):
        client.chat.completions.create(model="m", messages=blocked["messages"])
    gate.touch()
    assert [response.result().status_code for response in waiting] == [200] * 4


@pytest.mark.parametrize("stream", [False, True])
def test_queue_timeout_is_a_504(hasty: ServerProcess, pool: ThreadPoolExecutor, tmp_path: Path, stream: bool) -> None:
    gate, body = tmp_path / "gate", {"messages": text_script("x"), "stream": stream}
    steps: list[list[Any]] = [["text", "flows"], ["until", str(gate)]]
    with httpx2.stream(
        "POST", f"{hasty.url}/v1/chat/completions", json={"messages": script(*steps), "stream": True}
    ) as flowing:
        wait_for_queue(hasty, 1)
        error = error_of(post(hasty, body), 504)
        assert (error["type"], error["code"]) == ("timeout_error", "queue_timeout")
        # A stream that has started is not ended.
        gate.touch()
        assert "[DONE]" in flowing.read().decode()
    wait_for_queue(hasty, 0)


def test_response_timeout_is_a_504_and_frees_the_slot(hasty: ServerProcess) -> None:
    error = error_of(post(hasty, {"messages": script(["repeat", "x"])}), 504)
    assert error["code"] == "queue_timeout"
    wait_for_queue(hasty, 0)
    assert post(hasty, {"messages": text_script("x")}).status_code == 200


def test_timeout_of_a_stream_without_text_is_an_error_event(hasty: ServerProcess, tmp_path: Path) -> None:
    response = post(hasty, {"messages": script(["until", str(tmp_path / "never")]), "stream": True})
    assert response.status_code == 200
    last = json.loads(response.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "queue_timeout"
    wait_for_queue(hasty, 0)


def test_concurrent_requests_share_the_slots(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    with running_server("--backend", "scripted", "--slots", "3") as server:
        gates = [tmp_path / str(number) for number in range(5)]
        responses = [pool.submit(post, server, {"messages": script(["until", str(gate)])}) for gate in gates]
        wait_for_queue(server, 3, 2)
        for gate in gates:
            gate.touch()
        assert [response.result().status_code for response in responses] == [200] * 5
        assert queue(server) == (0, 0)


def test_prompts_sent_while_the_model_loads_run_together(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    loaded, gate = tmp_path / "loaded", tmp_path / "gate"
    with running_server("--backend", "scripted", "--load-until", str(loaded), wait_ready=False) as server:
        server.find_url()
        prompt = json.dumps([["until", str(gate)], ["text", "a"]])
        sent = pool.submit(post, server, {"prompt": [prompt] * 3}, "/v1/completions")
        wait_for_queue(server, 0, 1)
        loaded.touch()
        wait_for_queue(server, 3)
        gate.touch()
        assert [choice["text"] for choice in sent.result().json()["choices"]] == ["a"] * 3
