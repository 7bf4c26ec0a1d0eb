from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlx_host.backend import LoadContext
from mlx_host.errors import LoadError
from mlx_host_lm.loader import load_model
from mlx_host_lm.options import LmOptions
from mlx_host_lm.plugin import LM
from mlx_host_text.model import TextModel
from pydantic import ValidationError

from tests.plugins.lm.driver import chat_request, generate_one, no_progress


def load(path: Path | None, **options: object) -> object:
    return load_model(LoadContext(ref="some/model", path=path, options=LmOptions(**options), progress=no_progress))


class TestOptions:
    def test_every_field_has_a_description(self) -> None:
        for name, field in LmOptions.model_fields.items():
            assert field.description, name

    @pytest.mark.parametrize("name", ["chat_template_file", "adapter_path"])
    def test_missing_paths_are_rejected(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match=rf"{name}(?s:.*)missing"):
            LmOptions(**{name: tmp_path / "missing"})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("context_length", 0),
            ("prefill_step_size", 0),
            ("prompt_cache_bytes", -1),
            ("temperature", -0.1),
            ("top_p", 1.5),
        ],
    )
    def test_numbers_out_of_range_are_rejected(self, name: str, value: float) -> None:
        with pytest.raises(ValidationError, match=name):
            LmOptions(**{name: value})


class TestLoad:
    @pytest.mark.parametrize("path", [None, Path("nowhere")])
    def test_without_a_folder_is_a_load_error(self, path: Path | None) -> None:
        with pytest.raises(LoadError, match="'some/model'"):
            load(path)

    def test_of_an_empty_folder_names_the_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(LoadError, match=r"config\.json"):
            load(tmp_path)

    def test_of_an_unknown_architecture_is_a_load_error(self, tiny_llama: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(tiny_llama, tmp_path / "model")
        (folder / "config.json").write_text(json.dumps({"model_type": "perceptron"}))
        with pytest.raises(LoadError, match="perceptron"):
            load(folder)

    @pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "generation_config.json", "config.json"])
    def test_of_broken_files_is_a_load_error(self, tiny_llama: Path, tmp_path: Path, file: str) -> None:
        folder = shutil.copytree(tiny_llama, tmp_path / "model")
        (folder / file).write_text("{ broken")
        with pytest.raises(LoadError, match=str(folder)):
            load(folder)

    def test_of_an_adapter_folder_without_adapters_is_a_load_error(self, tiny_llama: Path, tmp_path: Path) -> None:
        with pytest.raises(LoadError, match=r"adapter"):
            load(tiny_llama, adapter_path=tmp_path)

    def test_reports_progress(self, tiny_llama: Path) -> None:
        stages: list[tuple[str, int, int]] = []

        def progress(stage: str, done: int, total: int, note: str = "") -> None:
            stages.append((stage, done, total))

        model = LM.load(LoadContext(ref="tiny", path=tiny_llama, options=LmOptions(), progress=progress))
        assert stages == [("load", 0, 1), ("load", 1, 1), ("warm-up", 0, 1), ("warm-up", 1, 1)]
        assert isinstance(model, TextModel)
        assert generate_one(model, chat_request()).completion_tokens == 16


def test_registering_the_backend_does_not_import_mlx() -> None:
    code = (
        "import sys, mlx_host_lm.plugin as plugin; plugin.register_backends(); "
        "print([name for name in ('mlx', 'mlx.core', 'mlx_lm', 'transformers', 'jinja2') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
