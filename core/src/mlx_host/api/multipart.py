"""Parses multipart/form-data, in memory: no file is written to disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from mlx_host.api.errors import UnsupportedMediaTypeError
from mlx_host.api.responding import ClientDisconnectError
from mlx_host.errors import InvalidRequestError

MAX_PARTS = 100
MAX_TEXT_BYTES = 1_000_000


@dataclass(frozen=True)
class UploadedFile:
    """An uploaded file, with the name that the client sent."""

    name: str
    content: bytes


@dataclass(frozen=True)
class MultipartForm:
    """The text fields and files of a form, by name and in order; `name[]`, the usual name of a list, becomes `name`."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[UploadedFile]] = field(default_factory=dict)


async def read(request: Request) -> MultipartForm:
    """Parse the form in a request's body; raises InvalidRequestError or UnsupportedMediaTypeError."""
    content_type = request.headers.get("content-type", "")
    media_type, parameters = parse_options_header(content_type)
    if media_type != b"multipart/form-data":
        raise UnsupportedMediaTypeError(
            f"Content-Type {content_type!r} is not supported; send the body as multipart/form-data."
        )
    if not parameters.get(b"boundary"):
        raise InvalidRequestError("Content-Type has no boundary, which multipart/form-data requires.")
    builder = _FormBuilder()
    try:
        parser = MultipartParser(parameters[b"boundary"], builder.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
    except FormParserError as error:
        raise InvalidRequestError(f"The form is not valid multipart/form-data: {error}.") from error
    except ClientDisconnect:
        raise ClientDisconnectError("The client closed the connection while sending the form.") from None
    if not builder.complete:
        raise InvalidRequestError("The form is incomplete: its closing boundary is missing.")
    return builder.form


class _FormBuilder:
    """Builds a form from the callbacks of the parser."""

    def __init__(self) -> None:
        self.form = MultipartForm()
        self.complete = False
        self._parts = self._text_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._header_name, self._header_value, self._content = bytearray(), bytearray(), bytearray()
        self._name = ""
        self._file_name: str | None = None

    def callbacks(self) -> Any:
        """Return the callbacks by the names that the parser expects."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequestError(f"The form has too many parts; the limit is {MAX_PARTS}.")
        self._headers, self._content = {}, bytearray()

    def _header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name, self._header_value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        _, parameters = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in parameters:
            raise InvalidRequestError("A part of the form has no name.")
        self._name = parameters[b"name"].decode(errors="replace").removesuffix("[]")
        self._file_name = parameters[b"filename"].decode(errors="replace") if b"filename" in parameters else None

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file_name is None:
            self._text_bytes += end - start
            if self._text_bytes > MAX_TEXT_BYTES:
                raise InvalidRequestError(
                    f"The text fields of the form are too large; the limit is {MAX_TEXT_BYTES:,} bytes in total."
                )
        self._content += memoryview(data)[start:end]

    def _part_end(self) -> None:
        content, self._content = bytes(self._content), bytearray()
        if self._file_name is not None:
            self.form.files.setdefault(self._name, []).append(UploadedFile(self._file_name, content))
            return
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise InvalidRequestError(f"{self._name} is not valid UTF-8.", param=self._name) from None
        self.form.fields.setdefault(self._name, []).append(text)

    def _end(self) -> None:
        self.complete = True
