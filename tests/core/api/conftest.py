from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.support.client import sdk
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server with one scripted model and the qwen3 parser."""
    with running_server("--backend", "scripted", "--parser", "qwen3", "--slots", "8") as running:
        yield running


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with sdk(server) as client:
        yield client
