"""Runs clients with the configuration that docs/ shows: `uv run python -m scripts.check_clients [NAME ...]`.

Each client is installed from its package registry into a temporary folder, gets its own home directory, and
sends a request to a real server; its output must contain the model's response. Needs Node.js 22 or newer, npm and uv.
Without names, all clients are checked, which downloads more than a gigabyte. Not part of the test suite.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import rich_click as click

from tests.docs.blocks import Block, blocks
from tests.support.server import FAST_BLAS, ServerProcess, running_server

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {page.stem: page for folder in ("clients", "api", "how-to") for page in (DOCS / folder).glob("*.md")}
ADDRESS = "127.0.0.1:8000"
# The prompts of coding agents are longer than the demo model's context; the scripted backend answers any prompt.
MODELS = """
[[models]]
backend = "lm"
model = "demo:smollm2"

[[models]]
backend = "embeddings"
model = "demo:minilm"

[[models]]
backend = "whisper"
model = "demo:whisper-tiny.en"

[[models]]
backend = "scripted"
served_model_name = "local"
parser = "qwen3"
"""
PARIS = "The capital of France is Paris."
SCRIPTED = "The last message is not a script."
ENVIRONMENT = {"IS_SANDBOX": "1", "DISABLE_AUTOUPDATER": "1"}


@dataclass(frozen=True)
class Agent:
    """A command-line client: its packages, the page and title of its configuration, and its command."""

    packages: tuple[str, ...]
    page: str
    title: str
    command: tuple[str, ...]
    setup: tuple[str, ...] = ()


# {file} is the configuration file, {url} the server's root. Claude Code and Cline are configured without a file.
AGENTS = {
    "claude-code": Agent(("@anthropic-ai/claude-code",), "agents", "", ("claude", "-p", "Say hello")),
    "codex": Agent(
        ("@openai/codex",),
        "agents",
        ".codex/config.toml",
        ("codex", "exec", "--skip-git-repo-check", "Say hello"),
    ),
    "opencode": Agent(("opencode-ai",), "agents", "opencode.json", ("opencode", "run", "Say hello")),
    "cline": Agent(
        ("cline",),
        "agents",
        "",
        ("cline", "Say hello"),
        ("cline", "auth", "--provider", "openai", "--apikey", "none", "--modelid", "local", "--baseurl", "{url}/v1"),
    ),
    "continue": Agent(
        ("@continuedev/cli",),
        "editors",
        ".continue/config.yaml",
        ("cn", "--config", "{file}", "-p", "Say hello"),
    ),
}
# Packages of the Python blocks, by a module that the block imports.
PYTHON = {
    "langchain": ("langchain_openai", "langchain-openai"),
    "llama-index": ("llama_index", "llama-index-llms-openai-like"),
    "litellm": ("litellm", "litellm"),
}
JAVASCRIPT = ("openai", "@anthropic-ai/sdk")


class Checker:
    """Installs and runs clients in a temporary folder."""

    def __init__(self, folder: Path, server: ServerProcess) -> None:
        self._folder = folder
        self._url = server.url
        (folder / "package.json").write_text("{}")

    def agent(self, name: str, agent: Agent) -> str:
        self._npm(agent.packages)
        home = self._folder / f"home-{name}"
        home.mkdir()
        file = home / agent.title
        if agent.title:
            (block,) = (block for block in blocks(PAGES[agent.page]) if block.title == agent.title)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._text(block))
        shown = {
            "ANTHROPIC_BASE_URL": self._url,
            **dict.fromkeys(("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"), "local"),
        }
        variables = {
            **ENVIRONMENT,
            **shown,
            "ANTHROPIC_AUTH_TOKEN": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        for command in filter(None, (agent.setup, agent.command)):
            words = [word.format(file=file, url=self._url) for word in command]
            output = self._run(words, home, variables)
        return self._expect(output, SCRIPTED)

    def python(self, module: str, package: str) -> str:
        output = ""
        for block in self._blocks("python"):
            if f"import {module}" in block.text or f"from {module}" in block.text:
                script = self._folder / "client.py"
                script.write_text(self._text(block))
                command = ["uv", "run", "--no-project", "--quiet", "--with", package, "python", str(script)]
                output += self._run(command, self._folder, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"})
        return self._expect(output, PARIS)

    def javascript(self) -> str:
        self._npm(JAVASCRIPT)
        outputs = []
        for number, block in enumerate(self._blocks("js")):
            if block.not_run:
                continue
            script = self._folder / f"client-{number}.mjs"
            script.write_text(self._text(block))
            output = self._run(["node", str(script)], ROOT, {})
            assert output.strip(), f"{block}: no output"
            outputs.append(output)
        assert len(outputs) > 5
        return self._expect("\n".join(outputs), PARIS)

    def _blocks(self, language: str) -> list[Block]:
        return [block for page in PAGES.values() for block in blocks(page) if block.language == language]

    def _text(self, block: Block) -> str:
        return block.text.replace(f"http://{ADDRESS}", self._url)

    def _npm(self, packages: Sequence[str]) -> None:
        self._run(["npm", "install", "--no-audit", "--no-fund", *packages], self._folder, {})
        # npm 11 runs the install scripts of approved packages only.
        subprocess.run(
            ["npm", "install-scripts", "approve", *packages], cwd=self._folder, capture_output=True, check=False
        )
        self._run(["npm", "rebuild", *packages], self._folder, {})

    def _run(self, command: Sequence[str], home: Path, variables: Mapping[str, str]) -> str:
        path = os.pathsep.join([str(self._folder / "node_modules" / ".bin"), os.environ["PATH"]])
        # Nothing of the user's own configuration.
        isolated = home.name.startswith("home-")
        env = {"HOME": str(home), "PATH": path} if isolated else {**os.environ, "PATH": path}
        done = subprocess.run(
            command,
            cwd=home,
            env={**env, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}"
        return done.stdout

    def _expect(self, output: str, part: str) -> str:
        assert part in output, f"the output has no {part!r}:\n{output}"
        return part


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(["javascript", *PYTHON, *AGENTS]))
def main(names: Sequence[str]) -> None:
    """Check the named clients, or all."""
    chosen = names or ("javascript", *PYTHON, *AGENTS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = folder / "mlx-host.toml"
        config.write_text(MODELS)
        with running_server("--config", str(config), *FAST_BLAS) as server:
            checker = Checker(folder, server)
            results = [_check(checker, name) for name in chosen]
    sys.exit(0 if all(results) else 1)


def _check(checker: Checker, name: str) -> bool:
    """Check one client, print the result, and return whether it succeeded."""
    try:
        if name == "javascript":
            result = checker.javascript()
        elif name in PYTHON:
            result = checker.python(*PYTHON[name])
        else:
            result = checker.agent(name, AGENTS[name])
    except AssertionError as error:
        click.echo(f"{name}: failed\n{error}")
        return False
    click.echo(f"{name}: {result}")
    return True


if __name__ == "__main__":
    main()
