"""Diagrams, the Grafana dashboard and llms.txt agree with what they are made from."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scripts import reference
from scripts.diagrams import SOURCES, TARGET, digest
from scripts.llms_txt import write_llms_txt
from tests.docs.blocks import ROOT
from tests.docs.test_reference import rows
from tests.support.client import get, post, text_script
from tests.support.server import running_server

DASHBOARD = json.loads((ROOT / "docs" / "assets" / "grafana-dashboard.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.mmd")), ids=lambda source: source.stem)
def test_a_diagram_is_drawn_from_its_source_and_shown(source: Path) -> None:
    svg = (TARGET / f"{source.stem}.svg").read_text(encoding="utf-8")
    assert svg.startswith(f"<!-- {digest(source.read_text(encoding='utf-8'))} -->"), (
        "run `uv run python -m scripts.diagrams`"
    )
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "foreignObject" not in svg
    assert any(f"assets/{source.stem}.svg" in page.read_text() for page in (ROOT / "docs").rglob("*.md"))


def expressions() -> list[str]:
    variables = [each["query"]["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    return [*variables, *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])]


def test_the_dashboard_and_the_queries_use_existing_metrics_and_labels() -> None:
    with running_server("--backend", "scripted", "--parser", "qwen3") as server:
        # Counters have no labels before they count, so the outputs have unparsed markup and a damaged call.
        call = '<tool_call>\n{"name": "f", "arguments": {},}\n</tool_call>'
        for tools in ([], [{"type": "function", "function": {"name": "f"}}]):
            post(server, {"messages": text_script(call), "tools": tools})
        families = list(text_string_to_metric_families(get(server, "/metrics").text))
    labels = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    page = (ROOT / "docs" / "api" / "metrics.md").read_text(encoding="utf-8")
    queries = [*expressions(), *re.findall(r"```\n(.*mlx_host_.*)\n```", page)]
    assert len(queries) > 20
    for query in queries:
        names = re.findall(r"\bmlx_host_\w+", query)
        assert names
        for name in names:
            assert name in labels, f"{query}: the server has no metric {name}"
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query))))
        selected = set(re.findall(r"(\w+)=~?\"", query))
        assert grouped | selected <= set.union(*(labels[name] for name in names)), query


def test_the_dashboard_shows_every_metric() -> None:
    shown = " ".join(expressions())
    names = [row[0].strip("`") for row in rows(reference.section("metrics"))[1:]]
    assert len(names) > 12
    assert [name for name in names if not re.search(rf"\b{name}(_bucket|_sum|_count)?\b", shown)] == []


def test_llms_txt_lists_pages_in_sections(tmp_path: Path) -> None:
    config = tmp_path / "zensical.toml"
    config.write_text(
        '[project]\nsite_name = "mlx-host"\nsite_description = "A server"\n'
        'nav = [{ "Home" = "index.md" }, { "API" = ["api/chat.md"] }]\n'
    )
    pages, site = tmp_path / "pages", tmp_path / "site"
    (pages / "api").mkdir(parents=True)
    (pages / "index.md").write_text("# Start\n\nAn [introduction](x.md). More.\n")
    (pages / "api" / "chat.md").write_text("# Chat\n\n![image](x.svg)\n\n`POST` creates a chat.\n")
    site.mkdir()
    write_llms_txt(config, pages, site)
    assert (site / "llms.txt").read_text() == (
        "# mlx-host\n\n> A server\n\n## Start\n\n- [Start](index.md): An introduction.\n\n"
        "## API\n\n- [Chat](api/chat.md): `POST` creates a chat.\n"
    )
    assert (site / "api" / "chat.md").read_text().startswith("# Chat")
