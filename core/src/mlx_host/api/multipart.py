"""Reads multipart/form-data, the body of requests that bring files, in memory: no file touches the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from mlx_host.api.errors import UnsupportedMediaTypeError
from mlx_host.api.responding import ClientDisconnectError
from mlx_host.errors import InvalidRequest

MAX_PARTS = 100
MAX_TEXT_BYTES = 1_000_000


@dataclass(frozen=True)
class UploadedFile:
    """An uploaded file, under the name that the client gave it."""

    name: str
    content: bytes


@dataclass(frozen=True)
class MultipartForm:
    """What a form holds: each field's texts, in order, and the files; `name[]`, as lists are sent, reads `name`."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[UploadedFile]] = field(default_factory=dict)


async def read(request: Request) -> MultipartForm:
    """Read a request's form; InvalidRequest says what is wrong with it."""
    kind = request.headers.get("content-type", "")
    mime, parameters = parse_options_header(kind)
    if mime != b"multipart/form-data":
        raise UnsupportedMediaTypeError(f"The body must be sent as multipart/form-data, not as {kind!r}.")
    if not parameters.get(b"boundary"):
        raise InvalidRequest("The Content-Type names no boundary between the form's parts.")
    reader = _Reader()
    try:
        parser = MultipartParser(parameters[b"boundary"], reader.callbacks())
        async for piece in request.stream():
            parser.write(piece)
    except FormParserError as error:
        raise InvalidRequest(f"The form cannot be read: {error}.") from error
    except ClientDisconnect:
        raise ClientDisconnectError("The client went away while it sent the form.") from None
    if not reader.complete:
        raise InvalidRequest("The form ends early: its closing boundary is missing.")
    return reader.form


class _Reader:
    """Puts together what the parser finds."""

    def __init__(self) -> None:
        self.form = MultipartForm()
        self.complete = False
        self._parts = self._text_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._name: str | None = None
        self._file: str | None = None

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequest(f"The form has more than {MAX_PARTS} parts.")
        self._headers, self._content = {}, bytearray()

    def _header_end(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        _, parameters = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in parameters:
            raise InvalidRequest("A part of the form has no name.")
        self._name = parameters[b"name"].decode(errors="replace").removesuffix("[]")
        self._file = parameters[b"filename"].decode(errors="replace") if b"filename" in parameters else None

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            self._text_bytes += end - start
            if self._text_bytes > MAX_TEXT_BYTES:
                raise InvalidRequest(f"The form's fields hold more than {MAX_TEXT_BYTES:,} bytes of text.")
        self._content += memoryview(data)[start:end]

    def _end(self) -> None:
        assert self._name is not None
        if self._file is not None:
            self.form.files.setdefault(self._name, []).append(UploadedFile(self._file, bytes(self._content)))
            return
        try:
            text = self._content.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"{self._name}: not valid UTF-8.", param=self._name) from None
        self.form.fields.setdefault(self._name, []).append(text)

    def _all(self) -> None:
        self.complete = True
