"""The decoder's processes: what a file does to one of them, no other file notices."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import suppress

import numpy as np
import psutil
import pytest
from mlx_host.errors import InvalidRequest, TooLarge
from mlx_host_whisper.audio import Samples, read_audio
from mlx_host_whisper.decoder import Decoder

from tests.support.speech import sample

FILE = sample("capital.ogg")


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(longest=60)
    yield decoder
    decoder.close()
    assert processes() == []


def processes() -> list[psutil.Process]:
    """The decoders that run."""
    running = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "mlx_host_whisper.decoder" in child.cmdline():
                running.append(child)
    return running


def finish(decoding: Generator[None, None, Samples]) -> Samples:
    try:
        while True:
            next(decoding)
    except StopIteration as end:
        samples: Samples = end.value
        return samples


def test_the_sound_is_that_of_read_audio(decoder: Decoder) -> None:
    assert np.array_equal(finish(decoder.decode(FILE)), read_audio(FILE, 60))


def test_refusals_arrive_as_they_are(decoder: Decoder) -> None:
    with pytest.raises(InvalidRequest, match="The file is empty") as refused:
        finish(decoder.decode(b""))
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, "file", "invalid_audio")


def test_too_long_is_a_413() -> None:
    decoder = Decoder(longest=1)
    with pytest.raises(TooLarge, match="longer than") as refused:
        finish(decoder.decode(FILE))
    assert refused.value.code == "audio_too_long"
    decoder.close()


def test_one_process_serves_file_after_file(decoder: Decoder) -> None:
    finish(decoder.decode(FILE))
    (first,) = processes()
    for file in (b"", FILE, b"garbage"):
        with suppress(InvalidRequest):
            finish(decoder.decode(file))
    assert processes() == [first]


def test_two_files_at_once_have_a_process_each(decoder: Decoder) -> None:
    one, other = decoder.decode(FILE), decoder.decode(sample("capital.wav"))
    next(one)
    next(other)
    assert len(processes()) == 2
    assert np.array_equal(finish(other), read_audio(sample("capital.wav"), 60))
    assert np.array_equal(finish(one), read_audio(FILE, 60))


def test_a_file_that_crashes_the_decoder_is_refused_and_the_next_is_not(decoder: Decoder) -> None:
    decoding = decoder.decode(FILE)
    next(decoding)
    (process,) = processes()
    process.kill()
    with pytest.raises(InvalidRequest, match="made the audio decoder crash"):
        finish(decoding)
    assert np.array_equal(finish(decoder.decode(FILE)), read_audio(FILE, 60))


def test_a_decoder_that_died_between_files_is_replaced(decoder: Decoder) -> None:
    finish(decoder.decode(FILE))
    (process,) = processes()
    os.kill(process.pid, signal.SIGKILL)
    assert np.array_equal(finish(decoder.decode(FILE)), read_audio(FILE, 60))


def test_a_decoder_that_dies_as_it_is_asked_is_replaced(decoder: Decoder) -> None:
    finish(decoder.decode(FILE))
    (process,) = processes()
    process.suspend()
    decoding = decoder.decode(FILE)
    next(decoding)
    process.kill()
    assert np.array_equal(finish(decoding), read_audio(FILE, 60))


def test_a_file_that_stalls_the_decoder_is_refused(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(decoder.decode(FILE))
    (process,) = processes()
    process.suspend()
    monkeypatch.setattr("mlx_host_whisper.decoder.LONGEST_DECODING", 0.0)
    with pytest.raises(InvalidRequest, match="could not be decoded within"):
        finish(decoder.decode(FILE))
    assert processes() == []


def test_giving_a_file_up_ends_its_process(decoder: Decoder) -> None:
    finish(decoder.decode(FILE))
    (process,) = processes()
    process.suspend()
    decoding = decoder.decode(FILE)
    next(decoding)
    decoding.close()
    assert processes() == []
