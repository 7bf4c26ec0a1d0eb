"""The HTML of the home page and of the API's documentation."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mlx_host import __version__
from mlx_host.api import ModelStatus
from mlx_host.requests import ChatRequest

# Links are relative, so that they work behind a proxy that serves the server below a path.
LINKS = {
    "docs": "docs",
    "openapi": "openapi.json",
    "models": "v1/models",
    "health": "health",
    "metrics": "metrics",
}
TITLES = {
    "docs": "API documentation",
    "openapi": "OpenAPI document",
    "models": "Models",
    "health": "Health",
    "metrics": "Metrics",
}
HEAD = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="docs/favicon.svg?{__version__}">
"""


def endpoints(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the endpoints of each API as "METHOD /path", from an OpenAPI document."""
    found: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            found.setdefault(operation["tags"][0], []).append(f"{method.upper()} {path}")
    return found


def links(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the links to those pages that are served."""
    return {name: link for name, link in LINKS.items() if f"/{link}" in document["paths"]}


def home_json(models: Sequence[ModelStatus], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the home page as JSON."""
    return {
        "name": "mlx-host",
        "version": __version__,
        "models": [{"id": model.name, "backend": model.backend, "state": model.state.value} for model in models],
        "links": {name: f"/{link}" for name, link in links(document).items()},
        "endpoints": endpoints(document),
    }


def home_html(models: Sequence[ModelStatus], document: Mapping[str, Any], url: str) -> str:
    """Return the home page as HTML; `url` is the server's root."""
    summaries = {tag["name"]: tag["description"] for tag in document["tags"]}
    navigation = "".join(f'<a href="{link}">{TITLES[name]}</a>' for name, link in links(document).items())
    rows = "".join(
        f"<tr><td><code>{escape(model.name)}</code></td><td>{escape(model.backend or '')}</td>"
        f"<td>{escape(model.state.value)}</td></tr>"
        for model in models
    )
    apis = "".join(
        f"<tr><td>{escape(name)}<br><small>{escape(summaries.get(name, ''))}</small></td>"
        f"<td>{'<br>'.join(f'<code>{escape(each)}</code>' for each in paths)}</td></tr>"
        for name, paths in endpoints(document).items()
    )
    return (
        f'{HEAD}<title>mlx-host</title>\n<link rel="stylesheet" href="docs/home.css?{__version__}">\n</head>\n<body>\n'
        f"<h1>mlx-host <small>{__version__}</small></h1>\n"
        '<p class="muted">An OpenAI-compatible inference server for MLX models.</p>\n'
        f"<nav>{navigation}</nav>\n"
        f"<h2>Models</h2>\n<table>{rows}</table>\n"
        f"{_example(models, document, url)}"
        f"<h2>APIs</h2>\n<table>{apis}</table>\n</body>\n</html>\n"
    )


def _example(models: Sequence[ModelStatus], document: Mapping[str, Any], url: str) -> str:
    """Return a request for the first model that supports chat, or nothing."""
    path = "/v1/chat/completions"
    chat = [
        model.name
        for model in models
        if model.capabilities is not None and ChatRequest in model.capabilities.supported_requests
    ]
    if not chat or path not in document["paths"]:
        return ""
    body = json.dumps({"model": chat[0], "messages": [{"role": "user", "content": "Hello"}]})
    command = f"curl {shlex.quote(url + path)} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
    return f"<h2>Send a request</h2>\n<pre><code>{escape(command)}</code></pre>\n"


DOCS_HTML = (
    f"{HEAD}<title>mlx-host API</title>\n"
    f'<link rel="stylesheet" href="docs/swagger-ui.css?{__version__}">\n</head>\n<body>\n<div id="docs"></div>\n'
    f'<script src="docs/swagger-ui-bundle.js?{__version__}"></script>\n'
    f'<script src="docs/docs.js?{__version__}"></script>\n</body>\n</html>\n'
)
