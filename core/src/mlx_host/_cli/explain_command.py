"""`mlx-host explain`: shows how a running server would process a request, without generating text."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console
from rich.text import Text

from mlx_host.errors import UsageError

# Seconds; the server may have to load the model first.
TIMEOUT = 600
PATHS = {"chat": "/explain", "responses": "/explain/responses", "messages": "/explain/messages"}


@click.command(name="explain")
@click.argument("file", type=click.Path(path_type=Path), default="-")
@click.option(
    "--url", default="http://127.0.0.1:8000/v1", show_default=True, help="The base URL of the running server."
)
@click.option(
    "--api",
    type=click.Choice(list(PATHS)),
    help="The API that the request is for. By default it is derived from the fields of the request.",
)
@click.option("--api-key", envvar="MLX_HOST_API_KEY", show_envvar=True, help="API key, sent as a bearer token.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's response as JSON.")
def explain_command(file: Path, url: str, api: str | None, api_key: str | None, as_json: bool) -> None:
    """Show how a running server would process the request in FILE, without generating text.

    FILE is the JSON body of a request to /v1/chat/completions, /v1/responses or /v1/messages; - is the standard input.
    The output has the messages as the chat template receives them, the rendered prompt, the number of tokens and how
    many of them are in the prefix cache, the fields that have no effect, the parsers and the grammar.
    """
    body = _read(file)
    explanation = _post(f"{_base(url)}{PATHS[api or api_of(body)]}", body, api_key)
    if as_json:
        click.echo(json.dumps(explanation, ensure_ascii=False, indent=2))
    else:
        _print(Console(), explanation)


def api_of(body: Mapping[str, Any]) -> str:
    """Return the name of the API that a request body was written for."""
    if "input" in body or "previous_response_id" in body:
        return "responses"
    tools = body.get("tools")
    first = tools[0] if isinstance(tools, list) and tools else None
    anthropic_tool = isinstance(first, Mapping) and "input_schema" in first
    return "messages" if anthropic_tool or "system" in body or "stop_sequences" in body else "chat"


def _base(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is not an http(s) URL. Use one such as http://127.0.0.1:8000/v1.")
    path = url.rstrip("/")
    return path if path.endswith("/v1") else f"{path}/v1"


def _read(file: Path) -> dict[str, Any]:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        body = json.loads(data)
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(file)!r} is not a readable JSON file: {error}") from error
    if not isinstance(body, dict):
        raise UsageError(f"{str(file)!r} must contain a JSON object, the body of a request.")
    return body


def _post(url: str, body: Mapping[str, Any], api_key: str | None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            explanation: dict[str, Any] = json.loads(response.read())
            return explanation
    except urllib.error.HTTPError as error:
        with error:
            raise UsageError(f"{url} rejected the request with status {error.code}: {_message(error)}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"No mlx-host server responds at {url}: {error}. Start one, or set --url.") from error


def _message(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text or error.reason


def _print(console: Console, explanation: Mapping[str, Any]) -> None:
    usage, parsers = explanation["usage"], explanation["parsers"]
    limit = f" of {explanation['context_length']}" if explanation["context_length"] else ""
    rows = [
        ("model", explanation["model"]),
        ("prompt", f"{usage['prompt_tokens']}{limit} tokens, {usage['cached_tokens']} in the prefix cache"),
        ("parsers", ", ".join(f"{part}: {name or 'none'}" for part, name in parsers.items())),
        *(("adapted", change) for change in explanation["adaptations"]),
        *(("dropped", f"{each['field']}: {each['reason']}") for each in explanation["dropped"]),
    ]
    for name, text in rows:
        console.print(Text.assemble((f"{name:<10}", "bold"), text), soft_wrap=True)
    _section(console, "messages", *(json.dumps(each, ensure_ascii=False) for each in explanation["messages"]))
    _section(console, "tools", *(json.dumps(each, ensure_ascii=False) for each in explanation["tools"]))
    if explanation["template_kwargs"]:
        _section(console, "variables", json.dumps(explanation["template_kwargs"], ensure_ascii=False))
    _section(console, "prompt", explanation["prompt"])
    if explanation["grammar"]:
        _section(console, "grammar", explanation["grammar"])


def _section(console: Console, title: str, *lines: str) -> None:
    if lines:
        console.print()
        console.print(Text(title, "bold"))
        for line in lines:
            console.print(Text(line), soft_wrap=True)
