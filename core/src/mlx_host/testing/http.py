"""HTTP responses in tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HttpResponse:
    """A complete HTTP response; header names are in lower case.

    `complete` is False if the server aborted the connection before the end of the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def media_type(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0]

    def json(self) -> Any:
        return json.loads(self.body)

    def messages(self) -> list[tuple[str | None, str]]:
        """Return the event name and the data of each server-sent event; comments are skipped."""
        found = []
        for block in self.text.split("\n\n"):
            fields = [line.partition(": ") for line in block.split("\n") if line and not line.startswith(":")]
            data = [value for name, _, value in fields if name == "data"]
            if data:
                event = next((value for name, _, value in fields if name == "event"), None)
                found.append((event, "\n".join(data)))
        return found
