"""The home page, the API's documentation and the OpenAPI document, and paths of disabled APIs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx2
import pytest
from mlx_host import __version__

from tests.support.client import error_of, get
from tests.support.server import ServerProcess, running_server

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def reduced() -> Iterator[ServerProcess]:
    """A server without some of its APIs."""
    with running_server("--backend", "scripted", "--disable-api", "home", "--disable-api", "embeddings") as running:
        yield running


class Resources(HTMLParser):
    """What a page links to and loads, and whether it has inline scripts or styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.inline = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(values["href"])
        elif tag == "link":
            self.loaded.append(values["href"])
        elif tag == "script" and "src" in values:
            self.loaded.append(values["src"])
        self.inline |= tag == "style" or "style" in values or (tag == "script" and "src" not in values)


def page(server: ServerProcess, path: str) -> httpx2.Response:
    response = httpx2.get(server.url + path, headers=HTML)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    return response


def test_the_home_page_as_json(server: ServerProcess) -> None:
    response = get(server, "/")
    assert response.headers["content-type"] == "application/json"
    home = response.json()
    assert (home["name"], home["version"]) == ("mlx-host", __version__)
    assert home["models"] == [{"id": "scripted", "backend": "scripted", "state": "ready"}]
    assert "POST /v1/chat/completions" in home["endpoints"]["chat"]
    assert "POST /v1/messages" in home["endpoints"]["messages"]
    for link in home["links"].values():
        assert get(server, link).status_code == 200


def test_the_server_can_be_probed(server: ServerProcess) -> None:
    response = httpx2.head(f"{server.url}/")
    assert (response.status_code, response.content) == (200, b"")


def test_the_home_page_in_a_browser(server: ServerProcess) -> None:
    response = page(server, "/")
    assert response.headers["vary"] == "Accept"
    for text in ("scripted", __version__, "/v1/messages", f"curl {server.url}/v1/chat/completions"):
        assert text in response.text


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_everything_from_the_server(server: ServerProcess, path: str) -> None:
    resources = Resources(page(server, path).text)
    assert not resources.inline
    assert resources.loaded
    for link in (*resources.links, *resources.loaded):
        assert not re.match(r"https?:|/", link)
        assert get(server, f"/{link}").status_code == 200


def test_assets_have_their_types_and_licences(server: ServerProcess) -> None:
    for name, kind in (
        ("swagger-ui-bundle.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("favicon.svg", "image/svg+xml"),
    ):
        response = get(server, f"/docs/{name}")
        assert response.headers["content-type"].startswith(kind)
        assert response.headers["x-content-type-options"] == "nosniff"
    assert "Apache License" in get(server, "/docs/swagger-ui.LICENSE.txt").text
    for name in ("nothing.js", "..%2froutes.py", "%2e%2e%2froutes.py", "__init__.py"):
        error_of(get(server, f"/docs/{name}"), 404)


def test_the_pages_support_head(server: ServerProcess) -> None:
    for path in ("/", "/docs", "/openapi.json"):
        head = httpx2.head(server.url + path)
        assert (head.status_code, head.content) == (200, b"")


def test_the_document_lists_exactly_the_enabled_apis(server: ServerProcess) -> None:
    document = get(server, "/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/messages", "/metrics", "/"} <= set(document["paths"])
    assert {tag["name"] for tag in document["tags"]} == set(get(server, "/").json()["endpoints"])


def test_a_path_of_a_disabled_api_says_so(reduced: ServerProcess) -> None:
    for path, api in (("/v1/embeddings", "embeddings"), ("/docs", "home"), ("/openapi.json", "home")):
        assert f"the API {api!r} is disabled" in error_of(get(reduced, path), 404)["message"]
    for path in ("/", "/nowhere", "/v1/embeddingss"):
        assert "disabled" not in error_of(get(reduced, path), 404)["message"]
