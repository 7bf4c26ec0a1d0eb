"""Qwen Code uses chat completions through OpenAI's SDK."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agents.driver import CALCULATOR, Agent, documented_variables, failures, plan
from tests.support.server import ServerProcess

pytestmark = pytest.mark.agents


@pytest.fixture
def agent(server: ServerProcess, commands: Path, tmp_path: Path) -> Agent:
    environment = {
        **documented_variables(server, "Qwen Code"),
        # Qwen Code sends requests to all hosts through a proxy.
        "HTTP_PROXY": "",
        "HTTPS_PROXY": "",
    }
    settings = tmp_path / "home" / ".qwen" / "settings.json"
    settings.parent.mkdir(parents=True)
    values = {
        "mcpServers": {"calc": {"command": CALCULATOR[0], "args": CALCULATOR[1:]}},
        "general": {"disableAutoUpdate": True, "enableAutoUpdate": False},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "security": {"auth": {"selectedType": "openai"}},
    }
    settings.write_text(json.dumps(values))
    return Agent(server, commands, tmp_path, "qwen", ["-y", "-p"], environment)


def test_files_are_edited_and_tools_are_called_in_parallel(agent: Agent) -> None:
    file = agent.work / "one.txt"
    steps = (
        [["write_file", {"file_path": str(file), "content": "before"}], ["mcp__calc__add", {"a": 19, "b": 23}]],
        [["edit", {"file_path": str(file), "old_string": "before", "new_string": "after"}]],
        "!results",
    )
    assert "The sum is 42." in agent.run(plan(*steps))
    assert file.read_text() == "after"
    assert not failures(agent)


def test_a_failed_turn_is_reported(agent: Agent) -> None:
    assert "planned failure" in agent.run(plan({"fail_once": "Not reached."}), expects_failure=True)
    assert failures(agent) == ["engine_failed"]


def test_a_conversation_that_is_too_long_is_reported(agent: Agent) -> None:
    agent.run(plan("Not reached.", limit=1000), expects_failure=True)
    assert set(failures(agent)) == {"context_length_exceeded"}
