"""Backends compose the classes of mlx-host-text; they subclass its options only."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import mlx_host_embeddings
import mlx_host_lm
import mlx_host_vlm
import pytest
from mlx_host_text.options import GenerationOptions


@pytest.mark.parametrize("package", [mlx_host_embeddings, mlx_host_lm, mlx_host_vlm], ids=lambda each: each.__name__)
def test_backends_subclass_options_only(package: object) -> None:
    assert inspect.ismodule(package)
    names = [each.name for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    classes = [
        defined
        for name in names
        for _, defined in inspect.getmembers(importlib.import_module(name), inspect.isclass)
        if defined.__module__ == name
    ]
    assert classes
    subclasses = {
        defined.__name__
        for defined in classes
        for base in defined.__mro__[1:]
        if base.__module__.startswith("mlx_host_text.") and base is not GenerationOptions
    }
    assert subclasses == set()
