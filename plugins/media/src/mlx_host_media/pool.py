"""Decodes media in worker processes: a file that crashes or stalls its decoder affects one request only.

States of a decoding job (a call of `decode_image` or `decode_audio`):

    state     event                     next state  side effect
    --------  ------------------------  ----------  ---------------------------------------------------------
    created   first next()              queued      none
    queued    a thread is free          decoding    takes an idle worker, or starts a worker
    queued    generator closed          cancelled   none
    decoding  reply                     done        the worker becomes idle; a rejected file raises MediaError
    decoding  reused worker died        decoding    the file is sent to a new worker, once
    decoding  new worker died           failed      raises MediaError: the file crashed the decoder
    decoding  deadline                  failed      kills the worker; raises MediaError
    decoding  generator closed          cancelled   kills the worker

States of a worker process:

    state  event                        next state  side effect
    -----  ---------------------------  ----------  ---------------------------------------------------------
    busy   reply                        idle        none; if the pool is closed, the worker is ended
    busy   died, deadline, cancelled    ended       the connection is closed
    idle   next file                    busy        none
    idle   pool closed                  ended       the process is killed
    any    the parent process ended     ended       the worker reads the end of its connection and exits
"""

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
# Time limit for one file, in seconds; an hour of audio takes a few seconds.
TIMEOUT = 60.0
# Seconds that a generator blocks before it yields.
POLL_INTERVAL = 0.02

WORKER_COMMAND = (sys.executable, "-m", "mlx_host_media._worker")

BYTES_PER_PIXEL = 4
BYTES_PER_SAMPLE = 2


class DecoderPool:
    """Runs up to `max_workers` decoder processes, which start on demand and run until the pool is closed.

    The methods are generators that yield None until the result is available; closing a generator kills the process that
    decodes its file.

    Args:
        max_workers: Maximum number of processes.
        timeout: Time limit for each file, in seconds.
        patience: Returns how long a generator may block before it yields, in seconds.
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
        # max_seconds may be infinite.
        max_samples = min((limits.max_seconds + PADDING_SECONDS) * sample_rate + 1, sys.maxsize // BYTES_PER_SAMPLE)
        _, samples = yield from self._decode(request, file, BYTES_PER_SAMPLE * int(max_samples), "invalid_audio")
        return np.frombuffer(samples, np.int16)

    def close(self) -> None:
        """End all processes; no generator may be open."""
        self._workers.close()

    def _decode(
        self, request: Header, file: bytes, max_reply: int, code: Code
    ) -> Generator[None, None, tuple[Header, bytearray]]:
        job = _DecodeJob(self._workers, self._timeout, request, file, max_reply, code)
        try:
            reply, body = yield from self._runner.run(job.run)
        finally:
            job.cancel()
        if "code" in reply:
            raise MediaError(reply["reason"], reply["code"])
        return reply, body


class _WorkerDiedError(Exception):
    """The process ended or sent an invalid reply."""


class _CancelledError(Exception):
    """The job was cancelled."""


class _Worker:
    """A decoder process, which exits when this process ends."""

    def __init__(self) -> None:
        self._connection, worker_end = socket.socketpair()
        with worker_end:
            self._process = subprocess.Popen(
                [*WORKER_COMMAND, str(worker_end.fileno())],
                pass_fds=[worker_end.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def decode(self, request: Header, file: bytes, max_reply: int, deadline: float) -> tuple[Header, bytearray]:
        """Send a file and wait for the reply. Raises TimeoutError at the deadline, or _WorkerDiedError."""
        try:
            send(self._connection, request, file, deadline)
            return receive(self._connection, max_reply, deadline)
        except TimeoutError:
            raise
        except (EOFError, OSError, ValueError) as error:
            raise _WorkerDiedError from error

    def kill(self) -> None:
        """Kill the process, from any thread; `decode` then raises _WorkerDiedError."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._connection.close()


class _IdleWorkers:
    """The workers that are not decoding a file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._closed = False

    def take(self) -> _Worker | None:
        """Return an idle worker, or None."""
        with self._lock:
            return self._workers.pop() if self._workers else None

    def put(self, worker: _Worker) -> None:
        """Add an idle worker, or end it if the pool is closed."""
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


class _DecodeJob:
    """Decodes one file: `run` blocks a thread, and `cancel` can be called from another thread at any time."""

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
            # An idle worker may have died for another reason, so the file is blamed only if a new worker dies as well.
            if (worker := self._idle.take()) is not None:
                try:
                    return self._decode(worker, deadline)
                except _WorkerDiedError:
                    pass
            return self._decode(_Worker(), deadline)
        except TimeoutError:
            raise MediaError(f"the file could not be decoded within {self._timeout:g} seconds", self._code) from None
        except _WorkerDiedError as error:
            raise MediaError("the file crashed the decoder", self._code) from error

    def _decode(self, worker: _Worker, deadline: float) -> tuple[Header, bytearray]:
        try:
            with self._lock:
                if self._cancelled:
                    raise _CancelledError
                self._worker = worker
            try:
                reply = worker.decode(self._request, self._file, self._max_reply, deadline)
            finally:
                with self._lock:
                    self._worker = None
        except BaseException:
            worker.close()
            raise
        self._idle.put(worker)
        return reply

    def cancel(self) -> None:
        """Kill the worker that decodes the file; has no effect after `run` has returned."""
        with self._lock:
            self._cancelled = True
            if self._worker is not None:
                self._worker.kill()
