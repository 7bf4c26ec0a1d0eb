"""Checks of the machine: Python, MLX, BLAS, memory."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from mlx_host._cli.doctor import mlx_probe
from mlx_host._cli.doctor.check import Check, Status
from mlx_host._engine.mlx_install import mlx_remedy

TIMEOUT = 120
OPENBLAS = "libopenblas.so.0"
# Less than this is too little for most models, in bytes.
MIN_MEMORY = 4 * 10**9


def check_python() -> Check:
    system = "macOS" if sys.platform == "darwin" else platform.system()
    release = platform.mac_ver()[0] if sys.platform == "darwin" else platform.release()
    message = f"{platform.python_version()} on {system} {release}, {platform.machine()}"
    return Check("Python", Status.OK, message, details={"implementation": platform.python_implementation()})


def check_mlx() -> Iterator[Check]:
    """Import MLX and multiply two matrices in a subprocess; on Linux, also check the BLAS of the CPU build."""
    found = _probe()
    if found["stage"] != "done":
        yield Check("MLX", Status.ERROR, _failure(found), _sentence(mlx_remedy()))
        return
    is_cpu = found["device"] == "cpu"
    api = "CPU" if is_cpu else "Metal" if sys.platform == "darwin" else "CUDA"
    message = f"{found['version']} on {api}"
    message += f" ({name})" if (name := found["info"].get("device_name")) else ""
    details = {"version": found["version"], "device": api, **found["info"]}
    if not found["correct"]:
        remedy = "Reinstall MLX; if that does not help, report a bug in MLX."
        yield Check("MLX", Status.ERROR, f"{message}: a test computation returned a wrong result", remedy, details)
    elif is_cpu and sys.platform == "darwin":
        remedy = "Run on a Mac with Apple silicon, outside a virtual machine."
        yield Check("MLX", Status.WARNING, f"{message}: Metal is not available", remedy, details)
    else:
        yield Check("MLX", Status.OK, f"{message}; the result of a test computation is correct", details=details)
    if is_cpu and sys.platform == "linux":
        yield _check_blas(found["openblas"])


def _probe() -> dict[str, Any]:
    """Run the probe; a crash is a failure at the stage "crash"."""
    # -P: the folder of the script is not on the import path.
    command = [sys.executable, "-P", mlx_probe.__file__]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return {"stage": "crash", "error": f"no result after {TIMEOUT} seconds"}
    if done.returncode == 0 and done.stdout:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    lines = done.stderr.strip().splitlines()
    ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
    return {"stage": "crash", "error": f"{ended}: {lines[-1]}" if lines else ended}


def _failure(found: dict[str, Any]) -> str:
    if found.get("missing"):
        return "not installed"
    what = {"import": "cannot be imported", "matmul": "cannot compute", "crash": "crashes"}[found["stage"]]
    lines = found["error"].strip().splitlines() or ["unknown reason"]
    return f"{what}: {lines[0]}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _check_blas(has_openblas: bool) -> Check:
    if has_openblas:
        return Check("BLAS", Status.OK, "OpenBLAS is preloaded")
    libraries = sorted(map(str, Path("/usr/lib").glob(f"*/openblas-*/{OPENBLAS}")))
    if libraries:
        remedy = f"Preload OpenBLAS in the model's process: mlx-host run --env LD_PRELOAD={libraries[0]}"
    else:
        remedy = "Install OpenBLAS (on Debian: apt-get install libopenblas0-pthread) and run `mlx-host doctor` again."
    return Check("BLAS", Status.WARNING, "MLX uses its reference BLAS, which is slow with float32 weights", remedy)


def check_memory() -> Iterator[Check]:
    memory = psutil.virtual_memory()
    details = {"total_bytes": memory.total, "available_bytes": memory.available}
    message = f"{_gigabytes(memory.available)} of {_gigabytes(memory.total)} available"
    if memory.available < MIN_MEMORY:
        yield Check("memory", Status.WARNING, message, "Close other programs, or serve a small model.", details)
    else:
        yield Check("memory", Status.OK, message, details=details)
    if sys.platform == "darwin":
        yield check_wired_limit(memory.total)


def check_wired_limit(total: int) -> Check:
    command = ["sysctl", "-n", "iogpu.wired_limit_mb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip().isdigit():
        return Check("wired memory", Status.OK, "this version of macOS has no iogpu.wired_limit_mb")
    limit = int(done.stdout)
    if limit == 0:
        message = "the default limit of macOS, about two thirds to three quarters of the memory"
    else:
        message = f"at most {_gigabytes(limit * 2**20)} of {_gigabytes(total)} (iogpu.wired_limit_mb={limit})"
    return Check("wired memory", Status.OK, message, details={"iogpu.wired_limit_mb": limit})


def _gigabytes(size: int) -> str:
    return f"{size / 10**9:.1f} GB"
