"""Generates the reference sections of the documentation from the code; scripts/build_docs.py writes them to the pages.

`<!-- reference: NAME -->` on a page marks where the text of SECTIONS[NAME] is inserted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from mlx_host import events, requests
from mlx_host._settings import HOST, MODEL

from scripts.reference import command_line, http_api, overview, python_api, settings

MARKER = re.compile(r"<!-- reference: (.+?) -->")

SECTIONS: Mapping[str, Callable[..., str]] = {
    "server-settings": lambda: settings.settings(HOST),
    "model-settings": lambda: settings.settings(MODEL),
    "api-settings": settings.api_settings,
    "options": settings.options,
    "commands": command_line.command_line,
    "fields": http_api.fields,
    "response": http_api.response_example,
    "metrics": http_api.metric_list,
    "errors": python_api.error_table,
    "hooks": python_api.hook_list,
    "module": python_api.module_reference,
    "requests": lambda: python_api.dataclass_list(requests),
    "events": lambda: python_api.dataclass_list(events),
    "parsers": overview.parsers,
    "plugins": overview.plugin_directory,
    "requests-of-backends": overview.request_matrix,
    "release-notes": overview.release_notes,
}


def expand_markers(markdown: str) -> str:
    """Replace every marker of a page with its section; raises KeyError for an unknown name."""
    return MARKER.sub(lambda found: section(found[1]), markdown)


def section(name: str) -> str:
    """Generate one section; raises KeyError for an unknown name."""
    kind, _, rest = name.partition(" ")
    return SECTIONS[kind](rest) if rest else SECTIONS[kind]()
