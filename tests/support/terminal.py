"""Runs `mlx-host` as a command on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.command import environment


class Terminal:
    """The other end of a terminal; `shown` is everything that was written to it so far."""

    def __init__(self, fd: int) -> None:
        self.shown = ""
        self._fd = fd

    def read_until(self, part: str) -> str:
        """Read until `part` has been shown, or to the end; return everything that was shown, without formatting."""
        while part not in plain(self.shown) and self._read():
            pass
        return plain(self.shown)

    def read_line(self, part: str) -> str:
        """Read until a complete line contains `part`, or to the end; return that line without formatting."""
        while True:
            complete, _, _ = plain(self.shown).rpartition("\n")
            line = next((line for line in complete.split("\n") if part in line), None)
            if line is not None:
                return line
            assert self._read(), f"no line with {part!r} in:\n{plain(self.shown)}"

    def _read(self) -> bool:
        # At the end of a terminal, Linux raises an error; other systems return nothing.
        with suppress(OSError):
            piece = os.read(self._fd, 65536)
            self.shown += piece.decode(errors="replace")
            return bool(piece)
        return False


def plain(text: str) -> str:
    """Remove escape sequences, and spaces at the end of lines."""
    return re.sub(r"[ \t\r]+$", "", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text), flags=re.MULTILINE)


@contextmanager
def on_a_terminal(*args: str, cwd: Path, columns: int = 200) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """Run `mlx-host ARGS` on a terminal with this many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = environment({"TERM": "xterm-256color"})
    for name in ("NO_COLOR", "COLUMNS"):
        env.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "mlx_host", *args], stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=cwd
    )
    os.close(theirs)
    try:
        yield process, Terminal(ours)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)
