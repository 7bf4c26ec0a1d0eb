from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.driver import MODEL
from tests.agents.installation import installed_agents
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="session")
def commands() -> Path:
    """The folder with the commands of the agents."""
    return installed_agents()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server whose model follows the plans in the conversations."""
    with running_server("--backend", "planned", "--parser", "qwen3", "--served-model-name", MODEL) as running:
        yield running
