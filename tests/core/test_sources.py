"""Model sources: local paths, and a hub on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlx_host._plugins.sources import resolve_source
from mlx_host.errors import ContextLengthExceededError, LoadError

from tests.support.command import environment, mlx_host
from tests.support.hub import Hub, running_hub
from tests.support.server import running_server

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 4000, "sub/notes.txt": b"notes" * 100}
SIZE = sum(map(len, FILES.values()))

# Fetches one reference like a worker process; the hub's client reads its environment when it is imported.
FETCH = """
import json, sys
from mlx_host.errors import LoadError
from mlx_host._plugins.manager import Plugins
from mlx_host._plugins import sources
reports = []
try:
    source = Plugins({"sources": sources}, installed=[]).source(sys.argv[1])
    path = str(source.fetch(lambda *report: reports.append(report)))
except LoadError as error:
    path, message = "", str(error)
else:
    message = ""
print(json.dumps({"path": path, "error": message, "reports": reports}))
"""


def ignore(stage: str, done: int, total: int, note: str = "") -> None:
    raise AssertionError("a local path has no progress")


def test_a_folder_and_a_file_are_used_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    (tmp_path / "one.gguf").touch()
    monkeypatch.chdir(tmp_path)
    for ref, path in (("org/model", "org/model"), ("./org/../one.gguf", "one.gguf"), (str(tmp_path), "")):
        source = resolve_source(ref)
        assert source is not None
        assert (source.ref, source.description) == (ref, f"local: {ref}")
        assert source.fetch(ignore) == (tmp_path / path).resolve()


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    source = resolve_source("~/model")
    assert source is not None
    assert source.fetch(ignore) == tmp_path / "model"


@pytest.mark.parametrize("ref", ["mlx-community/Qwen3-0.6B-4bit", "a/b", "Org.1/m_2.x"])
def test_hub_ids_are_recognized(ref: str) -> None:
    source = resolve_source(ref)
    assert source is not None
    assert source.description == f"Hugging Face hub: {ref}"


@pytest.mark.parametrize(
    "ref",
    [
        "model",
        "/no/such",
        "./org/model",
        "../org/model",
        "a/b/c",
        "a/",
        "/a",
        "a b/c",
        "~unknown-user/x",
        "x" * 5000,
        "a/..",
        "\0",
    ],
)
def test_other_references_are_unknown(ref: str) -> None:
    assert resolve_source(ref) is None


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub({"org/tiny": FILES, "org/gated": {}}) as running:
        yield running


def hub_environment(url: str, home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **(extra or {})}


def fetch(ref: str, env: Mapping[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", FETCH, ref],
        capture_output=True,
        text=True,
        env=environment(env),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_repository_is_downloaded_with_progress_in_bytes(hub: Hub, tmp_path: Path) -> None:
    found = fetch("org/tiny", hub_environment(hub.url, tmp_path))
    assert found["error"] == ""
    folder = Path(found["path"])
    assert {file: (folder / file).read_bytes() for file in FILES} == FILES
    stages, done, totals, units = zip(*found["reports"], strict=True)
    assert (set(stages), set(units)) == ({"download"}, {"bytes"})
    assert list(done) == sorted(done)
    assert list(totals) == sorted(totals)
    assert (done[-1], totals[-1]) == (SIZE, SIZE)


def test_weights_of_other_frameworks_are_not_downloaded(tmp_path: Path) -> None:
    others = ("pytorch_model.bin", "model.gguf", "original/a.json", "consolidated.safetensors")
    nested = {"1_Pooling/config.json": b"{}", "transformer/0.safetensors": b"00"}
    with running_hub({"org/tiny": {**FILES, **nested, **dict.fromkeys(others, b"x")}}) as hub:
        folder = Path(fetch("org/tiny", hub_environment(hub.url, tmp_path))["path"])
    held = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert held == {*FILES, *nested}


def test_a_cached_repository_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    online = fetch("org/tiny", hub_environment(hub.url, tmp_path))
    asked = len(hub.requests)
    offline = fetch("org/tiny", hub_environment(hub.url, tmp_path, {"HF_HUB_OFFLINE": "1"}))
    assert (offline["path"], offline["error"]) == (online["path"], "")
    assert len(hub.requests) == asked
    unreachable = fetch("org/tiny", hub_environment("http://127.0.0.1:9", tmp_path))
    assert (unreachable["path"], unreachable["error"]) == (online["path"], "")


def test_a_repository_that_does_not_exist(hub: Hub, tmp_path: Path) -> None:
    found = fetch("org/missing", hub_environment(hub.url, tmp_path))
    assert found["error"].startswith("'org/missing' does not exist on the hub or is private. Check the spelling")


def test_a_gated_repository(hub: Hub, tmp_path: Path) -> None:
    found = fetch("org/gated", hub_environment(hub.url, tmp_path))
    assert all(fact in found["error"] for fact in ("'org/gated'", "gated", "HF_TOKEN"))


def test_an_unreachable_hub(tmp_path: Path) -> None:
    found = fetch("org/tiny", hub_environment("http://127.0.0.1:9", tmp_path))
    assert found["error"].startswith("'org/tiny' is not completely in the local hub cache, and the hub is unreachable")
    assert "Connection" in found["error"]


def test_offline_without_a_cached_copy(hub: Hub, tmp_path: Path) -> None:
    found = fetch("org/tiny", hub_environment(hub.url, tmp_path, {"HF_HUB_OFFLINE": "1"}))
    assert "HF_HUB_OFFLINE" in found["error"]
    assert hub.requests == []


def test_an_invalid_hub_id(hub: Hub, tmp_path: Path) -> None:
    found = fetch("org/a--b", hub_environment(hub.url, tmp_path))
    assert found["error"].startswith("'org/a--b' is not a valid Hugging Face id: ")


def test_a_hub_that_closes_the_connection_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    """A file has half of the announced length."""
    with running_hub({"org/tiny": FILES}, truncated=True) as hub:
        error = fetch("org/tiny", hub_environment(hub.url, tmp_path))["error"]
    assert error.startswith("Downloading 'org/tiny' failed: ")
    assert error.endswith("Check the network and try again.")
    assert len(error.splitlines()) == 1


def test_an_unusable_cache_folder(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = fetch("org/tiny", hub_environment(hub.url, tmp_path / "file"))
    assert found["error"].startswith("Downloading 'org/tiny' failed: ")


def test_a_server_downloads_its_model_with_progress_and_contacts_only_the_hub(hub: Hub, tmp_path: Path) -> None:
    env = hub_environment(hub.url, tmp_path)
    with running_server("--backend", "echo", "--model", "org/tiny", env=env) as server:
        assert server.wait_for_line("mlx_host.loading").split(": ", 1)[1].startswith("org/tiny: download ")
        assert server.wait_for_line("download 1.0 MB of 1.0 MB")
        assert server.wait_for_line("ready: org/tiny at ")
    repository = ("/api/models/org/tiny/", "/org/tiny/resolve/")
    assert [path for _, path, _ in hub.requests if not path.startswith(repository)] == []
    agents = {agent for _, _, agent in hub.requests}
    assert all(
        {part.split("/")[0] for part in agent.split("; ")} <= {"unknown", "hf_hub", "python"} for agent in agents
    )


def test_a_model_that_does_not_exist_on_the_hub_ends_the_command(hub: Hub, tmp_path: Path) -> None:
    args = ("run", "--backend", "echo", "--model", "org/missing", "--port", "0")
    done = mlx_host(*args, env=hub_environment(hub.url, tmp_path))
    assert done.returncode == 1
    assert "'org/missing'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_errors_are_load_errors() -> None:
    """Errors that a worker process sends to the host must be picklable."""
    import pickle

    errors = (
        LoadError("'a' is gated"),
        ContextLengthExceededError(4096, 7501, param="prompt"),
        ContextLengthExceededError(4096, 7501, param="prompt", at_least=True),
    )
    for error in errors:
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
