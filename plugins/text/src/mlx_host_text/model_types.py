"""Whether a library supports a model type, without importing the library: that would import MLX."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from mlx_host.backend import read_config


def unsupported_model_type(folder: Path, library: str) -> str | None:
    """Return why a library like mlx-lm, the module `library`, cannot load a model folder; None if it can.

    These libraries have a module `models.TYPE` for each `model_type` in config.json, and the table MODEL_REMAPPING of
    other names in `utils.py`. A library with another structure, and a model with its own code, are not checked.
    """
    config = read_config(folder)
    if config is None:
        return "it has no readable config.json"
    spec = find_spec(library)
    if config.get("model_file") or spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0])
    remapping = _remapping(package / "utils.py")
    if remapping is None or not (package / "models").is_dir():
        return None
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return "its config.json has no model_type"
    spellings = (model_type, model_type.lower(), model_type.replace("-", "_"))
    modules = {remapping.get(spelling, spelling) for spelling in spellings}
    if any((package / "models" / name).is_dir() or (package / "models" / f"{name}.py").is_file() for name in modules):
        return None
    return f"{library.replace('_', '-')} does not support the model type {model_type!r}"


def _remapping(file: Path) -> Mapping[str, str] | None:
    """Read the table MODEL_REMAPPING from the source; None if it is not there."""
    try:
        module = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="MODEL_REMAPPING")], value=ast.Dict() as value):
                return {str(key): str(name) for key, name in ast.literal_eval(value).items()}
    return None
