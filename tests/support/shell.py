"""An interactive shell on a pseudo-terminal, which gets keystrokes."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


class Shell:
    """The terminal of a running shell; `output` is everything that it has printed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.output = ""

    def send(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait_for(self, text: str, timeout: float = 60) -> str:
        """Wait until the program has printed this text; return what it printed from the last call through the text."""
        start = len(self.output)
        deadline = time.monotonic() + timeout
        while text not in self.output[start:]:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} is not in {self.output[start:]!r}"
            self.output += os.read(self._fd, 65536).decode(errors="replace")
        return self.output[start:]


@contextlib.contextmanager
def running_shell(command: Sequence[str], env: Mapping[str, str], cwd: Path) -> Iterator[Shell]:
    """Start a program on a pseudo-terminal and kill it at the end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=dict(env), cwd=cwd, start_new_session=True
    )
    os.close(theirs)
    try:
        yield Shell(ours)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
