"""Parameters of vLLM and OpenRouter in the text APIs: honoured, rejected by name, or listed as ignored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import error_of, events, post, text_script
from tests.support.server import ServerProcess

HI = text_script("Hello", " there", " all")
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "a"},
    "/v1/responses": {"input": HI[-1]["content"]},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_tokens", 3),
        ("ignore_eos", True),
        ("bad_words", ["a"]),
        ("stop_token_ids", [1]),
        ("allowed_token_ids", [1]),
    ],
)
def test_a_parameter_that_the_model_does_not_support_is_rejected(
    server: ServerProcess, path: str, field: str, value: Any
) -> None:
    assert error_of(post(server, BODIES[path] | {field: value}, path), 400)["param"] == field


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt_logprobs", 1),
        ("truncate_prompt_tokens", 20),
        ("chat_template", "{{ messages }}"),
        ("use_beam_search", True),
        ("prompt_embeds", "AAAA"),
        ("logits_processors", ["a"]),
        ("skip_special_tokens", False),
        ("repetition_detection", {"min_count": 2}),
    ],
)
def test_a_parameter_that_would_change_the_output_is_rejected(
    server: ServerProcess, path: str, field: str, value: Any
) -> None:
    assert error_of(post(server, BODIES[path] | {field: value}, path), 400)["param"] == field


@pytest.mark.parametrize(
    ("field", "value"), [("use_beam_search", False), ("skip_special_tokens", True), ("min_tokens", 0)]
)
def test_a_default_value_is_accepted(server: ServerProcess, field: str, value: Any) -> None:
    assert post(server, {"messages": HI, field: value}).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_the_stop_string_is_included_if_requested(server: ServerProcess, stream: bool) -> None:
    body = {"messages": HI, "stop": [" there"], "include_stop_str_in_output": True, "stream": stream}
    response = post(server, body)
    if stream:
        deltas = [event["choices"][0]["delta"] for event in events(response.text) if event != "[DONE]"]
        text = "".join(delta.get("content") or "" for delta in deltas)
    else:
        text = response.json()["choices"][0]["message"]["content"]
    assert text == "Hello there"


def test_max_tokens_minus_one_is_no_limit(server: ServerProcess) -> None:
    assert post(server, {"messages": HI, "max_tokens": -1}).json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", {"messages": HI}), ("/v1/completions", {"prompt": "a"})],
)
def test_continuous_usage_is_in_every_chunk(server: ServerProcess, path: str, body: dict[str, Any]) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    response = post(server, body | {"stream": True, "stream_options": options}, path)
    chunks = [event for event in events(response.text) if event != "[DONE]"]
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == chunks[-1]["usage"]["completion_tokens"] > 0
    assert chunks[-1]["choices"] == []


@pytest.mark.parametrize(
    ("path", "fields", "ignored"),
    [
        ("/v1/chat/completions", {"thinking_token_budget": 5}, "thinking_token_budget"),
        ("/v1/chat/completions", {"reasoning": {"max_tokens": 5}}, "reasoning.max_tokens"),
        (
            "/v1/chat/completions",
            {"thinking": {"type": "enabled", "budget_tokens": 5}},
            "thinking.budget_tokens",
        ),
        ("/v1/responses", {"reasoning": {"max_tokens": 5}}, "reasoning.max_tokens"),
    ],
)
def test_a_limit_of_reasoning_that_the_model_cannot_enforce_is_ignored(
    server: ServerProcess, path: str, fields: dict[str, Any], ignored: str
) -> None:
    response = post(server, BODIES[path] | fields, path)
    assert response.status_code == 200
    assert ignored in response.headers["x-mlx-host-ignored"].split(", ")


def test_two_limits_of_reasoning_are_rejected(server: ServerProcess) -> None:
    body = {"messages": HI, "thinking_token_budget": 5, "reasoning": {"max_tokens": 5}}
    assert error_of(post(server, body), 400)["param"] == "thinking_token_budget"
