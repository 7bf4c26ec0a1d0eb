"""Imports MLX, multiplies two matrices, and prints the result as JSON; run in its own process, which may crash."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

SIZE = 256


def probe() -> dict[str, Any]:
    try:
        mx = importlib.import_module("mlx.core")
    except Exception as error:  # noqa: BLE001  a missing library of the system is reported
        return {"stage": "import", "missing": isinstance(error, ModuleNotFoundError), "error": str(error)}
    try:
        matrix = mx.full((SIZE, SIZE), 2.0)
        product = matrix @ matrix
        mx.eval(product)
        correct = bool((product == 4.0 * SIZE).all().item())
        device = mx.default_device()
        info = {key: value for key, value in _device_info(mx).items() if isinstance(value, str | int)}
    except Exception as error:  # noqa: BLE001  as above
        return {"stage": "matmul", "error": str(error)}
    return {
        "stage": "done",
        "correct": correct,
        "version": importlib.import_module("importlib.metadata").version("mlx"),
        "device": str(device.type).rpartition(".")[2],
        "info": info,
        "openblas": _has_openblas(),
    }


def _device_info(mx: Any) -> dict[str, Any]:
    # Before MLX 0.30, it was a function of mlx.core.metal.
    read = getattr(mx, "device_info", None) or mx.metal.device_info
    return dict(read())


def _has_openblas() -> bool:
    """Whether OpenBLAS is loaded, on Linux."""
    maps = Path("/proc/self/maps")
    return maps.exists() and re.search(r"/libopenblas[^/]*\.so", maps.read_text()) is not None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe()))
