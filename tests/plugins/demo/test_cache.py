"""Models are converted once and atomically, even if converting processes are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from mlx_host_demo.cache import build_once
from mlx_host_demo.plugin import resolve_source

MODEL_FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


class FetchProcess:
    """A child process that fetches `demo:smollm2` step by step."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child

    @property
    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        return self.child.stdin, self.child.stdout

    def read(self) -> dict[str, Any]:
        return dict(json.loads(self._pipes[1].readline()))

    def step(self) -> dict[str, Any]:
        stdin, _ = self._pipes
        stdin.write("\n")
        stdin.flush()
        return self.read()

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def resume(self) -> None:
        """Let the process run without waiting for `step`."""
        self._pipes[0].close()

    def finish(self) -> tuple[list[dict[str, Any]], Path]:
        """Return the remaining progress and the path."""
        lines = [json.loads(line) for line in self._pipes[1]]
        assert self.child.wait() == 0
        return lines[:-1], Path(lines[-1]["path"])


@contextmanager
def fetch_process() -> Iterator[FetchProcess]:
    script = Path(__file__).with_name("stepwise_fetch.py")
    command = [sys.executable, str(script), "demo:smollm2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield FetchProcess(child)
        finally:
            child.kill()


def converted_models(cache: Path) -> list[Path]:
    return [path for path in (cache / "demo").iterdir() if path.is_dir() and ".partial-" not in path.name]


def partial_folders(cache: Path) -> list[Path]:
    return list((cache / "demo").glob("*.partial-*"))


def test_a_fetch_reports_progress_and_a_second_fetch_uses_the_cache(cache: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    source = resolve_source("demo:smollm2")
    assert source is not None
    folder = source.fetch(lambda stage, done, total, note="": steps.append((stage, done, total)))
    assert {path.name for path in folder.iterdir()} == MODEL_FILES
    assert steps == [("convert", done, 272) for done in range(273)]
    steps.clear()
    assert source.fetch(lambda stage, done, total, note="": steps.append((stage, done, total))) == folder
    assert steps == []


def test_killed_conversions_are_discarded_and_a_waiting_process_takes_over(cache: Path) -> None:
    for tensors in (0, 7, 272):
        with fetch_process() as first:
            progress = first.read()
            while progress["done"] < tensors:
                progress = first.step()
            first.kill()
        assert converted_models(cache) == []
        assert len(partial_folders(cache)) == 1

    with fetch_process() as first:
        assert first.read()["total"] == 272
        with fetch_process() as second:
            second.resume()
            assert "another process" in second.read()["note"]
            first.kill()
            steps, folder = second.finish()
    assert steps[-1]["done"] == 272
    assert {path.name for path in folder.iterdir()} == MODEL_FILES
    assert converted_models(cache) == [folder]
    assert partial_folders(cache) == []


def test_concurrent_fetches_convert_once(cache: Path) -> None:
    with fetch_process() as first:
        assert first.read()["total"] == 272
        with fetch_process() as second:
            second.resume()
            assert "another process" in second.read()["note"]
            first.resume()
            _, folder = first.finish()
            assert second.finish() == ([], folder)
    assert converted_models(cache) == [folder]
    assert partial_folders(cache) == []


def test_a_failed_build_is_discarded(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "partial").write_text("")
        raise ZeroDivisionError

    def succeed(folder: Path) -> None:
        (folder / "complete").write_text("")

    def fail_on_wait() -> None:
        pytest.fail("must not wait for another process")

    with pytest.raises(ZeroDivisionError):
        build_once("model", fail, fail_on_wait)
    assert converted_models(cache) == partial_folders(cache) == []
    assert [path.name for path in build_once("model", succeed, fail_on_wait).iterdir()] == ["complete"]


def test_each_version_has_a_separate_folder(cache: Path) -> None:
    def fetch(version: str) -> str:
        def build(folder: Path) -> None:
            (folder / "version").write_text(version)

        return (build_once(f"model-{version}", build, on_wait=lambda: None) / "version").read_text()

    assert [fetch("v1"), fetch("v2"), fetch("v1")] == ["v1", "v2", "v1"]
