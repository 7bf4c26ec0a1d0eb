"""Legacy completions with OpenAI's client and with plain HTTP."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.support.client import error_of, events, post
from tests.support.server import ServerProcess

PATH = "/v1/completions"


def steps(*steps: list[Any]) -> str:
    """A prompt that makes the scripted backend execute these steps."""
    return json.dumps(steps)


def text_script(*pieces: str) -> str:
    return steps(*(["text", piece] for piece in pieces))


def whole(server: ServerProcess, body: dict[str, Any]) -> dict[str, Any]:
    response = post(server, body, PATH)
    assert response.status_code == 200, response.text
    completion: dict[str, Any] = response.json()
    assert completion["object"] == "text_completion"
    return completion


def joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the chunks of one choice; finish_reason comes last and once."""
    assert [piece["finish_reason"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    logprobs = [piece["logprobs"] for piece in pieces if piece["logprobs"]]
    return {
        "text": "".join(piece["text"] for piece in pieces),
        "index": pieces[0]["index"],
        "logprobs": {key: [value for each in logprobs for value in each[key]] for key in logprobs[0]}
        if logprobs
        else None,
        "finish_reason": pieces[-1]["finish_reason"],
    }


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": text_script("Hello", ", ", "world")},
        {"prompt": text_script()},
        {"prompt": text_script("naïve", " 🦊"), "echo": True},
        {"prompt": steps(["repeat", "x"]), "max_tokens": 3},
        {"prompt": text_script("one", " t", "wo", " three"), "stop": ["three", "t"]},
        {"prompt": text_script("a", "stop"), "stop": "say", "echo": True},
        {"prompt": text_script("a", "b"), "logprobs": 0},
        {"prompt": text_script("a", "b"), "logprobs": 2, "echo": True},
        {"prompt": steps(["text", "a"], ["text", "b", 1], ["finish", "length", 0], ["text", "d", 1]), "n": 2},
        {"prompt": [text_script("a"), steps(["text", "b"], ["finish", "length"]), text_script("c", "d")], "n": 2},
        {"prompt": [1, 2, 3]},
        {"prompt": [[1, 2], [3]], "echo": True},
    ],
)
def test_streamed_and_plain_responses_are_equal(server: ServerProcess, body: dict[str, Any]) -> None:
    response = whole(server, body)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = events(post(server, {**body, **options}, PATH).text)
    assert all(chunk["object"] == "text_completion" and chunk["usage"] is None for chunk in chunks)
    assert {chunk["id"] for chunk in chunks} == {last["id"]}
    pieces: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        (piece,) = chunk["choices"]
        pieces.setdefault(piece["index"], []).append(piece)
    assert [joined(pieces[index]) for index in sorted(pieces)] == response["choices"]
    assert (last["choices"], last["usage"]) == ([], response["usage"])


def test_choices_are_numbered_prompt_by_prompt(client: openai.OpenAI) -> None:
    prompts = [steps(["text", f"{number}a"], ["text", f"{number}b", 1]) for number in range(3)]
    response = client.completions.create(model="m", prompt=prompts, n=2)
    assert [choice.text for choice in response.choices] == ["0a", "0b", "1a", "1b", "2a", "2b"]
    assert [choice.index for choice in response.choices] == list(range(6))
    assert response.usage is not None
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (6, 6)


def test_one_request_can_have_more_prompts_than_the_queue_has_places(server: ServerProcess) -> None:
    response = whole(server, {"prompt": [text_script(str(number)) for number in range(150)]})
    assert [choice["text"] for choice in response["choices"]] == [str(number) for number in range(150)]


def test_a_completion_is_not_parsed(client: openai.OpenAI) -> None:
    text = '<think>\nHm.\n</think>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert client.completions.create(model="m", prompt=text_script(text)).choices[0].text == text


def test_max_tokens_is_16_by_default(client: openai.OpenAI) -> None:
    choice = client.completions.create(model="m", prompt=steps(["repeat", "x"])).choices[0]
    assert (choice.text, choice.finish_reason) == ("x" * 16, "length")


def test_a_prompt_can_be_scored_without_a_completion(client: openai.OpenAI) -> None:
    prompt = text_script()
    choice = client.completions.create(model="m", prompt=prompt, echo=True, logprobs=1, max_tokens=0).choices[0]
    assert choice.text == prompt
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens == [prompt[:1], prompt[1:]]
    assert logprobs.text_offset == [0, 1]
    assert logprobs.token_logprobs == [None, -0.5]
    assert logprobs.top_logprobs == [None, {prompt[1:]: -0.5, "alt0": -1.5}]


def test_best_of_returns_the_choice_with_the_highest_logprob_per_token(client: openai.OpenAI) -> None:
    # Choice 0 has a token of -3, choice 1 a token of -0.5, choice 2 no token.
    prompt = steps(["logprob", "-3"], ["text", "y", 1])
    response = client.completions.create(model="m", prompt=prompt, best_of=3, n=2)
    assert [(choice.index, choice.text, choice.logprobs) for choice in response.choices] == [
        (0, "y", None),
        (1, "x", None),
    ]


def test_each_text_is_a_chunk(client: openai.OpenAI) -> None:
    texts = [
        chunk.choices[0].text
        for chunk in client.completions.create(model="m", prompt=text_script("a", "b"), stream=True)
    ]
    assert "".join(texts) == "ab"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", [1]]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": ["a"] * 3000}, "prompt"),
        ({"prompt": "a", "suffix": "reject"}, "suffix"),
        ({"prompt": "a", "n": 2, "best_of": 1}, "best_of"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "max_tokens": -2}, "max_tokens"),
        ({"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias"),
        ({"prompt": "a", "stop": ["x"] * 17}, "stop"),
        ({"prompt": [text_script("a"), steps(["reject", "no"])]}, "messages"),
        ({"prompt": steps(["reject", "no"]), "stream": True}, "messages"),
    ],
)
def test_unsupported_fields_are_rejected(server: ServerProcess, body: dict[str, Any], param: str) -> None:
    assert error_of(post(server, body, PATH), 400)["param"] == param


def test_one_error_ends_a_stream_of_several_prompts(server: ServerProcess) -> None:
    body = {"prompt": [steps(["text", "a"], ["fail", "boom"]), steps(["repeat", "x"])], "max_tokens": 10**9}
    text = post(server, {**body, "stream": True}, PATH).text
    assert json.loads(text.rstrip().rpartition("data: ")[2])["error"]["code"] == "engine_failed"


def test_fields_without_effect_are_listed(server: ServerProcess) -> None:
    response = post(server, {"prompt": text_script("a"), "user": "u", "best_off": 2}, PATH)
    assert response.headers["x-mlx-host-ignored"] == "best_off, user"
