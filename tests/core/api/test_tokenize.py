"""POST /tokenize and /detokenize, whose characters are the scripted backend's tokens."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import error_of, post, says
from tests.support.server import ServerProcess


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": "hé"}, [ord("^"), ord("h"), ord("é")]),
        ({"prompt": "hé", "add_special_tokens": False}, [ord("h"), ord("é")]),
        ({"prompt": "", "add_special_tokens": False}, []),
        ({"messages": says("a", "b")}, [0, 1]),
        ({"messages": says("a", "b"), "add_generation_prompt": False}, [0]),
        ({"messages": says("a"), "model": None, "tools": None, "chat_template_kwargs": {"x": 1}}, [0]),
    ],
)
def test_tokens_of_a_text_or_a_conversation(server: ServerProcess, body: dict[str, Any], tokens: list[int]) -> None:
    answer = post(server, body, "/tokenize").json()
    assert answer == {"count": len(tokens), "max_model_len": None, "tokens": tokens, "token_strs": None}


def test_strings_on_demand(server: ServerProcess) -> None:
    answer = post(server, {"prompt": "hé", "return_token_strs": True}, "/tokenize").json()
    assert answer["token_strs"] == ["^", "h", "é"]


def test_detokenize_turns_tokens_back(server: ServerProcess) -> None:
    assert post(server, {"tokens": [ord("h"), ord("é")]}, "/detokenize").json() == {"prompt": "hé"}
    assert post(server, {"tokens": []}, "/detokenize").json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": says("a")}, "prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": says("a"), "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"messages": says("a"), "continue_final_message": True}, "continue_final_message"),
        ("/tokenize", {"messages": says("a"), "chat_template": "{{ 1 }}"}, "chat_template"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
    ],
)
def test_what_cannot_be_read_is_refused(server: ServerProcess, path: str, body: dict[str, Any], param: str) -> None:
    assert error_of(post(server, body, path), 400)["param"] == param
