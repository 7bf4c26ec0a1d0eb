"""Compares /v1/audio/transcriptions with mlx_whisper.transcribe called directly: `uv run python -m benchmarks.whisper`.

Both transcribe the same audio with Whisper tiny.en and take turns, round after round. The table has the median
real-time factor: processing time divided by the duration of the audio. The server's time includes HTTP and decoding the
file; the library gets samples.
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
import time
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import IO, Any

import click
import httpx2
import uvloop
from mlx_host._bench.server import run_command, run_server
from mlx_host_demo.plugin import resolve_source
from mlx_host_media.audio import AudioLimits, Samples
from mlx_host_media.audio_decoder import decode_audio

from benchmarks.embeddings import preload

MODEL = "demo:whisper-tiny.en"
SAMPLE = Path("tests/plugins/whisper/samples/news.ogg")
# Retries are random and would distort the measurement; audio of this length needs none.
REPEATED = 2
LONG = 60.0
SAMPLE_RATE = 16_000
ANY_LENGTH = AudioLimits(max_seconds=3600)

LIBRARY, SERVER, STREAMED, FIRST = "mlx_whisper.transcribe", "mlx-host", "mlx-host, streamed", "its first text"


def run_library(folder: str) -> None:
    """Read {"wav", "words"} lines from stdin and print the seconds that mlx-whisper takes for each."""
    import mlx.core as mx
    import numpy as np
    from mlx_whisper import transcribe

    # Like the backend: half precision is slow on a CPU.
    half = mx.default_device().type != mx.DeviceType.cpu
    for line in sys.stdin:
        job = json.loads(line)
        samples = decode_audio(Path(job["wav"]).read_bytes(), SAMPLE_RATE, ANY_LENGTH).astype(np.float32) / 32768
        began = time.perf_counter()
        transcribe(samples, path_or_hf_repo=folder, fp16=half, word_timestamps=job["words"])
        print(time.perf_counter() - began, flush=True)


class Library:
    """mlx-whisper in a separate process."""

    def __init__(self, jobs: IO[str], results: IO[str]) -> None:
        self._jobs = jobs
        self._results = results

    def seconds(self, file: Path, words: bool) -> float:
        print(json.dumps({"wav": str(file), "words": words}), file=self._jobs, flush=True)
        return float(self._results.readline())


@contextmanager
def library_process(folder: Path) -> Iterator[Library]:
    command = [sys.executable, "-m", "benchmarks.whisper", "--library", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | preload()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Library(process.stdin, process.stdout)
        process.stdin.close()


def wav(samples: Samples) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


async def transcribe(client: httpx2.AsyncClient, file: Path, words: bool) -> float:
    fields: dict[str, Any] = {"response_format": "verbose_json"}
    if words:
        fields["timestamp_granularities[]"] = ["word", "segment"]
    began = time.perf_counter()
    response = await client.post("/audio/transcriptions", data=fields, files={"file": (file.name, file.read_bytes())})
    response.raise_for_status()
    return time.perf_counter() - began


async def stream_transcription(client: httpx2.AsyncClient, file: Path) -> tuple[float, float]:
    """Return the seconds to the first text and to the end."""
    first = 0.0
    began = time.perf_counter()
    upload = {"file": (file.name, file.read_bytes())}
    async with client.stream("POST", "/audio/transcriptions", data={"stream": "true"}, files=upload) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not first and line.startswith("data: "):
                first = time.perf_counter() - began
    return first, time.perf_counter() - began


async def measure(files: Mapping[Path, float], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the real-time factors of each round, by candidate and case; for the first text, the seconds."""
    taken: dict[str, dict[str, list[float]]] = {}
    source = resolve_source(MODEL)
    assert source is not None
    environment = [part for name, value in preload().items() for part in ("--env", f"{name}={value}")]
    command = run_command(MODEL, ["--backend", "whisper", *environment])
    with library_process(source.fetch(lambda stage, done, total, note="": None)) as library:
        async with run_server(command) as target:
            url = f"http://{target.host}:{target.port}{target.path}"
            async with httpx2.AsyncClient(base_url=url, timeout=600) as client:
                for turn in range(rounds + 1):
                    for file, seconds in files.items():
                        # Word timestamps cost one pass per window, so short audio shows their cost.
                        for words in (False, True) if seconds < LONG else (False,):
                            case = f"{seconds:.0f} s{', words' if words else ''}"
                            times = {
                                LIBRARY: library.seconds(file, words) / seconds,
                                SERVER: await transcribe(client, file, words) / seconds,
                            }
                            if not words:
                                times[FIRST], whole = await stream_transcription(client, file)
                                times[STREAMED] = whole / seconds
                            if turn:  # Round 0 is the warm-up.
                                for name, took in times.items():
                                    taken.setdefault(name, {}).setdefault(case, []).append(took)
    return taken


def table(taken: Mapping[str, Mapping[str, list[float]]]) -> str:
    cases = list(taken[LIBRARY])
    lines = [f"| | {' | '.join(cases)} |", f"| --- |{' ---: |' * len(cases)}"]
    for name in (LIBRARY, SERVER, STREAMED, FIRST):
        unit = " s" if name == FIRST else ""
        cells = [f"{median(taken[name][case]):.3f}{unit}" if case in taken[name] else "" for case in cases]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ratios = [
        median(ours / theirs for ours, theirs in zip(taken[SERVER][case], taken[LIBRARY][case], strict=True))
        for case in cases
    ]
    lines.append(f"| mlx-host / mlx_whisper | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    return "\n".join(lines)


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Measured rounds.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the numbers of every round to this file."
)
@click.option("--library", "folder", hidden=True)
def main(rounds: int, json_file: Path | None, folder: str | None) -> None:
    """Measure the real-time factor of the server and of the library."""
    if folder is not None:
        run_library(folder)
        return
    import tempfile

    import numpy as np

    news = decode_audio(SAMPLE.read_bytes(), SAMPLE_RATE, ANY_LENGTH)
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[Path, float] = {}
        for name, samples in (("news", news), ("long", np.tile(news, REPEATED))):
            file = Path(scratch) / f"{name}.wav"
            file.write_bytes(wav(samples))
            files[file] = len(samples) / SAMPLE_RATE
        taken = uvloop.run(measure(files, rounds))
    print(f"{platform.platform()}, mlx {version('mlx')}, mlx-whisper {version('mlx-whisper')}, {rounds} rounds\n")
    print(table(taken))
    if json_file is not None:
        json_file.write_text(json.dumps(taken, indent=2) + "\n")


if __name__ == "__main__":
    main()
