"""Claude Code uses the Messages API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agents.driver import CALCULATOR, Agent, big_files, documented_variables, failures, plan
from tests.support.server import ServerProcess

pytestmark = pytest.mark.agents


@pytest.fixture
def agent(server: ServerProcess, commands: Path, tmp_path: Path) -> Agent:
    servers = tmp_path / "mcp.json"
    servers.write_text(json.dumps({"mcpServers": {"calc": {"command": CALCULATOR[0], "args": CALCULATOR[1:]}}}))
    environment = {
        **documented_variables(server, "Claude Code"),
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
        # Allows --dangerously-skip-permissions as root.
        "IS_SANDBOX": "1",
    }
    arguments = ["--dangerously-skip-permissions", "--mcp-config", str(servers), "-p"]
    return Agent(server, commands, tmp_path, "claude", arguments, environment)


def test_files_are_edited_and_tools_are_called_in_parallel(agent: Agent) -> None:
    file, other = agent.work / "one.txt", agent.work / "two.txt"
    steps = (
        [["Write", {"file_path": str(file), "content": "before"}], ["*add", {"a": 19, "b": 23}]],
        [
            ["Edit", {"file_path": str(file), "old_string": "before", "new_string": "after"}],
            ["Write", {"file_path": str(other), "content": "two"}],
        ],
        "!results",
    )
    output = agent.run(plan(*steps))
    assert "The sum is 42." in output
    assert (file.read_text(), other.read_text()) == ("after", "two")
    assert not failures(agent)


def test_deferred_tools_are_found(agent: Agent) -> None:
    agent.environment = {**agent.environment, "ENABLE_TOOL_SEARCH": "true"}
    search = [["ToolSearch", {"query": "select:mcp__calc__add"}]]
    output = agent.run(plan(search, [["mcp__calc__add", {"a": 19, "b": 23}]], "!results"))
    assert "The sum is 42." in output
    assert not failures(agent)


def test_web_search_is_reported_as_unavailable(agent: Agent) -> None:
    output = agent.run(plan([["WebSearch", {"query": "mlx"}]], "!results"))
    assert "unavailable" in output
    assert not failures(agent)


def test_a_long_conversation_is_compacted(agent: Agent) -> None:
    first, second = big_files(agent)
    steps = ([["Read", {"file_path": str(first)}]], [["Read", {"file_path": str(second)}]], "Finished.")
    assert "Finished." in agent.run(plan(*steps, limit=40_000))
    assert set(failures(agent)) == {"context_length_exceeded"}


def test_a_failed_turn_is_repeated(agent: Agent) -> None:
    assert "Recovered." in agent.run(plan({"fail_once": "Recovered."}, "Recovered."))
    assert failures(agent) == ["engine_failed"]
