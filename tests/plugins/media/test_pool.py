"""The decoder pool: a file that crashes or stalls its decoder process affects only its own request."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import psutil
import pytest
from mlx_host_media import _protocol
from mlx_host_media.audio import AudioLimits
from mlx_host_media.audio_decoder import decode_audio
from mlx_host_media.errors import MediaError
from mlx_host_media.image_decoder import decode_image
from mlx_host_media.images import ImageLimits
from mlx_host_media.pool import DecoderPool

from tests.support.media import encoded, finish, noise
from tests.support.speech import SAMPLE_RATE, sample

AUDIO = sample("capital.ogg")
AUDIO_LIMITS = AudioLimits(max_seconds=60)
IMAGE = encoded(noise(1))
IMAGE_LIMITS = ImageLimits()
# Larger than the buffer of a socket: sending it blocks until the process reads it.
LARGE = IMAGE + bytes(16_000_000)


# Decoder processes of models that other tests have loaded in this process.
_unrelated_pids: set[int] = set()


@pytest.fixture(autouse=True)
def ignore_unrelated_processes() -> Iterator[None]:
    assert not _unrelated_pids
    _unrelated_pids.update(process.pid for process in processes())
    yield
    _unrelated_pids.clear()


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool()
    yield pool
    pool.close()
    assert processes() == []


def processes() -> list[psutil.Process]:
    """Return the running decoder processes of the current test."""
    running = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.pid not in _unrelated_pids and "mlx_host_media._worker" in child.cmdline():
                running.append(child)
    return running


def decode(pool: DecoderPool, file: bytes = IMAGE, limits: ImageLimits = IMAGE_LIMITS) -> Any:
    return pool.decode_image(file, limits)


def start(pool: DecoderPool, file: bytes = IMAGE) -> psutil.Process:
    """Decode a file and return the process, which is then idle."""
    finish(decode(pool, file))
    (process,) = processes()
    return process


def test_processes_start_on_demand(pool: DecoderPool) -> None:
    assert processes() == []
    start(pool)


def test_results_equal_those_of_the_decoder_functions(pool: DecoderPool) -> None:
    for alpha in (False, True):
        file = encoded(noise(1).convert("RGBA"))
        assert finish(pool.decode_image(file, IMAGE_LIMITS, alpha=alpha)) == decode_image(
            file, IMAGE_LIMITS, alpha=alpha
        )
    for limits in (AUDIO_LIMITS, AudioLimits(max_seconds=math.inf)):
        samples = finish(pool.decode_audio(AUDIO, SAMPLE_RATE, limits))
        assert samples.dtype == np.int16
        assert np.array_equal(samples, decode_audio(AUDIO, SAMPLE_RATE, AUDIO_LIMITS))


def test_limits_are_passed_to_the_process(pool: DecoderPool) -> None:
    small = finish(decode(pool, limits=ImageLimits(scale_to=16)))
    assert (small.size, small.original_size) == ((4, 4), (84, 84))
    with pytest.raises(MediaError) as error:
        finish(decode(pool, limits=ImageLimits(max_pixels=16)))
    assert error.value.code == "image_too_large"
    with pytest.raises(MediaError) as error:
        finish(pool.decode_audio(AUDIO, SAMPLE_RATE, AudioLimits(max_seconds=1)))
    assert error.value.code == "audio_too_long"
    with pytest.raises(MediaError, match=" 9") as error:
        finish(pool.decode_audio(AUDIO, SAMPLE_RATE, AudioLimits(max_seconds=60, min_seconds=9)))
    assert error.value.code == "invalid_audio"


def test_a_process_is_reused(pool: DecoderPool) -> None:
    first = start(pool)
    for file in (b"", IMAGE, b"garbage", LARGE):
        with suppress(MediaError):
            finish(decode(pool, file))
    finish(pool.decode_audio(AUDIO, SAMPLE_RATE, AUDIO_LIMITS))
    assert processes() == [first]


def test_max_workers_limits_the_processes() -> None:
    pool = DecoderPool(max_workers=2)
    jobs = [decode(pool, LARGE) for _ in range(5)]
    results: list[Any] = []
    waiting = list(jobs)
    seen = set()
    while waiting:
        for job in list(waiting):
            try:
                next(job)
            except StopIteration as end:
                results.append(end.value)
                waiting.remove(job)
            seen |= {process.pid for process in processes()}
    assert len(results) == 5
    assert len(seen) == 2
    pool.close()


def suspended(pool: DecoderPool) -> psutil.Process:
    """Return an idle process that is suspended."""
    process = start(pool)
    process.suspend()
    return process


def test_a_file_that_crashes_its_decoder_is_rejected(pool: DecoderPool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlx_host_media.pool.WORKER_COMMAND", (sys.executable, "-c", "import os; os._exit(1)"))
        with pytest.raises(MediaError) as error:
            finish(decode(pool))
        assert error.value.code == "invalid_image"
        with pytest.raises(MediaError) as error:
            finish(pool.decode_audio(AUDIO, SAMPLE_RATE, AUDIO_LIMITS))
        assert error.value.code == "invalid_audio"
    assert finish(decode(pool)).size == (84, 84)


def test_a_process_that_died_while_idle_is_replaced(pool: DecoderPool) -> None:
    os.kill(start(pool).pid, signal.SIGKILL)
    assert finish(decode(pool)).size == (84, 84)


def test_a_file_is_sent_to_a_new_process_if_a_reused_one_dies(pool: DecoderPool) -> None:
    process = suspended(pool)
    decoding = decode(pool, LARGE)
    next(decoding)
    process.kill()
    assert finish(decoding).size == (84, 84)


@pytest.mark.parametrize("file", [IMAGE, LARGE], ids=["small", "larger than the socket buffer"])
def test_a_stalled_process_is_killed_at_the_deadline(pool: DecoderPool, file: bytes) -> None:
    suspended(pool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_timeout", 0.5)
        decoding = decode(pool, file)
        # Does not block, although the process reads nothing.
        next(decoding)
        with pytest.raises(MediaError, match=r"within 0\.5 seconds") as error:
            finish(decoding)
    assert error.value.code == "invalid_image"
    assert processes() == []
    assert finish(decode(pool)).size == (84, 84)


def test_closing_a_generator_kills_its_process(pool: DecoderPool) -> None:
    suspended(pool)
    decoding = decode(pool, LARGE)
    next(decoding)
    decoding.close()
    assert processes() == []
    assert finish(decode(pool)).size == (84, 84)


def test_a_process_exits_with_its_parent() -> None:
    script = (
        "import sys; from tests.plugins.media.test_pool import *; pool = DecoderPool();"
        "print(start(pool).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        worker = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
    worker.wait(30)


def test_replies_are_not_unpickled_and_have_a_size_limit() -> None:
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.sendall(_protocol.PREFIX.pack(2, 1 << 40) + b"{}")
        with pytest.raises(ValueError, match="bytes"):
            _protocol.receive(receiver, max_body=1000)
    for header in (b"[]", b"\x80\x04K\x07.", json.dumps("x").encode()):
        receiver, sender = socket.socketpair()
        with receiver, sender:
            sender.sendall(_protocol.PREFIX.pack(len(header), 0) + header)
            with pytest.raises(ValueError):
                _protocol.receive(receiver, max_body=1000)
