"""The list of models, and how names are resolved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest
from anthropic.types import ModelInfo

from tests.support.client import error_of, get, post, sdk, text_script
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    config: Path = tmp_path_factory.mktemp("several") / "mlx-host.toml"
    tables = [f'[[models]]\nbackend = "scripted"\nserved_model_name = "{name}"\n' for name in ("org/one", "two")]
    config.write_text("\n".join(tables))
    with running_server("--config", str(config)) as running:
        yield running


def test_models_are_listed(several: ServerProcess) -> None:
    with sdk(several) as client:
        listed = client.models.list().data
        assert [model.id for model in listed] == ["org/one", "two"]
        assert all((model.object, model.owned_by) == ("model", "mlx-host") for model in listed)
        assert all(isinstance(model.created, int) for model in listed)
        assert client.models.retrieve("org/one") == listed[0]
    body = get(several, "/v1/models").json()
    assert body["object"] == "list"
    assert get(several, "/v1/models/org/one").json() == get(several, "/v1/models/org%2Fone").json() == body["data"][0]


def test_the_models_are_those_of_anthropic_too(several: ServerProcess) -> None:
    with anthropic.Anthropic(base_url=several.url, api_key="none", max_retries=0, timeout=60) as client:
        page = client.models.list()
        assert [(model.id, model.display_name) for model in page] == [("org/one", "org/one"), ("two", "two")]
        assert (page.has_more, page.first_id, page.last_id) == (False, "org/one", "two")
        for model in page.data:
            ModelInfo.model_validate(model.to_dict(), strict=False)
            assert model.created_at.timestamp() > 1.7e9
            assert (model.type, model.lifecycle) == ("model", "active")
        assert client.models.retrieve("two") == page.data[1]


def test_unknown_model_is_a_404_that_lists_the_models(several: ServerProcess) -> None:
    for response in (
        get(several, "/v1/models/three"),
        post(several, {"model": "three", "messages": text_script("hi")}),
    ):
        error = error_of(response, 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert "org/one, two" in error["message"]
    error_of(post(several, {"model": "three", "messages": text_script("hi"), "stream": True}), 404)
    error_of(post(several, {"messages": text_script("hi")}), 404)


def test_each_model_is_found_by_its_name(several: ServerProcess) -> None:
    for name in ("org/one", "two"):
        assert post(several, {"model": name, "messages": text_script("hi")}).json()["model"] == name


def test_single_model_is_found_by_any_name(server: ServerProcess) -> None:
    for name in ("anything", "", "org/x", None):
        assert post(server, {"model": name, "messages": text_script("hi")}).json()["model"] == "scripted"
        error = error_of(post(server, {"model": name, "input": "hi"}, "/v1/embeddings"), 400)
        assert error["code"] == "unsupported_request"
        assert "'scripted'" in error["message"]
    error_of(get(server, "/v1/models/anything"), 404)
