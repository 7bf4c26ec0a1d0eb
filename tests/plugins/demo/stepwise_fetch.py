"""Fetches a demo model; after each line of progress, waits for a line or the end of stdin."""

import json
import sys

from mlx_host_demo.plugin import resolve_source


def report(stage: str, done: int, total: int, note: str = "") -> None:
    sys.stdout.write(json.dumps({"stage": stage, "done": done, "total": total, "note": note}) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


source = resolve_source(sys.argv[1])
assert source is not None
sys.stdout.write(json.dumps({"path": str(source.fetch(report))}) + "\n")
