"""Decodes audio in processes apart from the model's: a file that crashes or stalls the decoder costs itself alone."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np
from mlx_host.errors import InvalidRequest, TooLarge

from mlx_host_whisper.audio import Samples, read_audio

# An hour of audio takes a few seconds; the host takes a model for dead that is silent for longer than this.
LONGEST_DECODING = 60.0
# How long to wait for the decoder before others have their turn.
TURN = 0.02

# The first byte of an answer; after it come samples or a message.
SAMPLES, INVALID, TOO_LARGE = b"\0", b"\1", b"\2"


class Decoder:
    """Keeps as many decoding processes as are in use at once; the first file starts the first."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._idle: list[_Process] = []

    def decode(self, file: bytes) -> Generator[None, None, Samples]:
        """Decode to 16 kHz mono, giving way meanwhile; raises what `read_audio` raises."""
        answer = yield from self._ask(file)
        kind, body = answer[:1], answer[1:]
        if kind == SAMPLES:
            return np.frombuffer(body, np.int16)
        code, _, message = body.decode().partition(" ")
        raise (TooLarge if kind == TOO_LARGE else InvalidRequest)(message, param="file", code=code)

    def _ask(self, file: bytes) -> Generator[None, None, bytes]:
        # A process that had been waiting may have died on its own account: only a new one convicts the file.
        while self._idle:
            with suppress(_Died):
                return (yield from self._ask_of(self._idle.pop(), file))
        try:
            return (yield from self._ask_of(_Process(self._longest), file))
        except _Died as error:
            raise InvalidRequest(
                "The file made the audio decoder crash.", param="file", code="invalid_audio"
            ) from error

    def _ask_of(self, process: _Process, file: bytes) -> Generator[None, None, bytes]:
        try:
            answer = yield from process.ask(file)
        except BaseException:
            # It died, stalls, or works on something that nobody wants any more.
            process.kill()
            raise
        self._idle.append(process)
        return answer

    def close(self) -> None:
        """End all processes."""
        for process in self._idle:
            process.kill()
        self._idle.clear()


class _Died(Exception):
    """The process ended before it answered."""


class _Process:
    """A decoding process; it ends by itself when this one is gone."""

    def __init__(self, longest: float) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), str(longest)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())

    def ask(self, file: bytes) -> Generator[None, None, bytes]:
        deadline = time.monotonic() + LONGEST_DECODING
        try:
            self._connection.send_bytes(file)
            while not self._connection.poll(TURN):
                if time.monotonic() > deadline:
                    raise InvalidRequest(
                        f"The file could not be decoded within {LONGEST_DECODING:g} seconds.",
                        param="file",
                        code="invalid_audio",
                    )
                yield
            return self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise _Died from error

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()


def main(fd: int, longest: float) -> None:
    """Decode what comes until nothing can come any more."""
    connection = Connection(fd)
    try:
        while True:
            connection.send_bytes(_answer(connection.recv_bytes(), longest))
    except (EOFError, OSError):
        pass


def _answer(file: bytes, longest: float) -> bytes:
    try:
        return SAMPLES + read_audio(file, longest).tobytes()
    except InvalidRequest as error:
        return (TOO_LARGE if isinstance(error, TooLarge) else INVALID) + f"{error.code} {error}".encode()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
