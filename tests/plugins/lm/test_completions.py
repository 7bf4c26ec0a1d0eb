"""Completion prompts: texts, token ids, and fill-in-the-middle for models with tokens for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlx_host.backend import LoadContext, Model
from mlx_host.errors import InvalidRequestError
from mlx_host.events import Started, TextDelta, Tokenized
from mlx_host.requests import CompletionRequest, Sampling, TokenizeRequest
from mlx_host.testing.model_contract import run_alone
from mlx_host_lm.plugin import LM

from tests.support.tiny_llama import write_tiny_llama

LAYOUTS = {
    "qwen": (("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"), "{0}{prefix}{1}{suffix}{2}"),
    "codestral": (("[SUFFIX]", "[PREFIX]", "unused"), "{0}{suffix}{1}{prefix}"),
}


def load(folder: Path) -> Model:
    return LM.load(LoadContext(str(folder), folder, LM.options(), lambda stage, done, total, note="": None))


def complete(model: Model, request: CompletionRequest) -> tuple[str, int]:
    """The completion's text and the number of prompt tokens."""
    started, *events = run_alone(model, request)
    assert isinstance(started, Started)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), started.prompt_tokens


def completion(prompt: str | list[int], suffix: str | None = None, echo: bool = False) -> CompletionRequest:
    sampling = Sampling(temperature=0)
    return CompletionRequest(
        id="c", model="m", prompt=prompt, suffix=suffix, echo=echo, max_tokens=8, sampling=sampling
    )


def tokens(model: Model, text: str) -> list[int]:
    events = run_alone(model, TokenizeRequest(id="t", model="m", prompt=text))
    (found,) = [event for event in events if isinstance(event, Tokenized)]
    return list(found.tokens)


@pytest.mark.parametrize("name", LAYOUTS)
def test_fill_in_the_middle_uses_the_tokens_of_the_model_family(tmp_path: Path, name: str) -> None:
    symbols, layout = LAYOUTS[name]
    folder = write_tiny_llama(tmp_path / "model")
    for file in folder.glob("token*.json"):
        written = file.read_text(encoding="utf-8")
        for old, new in zip(("<repo_name>", "<file_sep>", "<filename>"), symbols, strict=True):
            written = written.replace(old, new)
        file.write_text(written, encoding="utf-8")
    model = load(folder)
    filled = complete(model, completion("def f(", suffix="return x"))
    assert filled == complete(model, completion(layout.format(*symbols, prefix="def f(", suffix="return x")))
    assert filled == complete(model, completion(tokens(model, "def f("), suffix="return x"))
    assert filled[1] == len(tokens(model, "def f(")) + len(tokens(model, "return x")) + (3 if name == "qwen" else 2)
    with pytest.raises(InvalidRequestError) as error:
        complete(model, completion("a", suffix="b", echo=True))
    assert error.value.param == "echo"
    model.close()
