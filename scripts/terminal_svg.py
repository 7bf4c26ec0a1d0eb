"""Records docs/assets/terminal.svg from a real server: `uv run python -m scripts.terminal_svg`.

Runs `mlx-host run` in a pseudo-terminal, sends one request when it is ready, and draws both outputs.
Needs curl, jq and the port 8000.
"""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).resolve().parent.parent / "docs" / "assets" / "terminal.svg"
SERVER = "mlx-host run --backend lm --model demo:smollm2"
REQUEST = (
    "curl -s http://127.0.0.1:8000/v1/chat/completions --json "
    """'{"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}' """
    "| jq '.choices[0].message'"
)
COLUMNS, LINES = 100, 40


def record() -> tuple[str, str]:
    """Return what the server writes to a terminal until it has logged the request, and the output of the request."""
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (LINES, COLUMNS))
    process = subprocess.Popen(
        [sys.executable, "-m", "mlx_host", *SERVER.split()[1:]],
        stdin=side,
        stdout=side,
        stderr=side,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)},
    )
    os.close(side)
    output, response = b"", None
    try:
        for chunk in _read(main):
            output += chunk
            if not output.endswith(b"\n"):
                continue
            if b"ready: " in output and response is None:
                response = subprocess.run(REQUEST, shell=True, capture_output=True, text=True, check=True).stdout
            if b" ttft " in output and response is not None:
                return output.decode(), response
    finally:
        process.send_signal(signal.SIGINT)
        # The server blocks when the terminal's buffer is full, so the rest is read before waiting for it.
        for _ in _read(main):
            pass
        process.wait()
        os.close(main)
    raise SystemExit(f"the server exited with status {process.returncode}:\n{output.decode()}")


def _read(descriptor: int) -> Iterator[bytes]:
    """Yield output until the other side of the terminal is closed, which Linux reports as an error."""
    while True:
        try:
            chunk = os.read(descriptor, 4096)
        except OSError:
            return
        if not chunk:
            return
        yield chunk


def final_screen(output: str) -> str:
    """Apply the control codes with which rich redraws progress bars, and return the lines that remain, with colors."""
    lines = [""]
    row = 0
    for part in re.split(r"(\r|\n|\x1b\[\d*[AK]|\x1b\[\?25[lh])", output):
        if part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1] or 1)
        elif part.endswith("K") and part.startswith("\x1b"):
            lines[row] = ""
        elif part != "\r" and not part.startswith("\x1b[?"):
            lines[row] += part
    return "\n".join(lines).rstrip()


def draw(server: str, response: str) -> str:
    """Return an SVG of a terminal; its fonts are the reader's, because rich's template loads them from another host."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command, output in ((SERVER, final_screen(server)), (REQUEST, response)):
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(output.rstrip()), end="\n\n")
    svg = console.export_svg(title="mlx-host", unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, monospace")


if __name__ == "__main__":
    TARGET.write_text(draw(*record()), encoding="utf-8")
