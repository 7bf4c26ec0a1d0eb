"""Every notebook is executed against one server; committed notebooks have no output."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.examples.make_assets import NOTEBOOKS, PAGES, pdf
from tests.plugins.embeddings.tiny_multimodal import write_tiny_siglip
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_flux import write_tiny_flux
from tests.support.tiny_vlm import write_tiny_gemma4, write_tiny_qwen2_vl

Table = dict[str, str | int]

NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
# Timeout of a cell; on a busy machine a text model generates one or two tokens per second.
CELL_SECONDS = 240


def read(name: str) -> NotebookNode:
    # nbformat claims to be typed, but this function is not.
    notebook: NotebookNode = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    return notebook


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The models of the notebooks' configuration, with tiny ones in place of large models."""

    def tiny(backend: str, name: str, write: Callable[[Path], Path], **options: str | int) -> Table:
        model = write(tmp_path_factory.mktemp(name))
        return {"backend": backend, "model": str(model), "served_model_name": name, **options}

    images = tiny("flux", "images", write_tiny_flux, config_name="flux2-klein-4b", quantize=16)
    models = [
        tiny("embeddings", "image-embeddings", write_tiny_siglip),
        tiny("vlm", "vision", write_tiny_qwen2_vl),
        tiny("vlm", "listener", write_tiny_gemma4),
        images,
        {**images, "served_model_name": "editor", "config_name": "flux2-klein-edit-4b"},
    ]
    tables = ["".join(f"{key} = {json.dumps(value)}\n" for key, value in model.items()) for model in models]
    config = tmp_path_factory.mktemp("notebooks") / "mlx-host.toml"
    real = (NOTEBOOKS / "mlx-host.toml").read_text(encoding="utf-8")
    config.write_text(real + "".join(f"\n[[models]]\n{table}" for table in tables), encoding="utf-8")
    with running_server("--config", str(config), *FAST_BLAS) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name: str, server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_HOST_URL", f"{server.url}/v1")
    # The smallest supported size.
    monkeypatch.setenv("IMAGE_SIDE", "64")
    # The kernel's connection file and history.
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    others = set(psutil.Process().children())
    kernel = NotebookClient(
        read(name),
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    asyncio.run(kernel.async_execute())
    assert set(psutil.Process().children()) == others


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_has_no_output(name: str) -> None:
    notebook = read(name)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert re.fullmatch("[a-z]+(-[a-z]+)*", cell.id), f"{cell.id} was not named by hand"
        assert cell.metadata == {}
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        assert not re.search(r"(?<![\w./}])/(home|Users|root|tmp|work|var)/", cell.source)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_begins_with_its_purpose_and_its_server(name: str) -> None:
    notebook = read(name)
    first, *others = notebook.cells
    assert first.source.startswith("# ")
    text = "\n".join(cell.source for cell in others if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in others if cell.cell_type == "code")
    assert "mlx-host run --" in text
    assert 'os.environ.get("MLX_HOST_URL", "http://127.0.0.1:8000/v1")' in code


def test_the_readme_lists_all_notebooks() -> None:
    table = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[.*?\]\((\w+)\.ipynb\)", table, re.MULTILINE)) == NAMES


def test_the_handbook_is_the_output_of_the_script() -> None:
    assert (NOTEBOOKS / "handbook.pdf").read_bytes() == pdf(PAGES)
