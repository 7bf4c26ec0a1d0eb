"""What a model reads of a completion: texts, token ids, and gaps for those that have tokens for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from mlx_host.backend import LoadContext, Model
from mlx_host.errors import InvalidRequestError
from mlx_host.events import Started, TextDelta, Tokenized
from mlx_host.requests import CompletionRequest, Sampling, TokenizeRequest
from mlx_host.testing.model_contract import run_alone
from mlx_host_lm.detokenizer import ByteDetokenizer, ByteTable, WindowDetokenizer
from mlx_host_lm.plugin import LM

from tests.support.tiny_llama import write_tiny_llama

LAYOUTS = {
    "qwen": (("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"), "{0}{prefix}{1}{suffix}{2}"),
    "codestral": (("[SUFFIX]", "[PREFIX]", "unused"), "{0}{suffix}{1}{prefix}"),
}


def loaded(folder: Path) -> Model:
    return LM.load(LoadContext(str(folder), folder, LM.options(), lambda stage, done, total, note="": None))


def said(model: Model, request: CompletionRequest) -> tuple[str, int]:
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
def test_a_gap_is_told_with_the_tokens_of_the_family(tmp_path: Path, name: str) -> None:
    symbols, layout = LAYOUTS[name]
    folder = write_tiny_llama(tmp_path / "model")
    for file in folder.glob("token*.json"):
        written = file.read_text(encoding="utf-8")
        for old, new in zip(("<repo_name>", "<file_sep>", "<filename>"), symbols, strict=True):
            written = written.replace(old, new)
        file.write_text(written, encoding="utf-8")
    model = loaded(folder)
    filled = said(model, completion("def f(", suffix="return x"))
    assert filled == said(model, completion(layout.format(*symbols, prefix="def f(", suffix="return x")))
    assert filled == said(model, completion(tokens(model, "def f("), suffix="return x"))
    assert filled[1] == len(tokens(model, "def f(")) + len(tokens(model, "return x")) + (3 if name == "qwen" else 2)
    with pytest.raises(InvalidRequestError, match="echo cannot go with suffix"):
        said(model, completion("a", suffix="b", echo=True))
    model.close()


def test_a_text_that_is_gone_on_with_keeps_the_space_that_a_text_of_its_own_has_not() -> None:
    table = ByteTable([b" a", b" b"], drop_first_space=True)
    assert ByteDetokenizer(table).add(0) == "a"
    assert ByteDetokenizer(table, starts=False).add(0) == " a"

    def decode(tokens: Sequence[int]) -> str:
        return "".join([" a", " b"][token] for token in tokens).removeprefix(" ")

    assert WindowDetokenizer(decode).add(0) == "a"
    assert WindowDetokenizer(decode, [1]).add(0) == " a"
