"""Generates the reference of the HTTP API: fields of requests, examples of responses, and metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from mlx_host._apis.metrics import routes
from mlx_host._host import Host, ModelPool
from mlx_host._http.app import application, mount
from prometheus_client import CollectorRegistry

from scripts.markdown import table
from scripts.reference.installed import NOT_OURS, plugins


@cache
def openapi() -> Mapping[str, Any]:
    """The OpenAPI document of all APIs."""
    host = Host(plugins(), ModelPool.empty(), keep_alive=0)
    found = plugins().apis
    mounted = [
        mount(api, str(found.owners[name]), host, api.settings())
        for name, api in found.found.items()
        if found.owners[name].distribution not in NOT_OURS
    ]
    return application(mounted).openapi()


def endpoints() -> dict[str, Mapping[str, Any]]:
    """The OpenAPI description of each endpoint, by METHOD /path."""
    return {
        f"{method.upper()} {path}": {**description, "document": openapi()}
        for path, methods in openapi()["paths"].items()
        for method, description in methods.items()
    }


def fields(endpoint: str) -> str:
    """The fields of an endpoint's body."""
    operation = endpoints()[endpoint]
    content = operation["requestBody"]["content"]
    schema = _resolved(next(iter(content.values()))["schema"], operation["document"])
    required = schema.get("required", ())
    names = sorted(schema["properties"], key=lambda name: (name not in required, name))
    return table(
        ("field", "takes"),
        (
            (f"`{name}`" + (" (required)" if name in required else ""), _takes(schema["properties"][name]))
            for name in names
        ),
    )


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    ref = schema.get("$ref")
    return document["components"]["schemas"][ref.rpartition("/")[2]] if ref else schema


def _takes(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("anyOf", [schema])
    names = [_type(kind) for kind in kinds if kind.get("type") != "null"]
    return " or ".join(dict.fromkeys(names))


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return "object"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array" and "items" in schema:
        return f"list of {_takes(schema['items'])}"
    bounds = [
        f"{word} {schema[key]:g}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema and abs(schema[key]) < 2**31 - 1
    ]
    return " ".join((kind, *bounds))


def response_example(endpoint: str) -> str:
    """Return the example of a response as a code block; `endpoint` is METHOD PATH, or METHOD PATH STATUS."""
    method, path, *status = endpoint.split()
    response = endpoints()[f"{method} {path}"]["responses"][status[0] if status else "200"]
    return f"```json\n{json.dumps(response['content']['application/json']['example'], indent=2)}\n```"


def metric_list() -> str:
    registry = CollectorRegistry()
    routes.RequestCounters(registry)
    registry.register(routes.ModelCollector(Host(plugins(), ModelPool.empty(), keep_alive=0)))
    rows = sorted((metric.name, metric.type, metric.documentation) for metric in registry.collect())
    return table(
        ("metric", "kind", ""),
        ((f"`{name}{'_total' if kind == 'counter' else ''}`", kind, text) for name, kind, text in rows),
    )
