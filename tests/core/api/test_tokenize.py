"""POST /tokenize and /detokenize; the tokens of the scripted backend are characters."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import error_of, post, text_script
from tests.support.server import ServerProcess


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": "hé"}, [ord("^"), ord("h"), ord("é")]),
        ({"prompt": "hé", "add_special_tokens": False}, [ord("h"), ord("é")]),
        ({"prompt": "", "add_special_tokens": False}, []),
        ({"messages": text_script("a", "b")}, [0, 1]),
        ({"messages": text_script("a", "b"), "add_generation_prompt": False}, [0]),
        ({"messages": text_script("a"), "model": None, "tools": None, "chat_template_kwargs": {"x": 1}}, [0]),
    ],
)
def test_text_and_conversations_are_tokenized(server: ServerProcess, body: dict[str, Any], tokens: list[int]) -> None:
    response = post(server, body, "/tokenize").json()
    assert response == {"count": len(tokens), "max_model_len": None, "tokens": tokens, "token_strs": None}


def test_token_strings_are_returned_on_request(server: ServerProcess) -> None:
    body = post(server, {"prompt": "hé", "return_token_strs": True}, "/tokenize").json()
    assert body["token_strs"] == ["^", "h", "é"]


def test_tokens_are_detokenized(server: ServerProcess) -> None:
    assert post(server, {"tokens": [ord("h"), ord("é")]}, "/detokenize").json() == {"prompt": "hé"}
    assert post(server, {"tokens": []}, "/detokenize").json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": text_script("a")}, "prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": text_script("a"), "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"messages": text_script("a"), "continue_final_message": True}, "continue_final_message"),
        ("/tokenize", {"messages": text_script("a"), "chat_template": "{{ 1 }}"}, "chat_template"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
    ],
)
def test_invalid_requests_are_rejected(server: ServerProcess, path: str, body: dict[str, Any], param: str) -> None:
    assert error_of(post(server, body, path), 400)["param"] == param
