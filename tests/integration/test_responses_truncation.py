"""A conversation that exceeds a real model's context, with and without truncation."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.support.client import sdk
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

LIMIT = 160


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    with running_server("--backend", "lm", "--model", str(folder), "--context-length", str(LIMIT), *FAST_BLAS) as ready:
        yield ready


def test_the_oldest_turns_are_removed_only_with_truncation_auto(server: ServerProcess) -> None:
    with sdk(server) as client:
        previous: str | None = None
        sizes = []
        for turn in range(6):
            response = client.responses.create(
                model="m",
                instructions="Be brief.",
                input=f"This is turn number {turn}; please write something about it.",
                max_output_tokens=16,
                previous_response_id=previous,
                truncation="auto",
            )
            previous = response.id
            assert response.usage is not None
            sizes.append(response.usage.input_tokens)
        assert sizes[:2] == sorted(sizes[:2])
        assert max(sizes) < LIMIT
        assert sizes != sorted(set(sizes)), "it never became too long"
        for truncation in ("disabled", None):
            with pytest.raises(openai.BadRequestError) as raised:
                client.responses.create(
                    model="m",
                    input="And now?",
                    previous_response_id=previous,
                    truncation=truncation,
                )
            assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "input")
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="m", input="long " * 2 * LIMIT, truncation="auto")
        # Turns omitted from a prompt remain part of the conversation.
        assert len(list(client.responses.input_items.list(previous or ""))) == 11
