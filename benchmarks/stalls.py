"""Measures how long one request stalls another: `uv run python -m benchmarks.stalls`.

For each backend, one client streams without a pause. Another client sends one heavy request at a time. The table has
the longest gap between two pieces of the stream while the heavy request runs, and in the seconds before it. The first
is at most 0.1 s longer than the second if no request stalls another. The clients share the machine with the server.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import rich_click as click
import uvloop
from mlx_host._bench.http_client import Target, send_request
from mlx_host._bench.server import run_command, run_server
from PIL import Image

from benchmarks.compare import machine, preload
from tests.support.speech import sample, wav
from tests.support.tiny_flux import write_tiny_flux
from tests.support.tiny_llama import write_tiny_llama
from tests.support.tiny_vlm import write_tiny_qwen2_vl

QUIET_SECONDS = 4.0
# The stream is measured for this long after the heavy request has ended.
AFTER_SECONDS = 0.5
TIMEOUT = 600.0
TARGET = 0.1
CONTEXT = 16_384
PROMPT_BYTES = 8_000_000
TOOLS, TOOL_BYTES = 1000, 20_000
MESSAGES = 100_000
IMAGES, IMAGE_SIZE = 8, 2000
AUDIO_SECONDS = 600
TEXTS = 10_000
CONNECTIONS = 1000
SLOW_SECONDS = 10
WORDS = "The quick brown fox jumps over the lazy dog and thinks about the weather in Oslo. "
LONG_TEXT = WORDS * (PROMPT_BYTES // len(WORDS))

Send = Callable[[Target], Awaitable[str]]
"""Sends a heavy request, waits for its end, and returns the status or another result."""


@dataclass(frozen=True)
class Stream:
    """The requests of the steady client: the body is repeated, and each piece or response counts as one arrival."""

    path: str
    body: bytes
    media_type: str = "application/json"


@dataclass(frozen=True)
class Backend:
    """A server to measure: the options of `mlx-host run`, the steady client, and the heavy requests by name."""

    name: str
    model: str
    options: tuple[str, ...]
    stream: Stream
    heavy: Mapping[str, Send]


def encode(target: Target, path: str, body: bytes, media_type: str = "application/json") -> bytes:
    request = target.request("POST", path, body)
    return request.replace(b"Content-Type: application/json", f"Content-Type: {media_type}".encode(), 1)


def post(path: str, body: Any, media_type: str = "application/json") -> Send:
    """Return a function that posts a body; the body is encoded in advance."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def send(target: Target) -> str:
        request = encode(target, path, content, media_type)
        response = await send_request(target, request, clock=time.perf_counter, timeout=TIMEOUT)
        return str(response.status or response.failure)

    return send


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "any", "messages": user("Hi."), "max_tokens": 4, "temperature": 0, **fields}


def user(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


def large_tools() -> list[Any]:
    description = (WORDS * (TOOL_BYTES // len(WORDS) + 1))[:TOOL_BYTES]
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    return [
        {"type": "function", "function": {"name": f"tool_{i}", "description": description, "parameters": parameters}}
        for i in range(TOOLS)
    ]


def large_schema() -> dict[str, Any]:
    """A schema that takes about a second to compile."""
    words = {"type": "string", "pattern": "^([a-z]{3,40} ){2,30}$"}
    names = [f"field_{number}" for number in range(60)]
    return {"type": "object", "properties": dict.fromkeys(names, words), "required": names}


def large_images() -> list[Any]:
    parts = []
    for seed in range(IMAGES):
        pixels = np.random.default_rng(seed).integers(0, 255, (IMAGE_SIZE // 8, IMAGE_SIZE // 8, 3), np.uint8)
        image = Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return [*parts, {"type": "text", "text": "What do they show?"}]


def audio_form(seconds: int, **fields: str) -> tuple[bytes, str]:
    """Return a form with a WAV file, and the media type of the form."""
    t = np.arange(seconds * 16_000) / 16_000
    noise = np.random.default_rng(0).normal(0, 300, t.size)
    file = wav((3000 * np.sin(2 * np.pi * 220 * t) * (np.sin(2 * np.pi * 3 * t) > 0) + noise).astype(np.int16))
    return form(file, "noise.wav", fields)


def form(file: bytes, name: str, fields: Mapping[str, str]) -> tuple[bytes, str]:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    parts.append(f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode())
    return b"".join([*parts, file, b"\r\n--x--\r\n"]), "multipart/form-data; boundary=x"


async def many_connections(target: Target) -> str:
    """Open all connections at once, each with one small request."""
    request = target.request("GET", "/models")
    responses = await asyncio.gather(
        *(send_request(target, request, clock=time.perf_counter, timeout=TIMEOUT) for _ in range(CONNECTIONS))
    )
    return f"{sum(response.status == 200 for response in responses)} of {CONNECTIONS} x 200"


def slow_reader(path: str, body: Any) -> Send:
    """Read one byte a second of a response, with a small receive buffer."""

    async def send(target: Target) -> str:
        loop = asyncio.get_running_loop()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, (target.host, target.port))
            await loop.sock_sendall(connection, encode(target, path, json.dumps(body).encode()))
            count = 0
            for _ in range(SLOW_SECONDS):
                count += len(await asyncio.wait_for(loop.sock_recv(connection, 1), TIMEOUT))
                await asyncio.sleep(1)
            return f"{count} bytes"
        finally:
            connection.close()

    return send


class SteadyClient:
    """Repeats one request without a pause, and records when it waits for the server and when data arrives."""

    def __init__(self, target: Target, stream: Stream) -> None:
        self._target = target
        self._request = encode(target, stream.path, stream.body, stream.media_type)
        self._times: list[float] = []

    async def run(self) -> None:
        while True:
            response = await send_request(self._target, self._request, clock=self._clock, timeout=TIMEOUT)
            if response.status != 200:
                reason = response.status or response.failure
                raise click.ClickException(f"the steady client got {reason}: {response.body[:300]!r}")

    def _clock(self) -> float:
        # Called when a request is sent, when data arrives and at the end.
        self._times.append(time.perf_counter())
        return self._times[-1]

    def longest_gap(self, start: float, end: float) -> float:
        """The longest time without data between two points in time, in seconds."""
        times = [start, *(at for at in self._times if start < at < end), end]
        return max(later - earlier for earlier, later in pairwise(times))


def run_steady_client(target: Target, stream: Stream, questions: Connection) -> None:
    """Run a SteadyClient in this process, and send back the longest gap between two points in time."""

    async def run() -> None:
        client = SteadyClient(target, stream)
        asyncio.get_running_loop().add_reader(
            questions.fileno(), lambda: questions.send(client.longest_gap(*questions.recv()))
        )
        await client.run()

    uvloop.run(run())


@contextmanager
def steady_client(target: Target, stream: Stream) -> Iterator[Callable[[float, float], float]]:
    """Run a SteadyClient in its own process, so that heavy requests do not delay it; yield its `longest_gap`."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=run_steady_client, args=(target, stream, theirs))
    process.start()
    theirs.close()

    def longest_gap(start: float, end: float) -> float:
        ours.send((start, end))
        gap: float = ours.recv()
        return gap

    try:
        yield longest_gap
    finally:
        process.terminate()
        process.join()


@dataclass(frozen=True)
class Row:
    """The gaps in seconds without and with a heavy request, the request's result, and the seconds that it took."""

    backend: str
    heavy: str
    result: str
    seconds: float
    without: float
    gap: float

    @property
    def excess(self) -> float:
        return self.gap - self.without


async def measure(backend: Backend, names: Sequence[str], rounds: int) -> AsyncIterator[Row]:
    """Yield the medians over the rounds, of the round with the median excess, for each heavy request."""
    variables = [f"--env={name}={value}" for name, value in preload().items()]
    command = run_command(backend.model, ["--backend", backend.name, *backend.options, *variables])
    async with run_server(command) as target:
        with steady_client(target, backend.stream) as longest_gap:
            # The client starts, and the first requests compile kernels.
            await asyncio.sleep(QUIET_SECONDS)
            for name, send in backend.heavy.items():
                if not names or name in names:
                    yield await measure_one(backend.name, name, longest_gap, target, send, rounds)


async def measure_one(
    backend: str,
    name: str,
    longest_gap: Callable[[float, float], float],
    target: Target,
    send: Send,
    rounds: int,
) -> Row:
    rows = []
    for _ in range(rounds):
        began = time.perf_counter()
        await asyncio.sleep(QUIET_SECONDS)
        sent = time.perf_counter()
        result = await send(target)
        ended = time.perf_counter()
        await asyncio.sleep(AFTER_SECONDS)
        gap = longest_gap(sent, time.perf_counter())
        rows.append(Row(backend, name, result, ended - sent, longest_gap(began, sent), gap))
    return sorted(rows, key=lambda row: row.excess)[len(rows) // 2]


def text_requests() -> dict[str, Send]:
    """The heavy requests that text models and vision models get."""
    schema = {"type": "json_schema", "json_schema": {"name": "large", "schema": large_schema()}}
    return {
        "8 MB prompt": post("/chat/completions", chat(messages=user(LONG_TEXT))),
        "8 MB prompt, tokens counted": post("/messages/count_tokens", {"messages": user(LONG_TEXT)}),
        "20 MB of tools": post("/chat/completions", chat(tools=large_tools())),
        "100,000 messages": post("/chat/completions", chat(messages=user("Hi.") * MESSAGES)),
        "40,000 messages": post("/chat/completions", chat(messages=user("Hi.") * 40_000)),
        "slow schema": post("/chat/completions", chat(response_format=schema)),
        "10,000 texts to embed": post("/embeddings", {"input": [f"{WORDS}{number}" for number in range(TEXTS)]}),
    }


def connection_requests(path: str, body: Any) -> dict[str, Send]:
    return {"1,000 connections": many_connections, "one byte a second": slow_reader(path, body)}


def chat_stream() -> dict[str, Any]:
    # Without the end-of-sequence token, the stream lasts as long as the context.
    return chat(messages=user("Tell a story."), max_tokens=CONTEXT - 200, stream=True, logit_bias={"2": -100})


def text_backend(name: str, model: Path, heavy: Mapping[str, Send]) -> Backend:
    slow = connection_requests("/chat/completions", {**chat_stream(), "max_tokens": 2000})
    stream = Stream("/chat/completions", json.dumps(chat_stream()).encode())
    return Backend(name, str(model), (), stream, {**heavy, **text_requests(), **slow})


def lm(folder: Path) -> Backend:
    return text_backend("lm", write_tiny_llama(folder, context_length=CONTEXT), {})


def vlm(folder: Path) -> Backend:
    images = post("/chat/completions", chat(messages=user(large_images())))
    return text_backend("vlm", write_tiny_qwen2_vl(folder, context_length=CONTEXT), {"eight images": images})


def embeddings(folder: Path) -> Backend:
    texts = [f"{WORDS}{number}" for number in range(TEXTS)]
    return Backend(
        "embeddings",
        "demo:minilm",
        (),
        Stream("/embeddings", json.dumps({"input": "A fox."}).encode()),
        {
            "10,000 texts": post("/embeddings", {"input": texts}),
            "8 MB of text": post("/embeddings", {"input": LONG_TEXT}),
            **connection_requests("/embeddings", {"input": texts[:1000]}),
        },
    )


def whisper(folder: Path) -> Backend:
    clip = form(sample("news.ogg"), "news.ogg", {"stream": "true", "model": "any"})
    heavy = {
        "long audio": post("/audio/transcriptions", *audio_form(AUDIO_SECONDS, model="any")),
        "1,000 connections": many_connections,
    }
    return Backend("whisper", "demo:whisper-tiny.en", (), Stream("/audio/transcriptions", *clip), heavy)


def flux(folder: Path) -> Backend:
    image = {"prompt": "A fox.", "size": "128x128", "steps": 4, "stream": True, "partial_images": 3}
    heavy = {
        "8 MB prompt": post("/images/generations", {"prompt": LONG_TEXT, "size": "128x128", "steps": 1}),
        **connection_requests("/images/generations", image),
    }
    stream = Stream("/images/generations", json.dumps(image).encode())
    options = ("--config-name", "flux2-klein-4b", "--quantize", "16")
    return Backend("flux", str(write_tiny_flux(folder)), options, stream, heavy)


BACKENDS = (lm, vlm, embeddings, whisper, flux)


def markdown(rows: Sequence[Row]) -> str:
    lines = [
        "| backend | heavy request | result | it takes | longest gap without | with | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.backend} | {row.heavy} | {row.result} | {row.seconds:.1f} s | {row.without * 1000:.0f} ms | "
        f"{row.gap * 1000:.0f} ms | {row.excess * 1000:+.0f} ms |"
        for row in rows
    ]
    return "\n".join(lines)


@click.command()
@click.option("--backend", "chosen", multiple=True, help="Backend to measure; can be repeated.  [default: all]")
@click.option("--only", "names", multiple=True, help="Heavy request to measure; can be repeated.  [default: all]")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds for each request.")
def main(chosen: tuple[str, ...], names: tuple[str, ...], rounds: int) -> None:
    """Measure how long one request stalls another."""

    async def run(folder: Path) -> list[Row]:
        rows = []
        for make in BACKENDS:
            if chosen and make.__name__ not in chosen:
                continue
            async for row in measure(make(folder / make.__name__), names, rounds):
                click.echo(f"{row.backend}, {row.heavy}: {row.excess * 1000:+.0f} ms", err=True)
                rows.append(row)
        return rows

    with tempfile.TemporaryDirectory() as folder:
        rows = uvloop.run(run(Path(folder)))
    click.echo(", ".join(f"{name} {value}" for name, value in machine().items()))
    click.echo(markdown(rows))
    missed = [row for row in rows if row.excess > TARGET]
    if missed:
        click.echo(f"More than {TARGET:g} s: " + ", ".join(f"{row.backend}, {row.heavy}" for row in missed))


if __name__ == "__main__":
    main()
