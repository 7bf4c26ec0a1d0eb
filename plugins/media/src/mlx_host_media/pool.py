"""Decodes media in worker processes: a file that crashes or stalls its decoder costs one request."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator

import numpy as np

from mlx_host_media._protocol import Header, receive, send
from mlx_host_media.audio import PADDING_SECONDS, AudioLimits, Samples
from mlx_host_media.background import BackgroundRunner
from mlx_host_media.errors import Code, MediaError
from mlx_host_media.images import DecodedImage, ImageLimits

MAX_WORKERS = 2
# Seconds for one file; an hour of audio takes a few.
TIMEOUT = 60.0
# Seconds that a generator blocks before it yields.
POLL_INTERVAL = 0.02

WORKER_COMMAND = (sys.executable, "-m", "mlx_host_media._worker")

BYTES_PER_PIXEL = 4
BYTES_PER_SAMPLE = 2


class DecoderPool:
    """Keeps up to `max_workers` decoder processes, started when they are first needed, until it is closed.

    The methods are generators that yield None until the result is there; closing one ends the process that works on it.
    `timeout` is in seconds for each file. `patience` returns the seconds that a generator may block before it yields.
    """

    def __init__(
        self,
        *,
        max_workers: int = MAX_WORKERS,
        timeout: float = TIMEOUT,
        patience: Callable[[], float] = lambda: POLL_INTERVAL,
    ) -> None:
        self._runner = BackgroundRunner(patience, max_threads=max_workers)
        self._timeout = timeout
        self._workers = _IdleWorkers()

    def decode_image(
        self, file: bytes, limits: ImageLimits, *, alpha: bool = False
    ) -> Generator[None, None, DecodedImage]:
        """Decode an image, with its alpha channel if `alpha` is set.

        Raises MediaError with the code `invalid_image` or `image_too_large`.
        """
        request = {
            "kind": "image",
            "max_pixels": limits.max_pixels,
            "scale_to": limits.scale_to,
            "alpha": alpha,
        }
        reply, pixels = yield from self._decode(request, file, BYTES_PER_PIXEL * limits.max_pixels, "invalid_image")
        width, height = reply["size"]
        original_width, original_height = reply["original_size"]
        return DecodedImage(reply["mode"], (width, height), (original_width, original_height), pixels)

    def decode_audio(self, file: bytes, sample_rate: int, limits: AudioLimits) -> Generator[None, None, Samples]:
        """Decode audio to mono samples; raises MediaError with the code `invalid_audio` or `audio_too_long`."""
        request = {
            "kind": "audio",
            "sample_rate": sample_rate,
            "max_seconds": limits.max_seconds,
            "min_seconds": limits.min_seconds,
        }
        # The limit may be infinite.
        max_samples = min((limits.max_seconds + PADDING_SECONDS) * sample_rate + 1, sys.maxsize // BYTES_PER_SAMPLE)
        _, samples = yield from self._decode(request, file, BYTES_PER_SAMPLE * int(max_samples), "invalid_audio")
        return np.frombuffer(samples, np.int16)

    def close(self) -> None:
        """End all processes; no generator may be open."""
        self._workers.close()

    def _decode(
        self, request: Header, file: bytes, max_reply: int, code: Code
    ) -> Generator[None, None, tuple[Header, bytearray]]:
        job = _Job(self._workers, self._timeout, request, file, max_reply, code)
        try:
            reply, body = yield from self._runner.run(job.run)
        finally:
            job.cancel()
        if "code" in reply:
            raise MediaError(reply["reason"], reply["code"])
        return reply, body


class _WorkerDiedError(Exception):
    """The process ended, or sent nonsense, before it replied."""


class _CancelledError(Exception):
    """The result is not wanted any more."""


class _Worker:
    """A decoder process; it ends by itself when this process is gone."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*WORKER_COMMAND, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def ask(self, request: Header, file: bytes, max_reply: int, deadline: float) -> tuple[Header, bytearray]:
        """Send a file and wait for the reply; raises TimeoutError at the deadline, or _WorkerDiedError."""
        try:
            send(self._connection, request, file, deadline)
            return receive(self._connection, max_reply, deadline)
        except TimeoutError:
            raise
        except (EOFError, OSError, ValueError) as error:
            raise _WorkerDiedError from error

    def kill(self) -> None:
        """End the process, from any thread; `ask` then raises _WorkerDiedError."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._connection.close()


class _IdleWorkers:
    """The processes that wait for a file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._closed = False

    def take(self) -> _Worker | None:
        with self._lock:
            return self._workers.pop() if self._workers else None

    def put(self, worker: _Worker) -> None:
        with self._lock:
            if not self._closed:
                self._workers.append(worker)
                return
        worker.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, []
        for worker in workers:
            worker.close()


class _Job:
    """One file, decoded on a thread by `run`; `cancel` may be called by another at any time."""

    def __init__(
        self, idle: _IdleWorkers, timeout: float, request: Header, file: bytes, max_reply: int, code: Code
    ) -> None:
        self._idle = idle
        self._timeout = timeout
        self._request = request
        self._file = file
        self._max_reply = max_reply
        self._code = code
        self._lock = threading.Lock()
        self._cancelled = False
        self._worker: _Worker | None = None

    def run(self) -> tuple[Header, bytearray]:
        deadline = time.monotonic() + self._timeout
        try:
            # A process may have died while it was idle: only the death of a new one is blamed on the file.
            if (worker := self._idle.take()) is not None:
                try:
                    return self._ask(worker, deadline)
                except _WorkerDiedError:
                    pass
            return self._ask(_Worker(), deadline)
        except TimeoutError:
            raise MediaError(f"the file could not be decoded within {self._timeout:g} seconds", self._code) from None
        except _WorkerDiedError as error:
            raise MediaError("the file crashed the decoder", self._code) from error

    def _ask(self, worker: _Worker, deadline: float) -> tuple[Header, bytearray]:
        try:
            with self._lock:
                if self._cancelled:
                    raise _CancelledError
                self._worker = worker
            try:
                reply = worker.ask(self._request, self._file, self._max_reply, deadline)
            finally:
                with self._lock:
                    self._worker = None
        except BaseException:
            worker.close()
            raise
        self._idle.put(worker)
        return reply

    def cancel(self) -> None:
        """End the process that works on the file; does nothing once it is done."""
        with self._lock:
            self._cancelled = True
            if self._worker is not None:
                self._worker.kill()
