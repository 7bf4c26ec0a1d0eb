"""For request handlers: routers, request bodies, responses, WebSockets and errors. Imports the web framework."""

from mlx_host.api.errors import (
    BackendContractError,
    HttpStatusError,
    InternalError,
    RouteNotFoundError,
    UnsupportedMediaTypeError,
    openai_body,
    openai_error,
    retry_headers,
    validation_error,
)
from mlx_host.api.explaining import EXPLANATION, explain
from mlx_host.api.ignored_fields import ByType, KnownFields, ignored_fields
from mlx_host.api.json_io import JsonResponse, dumps, ignored_header, loads, utf8
from mlx_host.api.multipart import MultipartForm, UploadedFile
from mlx_host.api.multipart import read as read_form
from mlx_host.api.openapi import examples
from mlx_host.api.replies import MergedReply, RetryingReply
from mlx_host.api.responding import (
    NDJSON,
    SSE,
    ClientDisconnectError,
    Collector,
    Encoder,
    Framing,
    Message,
    Messages,
    RawBytes,
    collect,
    respond,
    while_connected,
)
from mlx_host.api.routing import caller, new_router
from mlx_host.api.websockets import FrameReader, frame_text, send_reply

__all__ = [
    "EXPLANATION",
    "NDJSON",
    "SSE",
    "BackendContractError",
    "ByType",
    "ClientDisconnectError",
    "Collector",
    "Encoder",
    "FrameReader",
    "Framing",
    "HttpStatusError",
    "InternalError",
    "JsonResponse",
    "KnownFields",
    "MergedReply",
    "Message",
    "Messages",
    "MultipartForm",
    "RawBytes",
    "RetryingReply",
    "RouteNotFoundError",
    "UnsupportedMediaTypeError",
    "UploadedFile",
    "caller",
    "collect",
    "dumps",
    "examples",
    "explain",
    "frame_text",
    "ignored_fields",
    "ignored_header",
    "loads",
    "new_router",
    "openai_body",
    "openai_error",
    "read_form",
    "respond",
    "retry_headers",
    "send_reply",
    "utf8",
    "validation_error",
    "while_connected",
]
