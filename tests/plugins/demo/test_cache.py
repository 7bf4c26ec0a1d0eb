"""A conversion happens once, whole or not at all, whatever happens to the process that does it."""

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


class Fetching:
    """A child process that fetches `demo:smollm2` and takes a step of progress when told to."""

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

    def run_on(self) -> None:
        self._pipes[0].close()

    def finish(self) -> tuple[list[dict[str, Any]], Path]:
        """The rest of the progress, and the path."""
        lines = [json.loads(line) for line in self._pipes[1]]
        assert self.child.wait() == 0
        return lines[:-1], Path(lines[-1]["path"])


@contextmanager
def fetching() -> Iterator[Fetching]:
    script = Path(__file__).with_name("stepwise_fetch.py")
    command = [sys.executable, str(script), "demo:smollm2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield Fetching(child)
        finally:
            child.kill()


def converted(cache: Path) -> list[Path]:
    return [path for path in (cache / "demo").iterdir() if path.is_dir() and ".partial-" not in path.name]


def leftovers(cache: Path) -> list[Path]:
    return list((cache / "demo").glob("*.partial-*"))


def test_progress_counts_up_to_the_total_and_a_second_fetch_has_nothing_to_do(cache: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    source = resolve_source("demo:smollm2")
    assert source is not None
    folder = source.fetch(lambda stage, done, total, note="": steps.append((stage, done, total)))
    assert {path.name for path in folder.iterdir()} == MODEL_FILES
    assert steps == [("convert", done, 272) for done in range(273)]
    steps.clear()
    assert source.fetch(lambda stage, done, total, note="": steps.append((stage, done, total))) == folder
    assert steps == []


def test_killed_conversions_count_for_nothing_and_the_one_that_waited_takes_over(cache: Path) -> None:
    for tensors in (0, 7, 272):
        with fetching() as first:
            progress = first.read()
            while progress["done"] < tensors:
                progress = first.step()
            first.kill()
        assert converted(cache) == []
        assert len(leftovers(cache)) == 1

    with fetching() as first:
        assert first.read()["total"] == 272
        with fetching() as second:
            second.run_on()
            assert "another process" in second.read()["note"]
            first.kill()
            steps, folder = second.finish()
    assert steps[-1]["done"] == 272
    assert {path.name for path in folder.iterdir()} == MODEL_FILES
    assert converted(cache) == [folder]
    assert leftovers(cache) == []


def test_two_at_once_end_with_one_conversion(cache: Path) -> None:
    with fetching() as first:
        assert first.read()["total"] == 272
        with fetching() as second:
            second.run_on()
            assert "another process" in second.read()["note"]
            first.run_on()
            _, folder = first.finish()
            assert second.finish() == ([], folder)
    assert converted(cache) == [folder]
    assert leftovers(cache) == []


def test_failed_build_leaves_nothing_and_the_next_one_works(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("no such luck")

    def succeed(folder: Path) -> None:
        (folder / "whole").write_text("")

    def never() -> None:
        raise AssertionError("nobody else is building")

    with pytest.raises(RuntimeError, match="no such luck"):
        build_once("model", fail, never)
    assert converted(cache) == leftovers(cache) == []
    assert [path.name for path in build_once("model", succeed, never).iterdir()] == ["whole"]


def test_another_version_is_another_folder(cache: Path) -> None:
    def fetch(version: str) -> str:
        def build(folder: Path) -> None:
            (folder / "version").write_text(version)

        return (build_once(f"model-{version}", build, on_wait=lambda: None) / "version").read_text()

    assert [fetch("v1"), fetch("v2"), fetch("v1")] == ["v1", "v2", "v1"]
