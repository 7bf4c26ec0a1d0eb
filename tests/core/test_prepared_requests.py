"""A plugin that prepares requests decides what the server does: the number of choices, the limit, and the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import CHAT, error_of, events, post, script
from tests.support.plugin_projects import install_plugins
from tests.support.server import ServerProcess, running_server

PREPARER = """
import json
from dataclasses import replace
from mlx_host import hookimpl
from mlx_host.requests import ChatRequest, GenerationRequest

@hookimpl(wrapper=True)
def prepare_request(request, model):
    request = yield
    if isinstance(request, ChatRequest):
        first = request.messages[0].get("content")
        if first == "elsewhere":
            return replace(request, model="other")
        if first == "longer":
            return replace(request, messages=[{"role": "user", "content": json.dumps([["text", "a"]] * 5)}])
    if isinstance(request, GenerationRequest) and request.sampling.seed is not None:
        return replace(request, n=request.sampling.seed)
    return request
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    plugins = install_plugins(tmp_path_factory.mktemp("plugins"), {"preparer": PREPARER})
    with running_server("--backend", "scripted", plugins=[plugins]) as running:
        yield running


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.parametrize(("n", "prepared"), [(2, 1), (1, 3)])
def test_the_prepared_request_decides_the_number_of_choices(
    server: ServerProcess, path: str, n: int, prepared: int
) -> None:
    steps = [["text", f"text {number}", number] for number in range(prepared)]
    (message,) = script(*steps)
    body = {"messages": [message], "prompt": message["content"], "n": n, "seed": prepared}
    choices = post(server, body, path).json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(prepared))
    assert {choice["finish_reason"] for choice in choices} == {"stop"}
    chunks = events(post(server, {**body, "stream": True}, path).text)
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == set(range(prepared))


def test_another_model_is_rejected(server: ServerProcess) -> None:
    response = post(server, {"messages": [{"role": "user", "content": "elsewhere"}]})
    assert error_of(response, 500)["code"] == "plugin_failed"
    assert server.wait_for_line("preparer")


def test_tokens_are_counted_as_they_are_used(server: ServerProcess) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "longer"}]}
    used = post(server, body).json()["usage"]["prompt_tokens"]
    assert used == post(server, body, "/tokenize").json()["count"] == 5
    counted = post(server, body, "/v1/messages/count_tokens").json()["input_tokens"]
    assert counted == used
