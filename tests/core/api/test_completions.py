"""Legacy completions as OpenAI's client and bare HTTP see them."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.support.client import error_of, events, post
from tests.support.server import ServerProcess

PATH = "/v1/completions"


def steps(*steps: list[Any]) -> str:
    """A prompt that makes the scripted backend do these steps."""
    return json.dumps(steps)


def says(*pieces: str) -> str:
    return steps(*(["say", piece] for piece in pieces))


def whole(server: ServerProcess, body: dict[str, Any]) -> dict[str, Any]:
    response = post(server, body, PATH)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert answer["object"] == "text_completion"
    return answer


def joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the pieces of one choice up; the reason comes last and once."""
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
        {"prompt": says("Hello", ", ", "world")},
        {"prompt": says()},
        {"prompt": says("naïve", " 🦊"), "echo": True},
        {"prompt": steps(["forever", "x"]), "max_tokens": 3},
        {"prompt": says("one", " t", "wo", " three"), "stop": ["three", "t"]},
        {"prompt": says("a", "stop"), "stop": "say", "echo": True},
        {"prompt": says("a", "b"), "logprobs": 0},
        {"prompt": says("a", "b"), "logprobs": 2, "echo": True},
        {"prompt": steps(["say", "a"], ["say", "b", 1], ["end", "length", 0], ["say", "d", 1]), "n": 2},
        {"prompt": [says("a"), steps(["say", "b"], ["end", "length"]), says("c", "d")], "n": 2},
        {"prompt": [1, 2, 3]},
        {"prompt": [[1, 2], [3]], "echo": True},
    ],
)
def test_streamed_is_the_same_as_whole(server: ServerProcess, body: dict[str, Any]) -> None:
    answer = whole(server, body)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = events(post(server, {**body, **options}, PATH).text)
    assert all(chunk["object"] == "text_completion" and chunk["usage"] is None for chunk in chunks)
    assert {chunk["id"] for chunk in chunks} == {last["id"]}
    pieces: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        (piece,) = chunk["choices"]
        pieces.setdefault(piece["index"], []).append(piece)
    assert [joined(pieces[index]) for index in sorted(pieces)] == answer["choices"]
    assert (last["choices"], last["usage"]) == ([], answer["usage"])


def test_choices_are_numbered_prompt_by_prompt(client: openai.OpenAI) -> None:
    prompts = [steps(["say", f"{number}a"], ["say", f"{number}b", 1]) for number in range(3)]
    answer = client.completions.create(model="m", prompt=prompts, n=2)
    assert [choice.text for choice in answer.choices] == ["0a", "0b", "1a", "1b", "2a", "2b"]
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 6)


def test_more_prompts_than_fit_into_the_queue_are_answered(server: ServerProcess) -> None:
    answer = whole(server, {"prompt": [says(str(number)) for number in range(150)]})
    assert [choice["text"] for choice in answer["choices"]] == [str(number) for number in range(150)]


def test_a_completion_is_not_parsed(client: openai.OpenAI) -> None:
    text = '<think>\nHm.\n</think>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert client.completions.create(model="m", prompt=says(text)).choices[0].text == text


def test_tokens_are_sixteen_unless_said_otherwise(client: openai.OpenAI) -> None:
    choice = client.completions.create(model="m", prompt=steps(["forever", "x"])).choices[0]
    assert (choice.text, choice.finish_reason) == ("x" * 16, "length")


def test_a_prompt_can_be_scored_without_an_answer(client: openai.OpenAI) -> None:
    prompt = says()
    choice = client.completions.create(model="m", prompt=prompt, echo=True, logprobs=1, max_tokens=0).choices[0]
    assert choice.text == prompt
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens == [prompt[:1], prompt[1:]]
    assert logprobs.text_offset == [0, 1]
    assert logprobs.token_logprobs == [None, -0.5]
    assert logprobs.top_logprobs == [None, {prompt[1:]: -0.5, "alt0": -1.5}]


def test_the_best_is_the_likeliest_by_the_token(client: openai.OpenAI) -> None:
    # Choice 0 says nothing likely, 1 says a token of -0.5, 2 says nothing at all.
    prompt = steps(["improbable", "-3"], ["say", "y", 1])
    answer = client.completions.create(model="m", prompt=prompt, best_of=3, n=2)
    assert [(choice.index, choice.text, choice.logprobs) for choice in answer.choices] == [
        (0, "y", None),
        (1, "x", None),
    ]


def test_a_chunk_comes_as_soon_as_its_text(client: openai.OpenAI) -> None:
    texts = [
        chunk.choices[0].text for chunk in client.completions.create(model="m", prompt=says("a", "b"), stream=True)
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
        ({"prompt": "a", "suffix": "refuse"}, "suffix"),
        ({"prompt": "a", "n": 2, "best_of": 1}, "best_of"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias"),
        ({"prompt": "a", "stop": ["x"] * 17}, "stop"),
        ({"prompt": [says("a"), steps(["refuse", "no"])]}, "messages"),
        ({"prompt": steps(["refuse", "no"]), "stream": True}, "messages"),
    ],
)
def test_what_cannot_be_honoured_is_refused(server: ServerProcess, body: dict[str, Any], param: str) -> None:
    assert error_of(post(server, body, PATH), 400)["param"] == param


def test_one_fault_ends_a_stream_of_several_prompts(server: ServerProcess) -> None:
    body = {"prompt": [steps(["say", "a"], ["fail", "boom"]), steps(["forever", "x"])], "max_tokens": 10**9}
    text = post(server, {**body, "stream": True}, PATH).text
    assert json.loads(text.rstrip().rpartition("data: ")[2])["error"]["code"] == "engine_failed"


def test_fields_that_change_nothing_are_named(server: ServerProcess) -> None:
    response = post(server, {"prompt": says("a"), "user": "u", "best_off": 2}, PATH)
    assert response.headers["x-mlx-host-ignored"] == "best_off, user"
