from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server with the scripted model and the parser qwen3."""
    with running_server("--backend", "scripted", "--parser", "qwen3", "--slots", "8", "--max-body-mb", "1") as running:
        yield running


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as client:
        yield client
