"""opencode uses chat completions through the AI SDK."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agents.driver import CALCULATOR, Agent, documented, failures, plan
from tests.support.server import ServerProcess

pytestmark = pytest.mark.agents


@pytest.fixture
def agent(server: ServerProcess, commands: Path, tmp_path: Path) -> Agent:
    agent = Agent(server, commands, tmp_path, "opencode", ["run"])
    agent.environment = {
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    }
    config = {
        **json.loads(documented(server, "opencode")),
        "mcp": {"calc": {"type": "local", "command": CALCULATOR}},
        "permission": {"edit": "allow", "bash": "allow"},
        "share": "disabled",
        "autoupdate": False,
    }
    agent.work.mkdir()
    (agent.work / "opencode.json").write_text(json.dumps(config))
    return agent


def test_files_are_edited_and_tools_are_called_in_parallel(agent: Agent) -> None:
    file = agent.work / "one.txt"
    steps = (
        [["write", {"filePath": str(file), "content": "before"}], ["calc_add", {"a": 19, "b": 23}]],
        [["edit", {"filePath": str(file), "oldString": "before", "newString": "after"}]],
        "!results",
    )
    assert "The sum is 42." in agent.run(plan(*steps))
    assert file.read_text() == "after"
    assert not failures(agent)


def test_a_failed_turn_is_repeated(agent: Agent) -> None:
    assert "Recovered." in agent.run(plan({"fail_once": "Recovered."}, "Recovered."))
    assert failures(agent) == ["engine_failed"]


def test_a_conversation_that_is_too_long_is_reported(agent: Agent) -> None:
    agent.run(plan("Not reached.", limit=1000), expects_failure=True)
    assert set(failures(agent)) == {"context_length_exceeded"}
