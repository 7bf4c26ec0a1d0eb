"""Conversations that chat templates of several kinds do not render as they are; see tests/plugins/text/templates.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.text import templates
from tests.support.client import error_of, post
from tests.support.command import mlx_host
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

KINDS = {
    "A": templates.ALTERNATING,
    "N": templates.NO_SYSTEM,
    "F": templates.SYSTEM_FIRST,
    "I": templates.KNOWN_ROLES_AND_IDS,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A random text model with each of the templates, and the calls of Qwen3-Coder."""
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"), context_length=2048)
    tables = ""
    for kind, template in KINDS.items():
        file = folder / f"{kind}.jinja"
        file.write_text(template, encoding="utf-8")
        model = {"backend": "lm", "model": str(folder), "served_model_name": kind, "chat_template_file": str(file)}
        tables += "[[models]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in model.items())
        tables += 'tool_call_parser = "qwen3_coder"\n'
    config = folder / "config.toml"
    config.write_text(tables, encoding="utf-8")
    with running_server("--config", str(config), *FAST_BLAS) as running:
        yield running


def prompt(server: ServerProcess, model: str, messages: list[dict[str, Any]], **body: Any) -> str:
    """The prompt that a conversation renders to; a completion is accepted as well."""
    body = {"model": model, "messages": messages, **body}
    response = post(server, body | {"max_tokens": 1})
    assert response.status_code == 200, response.text
    tokens = post(server, body, "/tokenize").json()["tokens"]
    assert response.json()["usage"]["prompt_tokens"] == len(tokens)
    text: str = post(server, {"model": model, "tokens": tokens}, "/detokenize").json()["prompt"]
    return text


def say(*turns: str) -> list[dict[str, Any]]:
    """Return messages from texts in the form ROLE:CONTENT."""
    return [dict(zip(("role", "content"), turn.split(":", 1), strict=True)) for turn in turns]


def assert_in_order(text: str, *parts: str) -> None:
    positions = [text.find(part) for part in parts]
    assert -1 not in positions, (parts, text)
    assert positions == sorted(positions), (parts, text)


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_a_late_system_message_stays_where_it_is(server: ServerProcess, kind: str) -> None:
    turns = say("user:One", "assistant:Two", "system:Three", "user:Four")
    text = prompt(server, kind, turns)
    assert_in_order(text, "One", "Two", "Three", "Four")
    assert ("<system_instruction>\nThree\n</system_instruction>\n\nFour" in text) == (kind != "I")
    # The prompt of the turns before it is a prefix, so that the prefix cache keeps its use.
    assert text.startswith(prompt(server, kind, turns[:2], add_generation_prompt=False))


@every_kind
def test_several_system_messages_come_first(server: ServerProcess, kind: str) -> None:
    text = prompt(server, kind, say("system:One", "developer:Two", "user:Three"))
    assert_in_order(text, "One", "Two", "Three")
    assert ("One\n\nTwo" in text) == (kind != "I")
    assert ("One\n\nTwo\n\nThree" in text) == (kind == "N")


@every_kind
def test_a_system_message_at_the_end_is_rendered(server: ServerProcess, kind: str) -> None:
    text = prompt(server, kind, say("system:One", "user:Two", "system:Three"))
    assert_in_order(text, "One", "Two", "Three")
    assert ("<system_instruction>" in text) == (kind != "I")


@every_kind
def test_consecutive_user_messages_are_rendered(server: ServerProcess, kind: str) -> None:
    text = prompt(server, kind, say("user:One", "user:Two"))
    assert_in_order(text, "One", "Two")
    assert ("One\n\nTwo" in text) == (kind == "A")


@every_kind
def test_the_developer_message_is_the_system_message(server: ServerProcess, kind: str) -> None:
    assert_in_order(prompt(server, kind, say("developer:One", "user:Two")), "One", "Two")


@every_kind
@pytest.mark.parametrize("follow_up", [False, True])
@pytest.mark.parametrize("with_tools", [False, True])
def test_calls_and_results_are_rendered(server: ServerProcess, kind: str, follow_up: bool, with_tools: bool) -> None:
    calls = [{**CALL, "id": "call_a"}, {**CALL, "id": "call_b", "function": {"name": "tides", "arguments": "{}"}}]
    messages = [
        *say("system:Be kind.", "user:Weather?"),
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_b", "content": "low"},
        {"role": "tool", "tool_call_id": "call_a", "content": "sunny"},
        *(say("user:Thanks!") if follow_up else []),
    ]
    text = prompt(server, kind, messages, **({"tools": [TOOL]} if with_tools else {}))
    assert_in_order(text, "Be kind.", "Weather?", "I look.", "Rome", "tides", "sunny", "low", *["Thanks!"] * follow_up)
    written = "<function=weather>\n<parameter=city>\nRome\n</parameter>\n</function>"
    assert (written in text) == (kind in "AN")
    assert ("<tool_response>\nsunny\n</tool_response>\n<tool_response>\nlow" in text) == (kind in "AN")
    # Described in the notation of the parser where the template does not render tools.
    assert ("<tools>" in text and "<function=example_function>" in text) == (with_tools and kind != "F")
    assert (text.index('"properties"') < text.index("Weather?")) if with_tools else ('"properties"' not in text)


@every_kind
def test_tools_that_may_not_be_called_are_not_described(server: ServerProcess, kind: str) -> None:
    body = {"model": kind, "messages": say("user:Hi"), "max_tokens": 1}
    without = post(server, body).json()["usage"]["prompt_tokens"]
    disabled = post(server, body | {"tools": [TOOL], "tool_choice": "none"})
    assert disabled.json()["usage"]["prompt_tokens"] == without


@every_kind
def test_a_result_without_an_id_belongs_to_the_call_without_a_result(server: ServerProcess, kind: str) -> None:
    calls = [{**CALL, "id": "call_a"}, {**CALL, "id": "call_b"}]
    messages = [
        *say("user:Weather?"),
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_a", "content": "sunny"},
        {"role": "tool", "content": "cloudy"},
    ]
    text = prompt(server, kind, messages)
    assert_in_order(text, "sunny", "cloudy")
    if kind == "I":
        assert_in_order(text, "[OF call_a]", "cloudy", "[OF call_b]")
    # A result of no call does not end the conversation either.
    assert "stray" in prompt(server, kind, [*say("user:Hi"), {"role": "tool", "content": "stray"}])


@every_kind
def test_legacy_functions_are_calls(server: ServerProcess, kind: str) -> None:
    messages = [
        *say("user:Weather?"),
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "function", "name": "weather", "content": "sunny"},
        *say("user:Thanks!"),
    ]
    legacy = prompt(server, kind, messages)
    assert_in_order(legacy, "weather", "Rome", "sunny", "Thanks!")


@every_kind
def test_the_assistant_may_begin(server: ServerProcess, kind: str) -> None:
    assert_in_order(prompt(server, kind, say("assistant:One", "user:Two")), "One", "Two")
    assert_in_order(prompt(server, kind, say("system:Zero", "assistant:One", "user:Two")), "Zero", "One", "Two")


@every_kind
def test_the_last_message_is_continued_if_requested(server: ServerProcess, kind: str) -> None:
    messages = say("user:Count.", "assistant:One, two, ")
    new_turn = prompt(server, kind, messages)
    open_turn = prompt(server, kind, messages, continue_final_message=True)
    assert open_turn == prompt(server, kind, messages, continue_final_message=True, add_generation_prompt=False)
    assert open_turn.endswith("One, two, ")
    assert new_turn.startswith(open_turn.rstrip())
    assert len(new_turn) > len(open_turn)


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        (say("user:Hi"), {}),
        (say("user:Hi", "assistant:Yes"), {"add_generation_prompt": True}),
        ([*say("user:Hi"), {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": "c"}]}], {}),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_a_message_that_cannot_be_continued_is_rejected(
    server: ServerProcess, path: str, messages: list[dict[str, Any]], fields: dict[str, Any]
) -> None:
    body = {"model": "F", "messages": messages, "continue_final_message": True, **fields}
    assert error_of(post(server, body, path), 400)["param"] == "continue_final_message"


@every_kind
def test_the_same_holds_for_the_other_apis(server: ServerProcess, kind: str) -> None:
    items = say("user:One", "assistant:Two", "developer:Three", "user:Four")
    call = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "sunny"}
    body: dict[str, Any] = {"model": kind, "input": [*items, call, output], "max_output_tokens": 16}
    for stream in (False, True):
        response = post(server, body | {"stream": stream}, "/v1/responses")
        assert response.status_code == 200, response.text
        assert "response.failed" not in response.text


class TestExplain:
    def explain(self, server: ServerProcess, body: dict[str, Any], path: str = "") -> dict[str, Any]:
        response = post(server, body, f"/v1/explain{path}")
        assert response.status_code == 200, response.text
        explanation: dict[str, Any] = response.json()
        dropped = {each["field"] for each in explanation["dropped"]}
        assert set(filter(None, response.headers.get("x-mlx-host-ignored", "").split(", "))) <= dropped
        return explanation

    def test_shows_the_prompt_and_how_the_conversation_was_adapted(self, server: ServerProcess) -> None:
        messages = say("system:One", "developer:Two", "user:Three", "user:Four")
        body = {"model": "A", "messages": messages, "reasoning_effort": "high", "chat_template_kwargs": {"zzz": 1}}
        explanation = self.explain(server, body)
        assert explanation["messages"] == [
            {"role": "system", "content": "One\n\nTwo"},
            {"role": "user", "content": "Three\n\nFour"},
        ]
        assert len(explanation["adaptations"]) == 2
        assert explanation["prompt"] == prompt(server, "A", messages)
        assert explanation["prompt"] == "[SYSTEM]One\n\nTwo\n[USER]Three\n\nFour\n[ASSISTANT]"
        assert explanation["generation_prompt"] == "[ASSISTANT]"
        assert {each["field"] for each in explanation["dropped"]} == {"reasoning_effort", "chat_template_kwargs.zzz"}
        assert explanation["template_kwargs"] == {"reasoning_effort": "high", "zzz": 1}
        assert explanation["parsers"] == {"reasoning": None, "tools": "qwen3_coder"}
        assert (explanation["context_length"], explanation["grammar"]) == (2048, None)

    def test_shows_what_the_template_does_not_render(self, server: ServerProcess) -> None:
        messages = [{"role": "assistant", "content": "Two", "reasoning_content": "because"}, *say("user:Three")]
        (dropped,) = self.explain(server, {"model": "F", "messages": messages})["dropped"]
        assert dropped["field"] == "messages[0].reasoning_content"

    def test_counts_the_tokens_that_the_prefix_cache_has(self, server: ServerProcess) -> None:
        body = {"model": "F", "messages": say("user:A question that no other test has."), "max_tokens": 1}
        before = self.explain(server, body)["usage"]
        assert before["cached_tokens"] < before["prompt_tokens"] // 2
        post(server, body)
        after = self.explain(server, body)["usage"]
        usage = post(server, body).json()["usage"]
        assert after["cached_tokens"] == usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1
        assert self.explain(server, body | {"cache_salt": "other"})["usage"]["cached_tokens"] == 0

    def test_shows_the_grammar(self, server: ServerProcess) -> None:
        body = {"model": "N", "messages": say("user:Hi"), "tools": [TOOL], "tool_choice": "required"}
        explanation = self.explain(server, body)
        assert "<function=weather>" in explanation["grammar"]
        assert "tools" not in {each["field"] for each in explanation["dropped"]}
        assert explanation["tools"] == []
        schema = {"name": "n", "schema": {"type": "object", "properties": {"x": {"pattern": "("}}}}
        invalid = body | {"response_format": {"type": "json_schema", "json_schema": schema}, "tools": []}
        assert post(server, invalid | {"tool_choice": "auto"}, "/v1/explain").status_code == 400

    def test_accepts_the_bodies_of_the_other_apis(self, server: ServerProcess) -> None:
        expected = self.explain(server, {"model": "N", "messages": say("system:One", "user:Two"), "max_tokens": 16})
        body: dict[str, Any] = {"model": "N", "instructions": "One", "input": "Two", "max_output_tokens": 16}
        assert self.explain(server, body, "/responses")["prompt"] == expected["prompt"]
        body = {"model": "N", "system": "One", "messages": say("user:Two"), "max_tokens": 16}
        assert self.explain(server, body, "/messages")["prompt"] == expected["prompt"]

    def test_rejects_what_the_api_rejects(self, server: ServerProcess) -> None:
        assert error_of(post(server, {"model": "N", "messages": []}, "/v1/explain"), 400)["param"] == "messages"
        assert (
            error_of(post(server, {"model": "X", "messages": say("user:Hi")}, "/v1/explain"), 404)["param"] == "model"
        )
        response = post(server, {"model": "N", "messages": say("user:Hi")}, "/v1/explain/messages")
        assert (response.status_code, response.json()["type"]) == (400, "error")

    @pytest.mark.parametrize(
        ("api", "body"),
        [
            ("chat", {"messages": say("user:Hi there")}),
            ("responses", {"input": "Hi there"}),
            ("messages", {"system": "Be kind.", "messages": say("user:Hi there"), "max_tokens": 5}),
        ],
    )
    def test_is_a_command(self, server: ServerProcess, api: str, body: dict[str, Any], tmp_path: Path) -> None:
        file = tmp_path / "request.json"
        file.write_text(json.dumps(body | {"model": "N"}), encoding="utf-8")
        text = mlx_host("explain", str(file), "--url", server.url).stdout
        assert "<start_of_turn>user" in text
        assert "in the prefix cache" in text
        printed = mlx_host("explain", "--url", server.url, "--json", "--api", api, stdin=file.read_text()).stdout
        assert "Hi there<end_of_turn>" in json.loads(printed)["prompt"]

    def test_the_command_reports_errors(self, server: ServerProcess, tmp_path: Path) -> None:
        file = tmp_path / "request.json"
        for content, url in (('{"messages": []}', server.url), ("[]", server.url), ("{}", "x")):
            file.write_text(content, encoding="utf-8")
            failed = mlx_host("explain", str(file), "--url", url)
            assert failed.returncode == 2
            assert failed.stderr.startswith("Error: ")


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def test_images_in_the_history_of_a_text_model_are_omitted(server: ServerProcess) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "Look"}, IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", **CALL}]},
        {"role": "tool", "tool_call_id": "c1", "content": [IMAGE]},
    ]
    text = prompt(server, "I", messages)
    assert text.count("[An image was omitted: this model does not accept images.]") == 2
    response = post(server, {"model": "I", "messages": messages, "max_tokens": 1})
    assert "messages.content.image_url" in response.headers["x-mlx-host-ignored"].split(", ")
    # The new message of the user is rejected.
    body = {"model": "I", "messages": [*messages, {"role": "user", "content": [IMAGE]}], "max_tokens": 1}
    assert error_of(post(server, body), 400)["param"] == "messages"


def test_an_image_that_a_tool_returned_to_a_text_model_is_omitted_in_the_messages_api(server: ServerProcess) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": source}]}
    body = {
        "model": "I",
        "max_tokens": 1,
        "messages": [
            {"role": "user", "content": "Look"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "read", "input": {}}]},
            {"role": "user", "content": [result]},
        ],
    }
    response = post(server, body, "/v1/messages")
    assert response.status_code == 200, response.text
    assert "messages.content.image" in response.headers["x-mlx-host-ignored"].split(", ")
