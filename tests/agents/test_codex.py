"""Codex uses the Responses API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agents.driver import CALCULATOR, Agent, big_files, documented, failures, plan
from tests.support.server import ServerProcess

pytestmark = pytest.mark.agents

# Telemetry and the check for updates are off; everything else has its default.
QUIET = """\
check_for_update_on_startup = false
analytics.enabled = false
"""


@pytest.fixture
def agent(server: ServerProcess, commands: Path, tmp_path: Path) -> Agent:
    home = tmp_path / "home"
    home.mkdir()
    command, *args = CALCULATOR
    calculator = f"[mcp_servers.calc]\ncommand = {json.dumps(command)}\nargs = {json.dumps(args)}\n"
    (home / "config.toml").write_text(f"{QUIET}{documented(server, 'Codex')}\n\n{calculator}")
    arguments = ["exec", "--skip-git-repo-check", "-s", "danger-full-access"]
    return Agent(server, commands, tmp_path, "codex", arguments, {"CODEX_HOME": str(home)})


def test_files_are_edited_and_tools_are_called_in_parallel(agent: Agent) -> None:
    file = agent.work / "one.txt"
    write = ["exec_command", {"cmd": f"printf before > {file}"}]
    edit = ["exec_command", {"cmd": f"sed -i s/before/after/ {file}"}]
    output = agent.run(plan([write, ["*add", {"a": 19, "b": 23}]], [edit], "!results"))
    assert "The sum is 42." in output
    assert file.read_text() == "after"
    assert not failures(agent)


def test_a_session_is_resumed(agent: Agent) -> None:
    agent.run(plan([["*add", {"a": 19, "b": 23}]], "First."))
    agent.arguments = ["exec", "resume", "--last", "--skip-git-repo-check"]
    assert "The sum is 42." in agent.run(plan("!results"))
    assert not failures(agent)


def test_a_long_conversation_is_compacted(agent: Agent) -> None:
    limits = ("-c", "model_context_window=40000", "-c", "model_auto_compact_token_limit=12000")
    read = [[["exec_command", {"cmd": f"cat {file}"}]] for file in big_files(agent)]
    assert "Finished." in agent.run(plan(*read, "Finished.", limit=15_000), *limits)
    assert not failures(agent)


def test_a_conversation_that_is_too_long_is_reported(agent: Agent) -> None:
    output = agent.run(plan("Not reached.", limit=1000), expects_failure=True)
    assert "context window" in output
    assert set(failures(agent)) == {"context_length_exceeded"}


def test_a_failed_turn_is_repeated(agent: Agent) -> None:
    assert "Recovered." in agent.run(plan({"fail_once": "Recovered."}, "Recovered."))
    assert failures(agent) == ["engine_failed"]
