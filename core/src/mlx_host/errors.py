"""The exceptions of mlx-host; all of them can be pickled.

MlxHostError
├── UsageError                         invalid command line, setting or environment: exit code 2
├── PluginError                        a plugin violates the plugin contract
├── LoadError                          a model cannot be loaded
└── RequestError                       one request fails, with an HTTP status and OpenAI's error fields
    ├── InvalidRequestError            400
    │   ├── ContextLengthExceededError 400
    │   ├── UnsupportedRequestError    400
    │   └── RequestTooLargeError       413
    ├── ModelNotFoundError             404
    ├── QueueFullError                 429
    ├── EngineError                    500
    │   └── EngineDeadError            500
    ├── PluginFailedError              500
    ├── ModelUnavailableError          503
    └── QueueTimeoutError              504
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar


class MlxHostError(Exception):
    """Base class of all errors that mlx-host raises; the message is meant for users."""


class UsageError(MlxHostError):
    """The command line, a setting or the environment is invalid."""


class PluginError(MlxHostError):
    """A plugin violates the plugin contract."""


class LoadError(MlxHostError):
    """A model cannot be found or loaded."""


class RequestError(MlxHostError):
    """One request fails; the client gets an error response with this status.

    `param` is the invalid request field, `code` is OpenAI's machine-readable error code. `retry_after` is sent as the
    Retry-After header, in seconds. Unless the error is `retryable`, the header `x-should-retry: false` prevents SDKs
    from retrying.
    """

    status: int = 500
    type: ClassVar[str] = "server_error"
    retryable: bool = True
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable

    @property
    def message(self) -> str:
        return str(self)


class InvalidRequestError(RequestError):
    """The request is malformed, or has a value that is not allowed."""

    status = 400
    type = "invalid_request_error"


class ContextLengthExceededError(InvalidRequestError):
    """The prompt exceeds the model's context length; both numbers are in tokens.

    `at_least`: the prompt may have more tokens; it was rejected without counting them all.
    """

    code = "context_length_exceeded"

    def __init__(
        self, limit: int, prompt_tokens: int, *, param: str | None = "messages", at_least: bool = False
    ) -> None:
        # Client frameworks match this wording to decide whether to shorten the prompt and retry.
        super().__init__(
            f"This model's maximum context length is {limit} tokens. However, your prompt is too long: "
            f"it has {'at least ' if at_least else ''}{prompt_tokens} tokens (context_length_exceeded).",
            param=param,
        )
        self.limit = limit
        self.prompt_tokens = prompt_tokens
        self.at_least = at_least

    def __reduce__(self) -> tuple[object, tuple[int, int], dict[str, object]]:
        return partial(type(self), at_least=self.at_least), (self.limit, self.prompt_tokens), self.__dict__


class UnsupportedRequestError(InvalidRequestError):
    """The model does not support this type of request, or one of its parameters."""

    code = "unsupported_request"


class RequestTooLargeError(InvalidRequestError):
    """The request exceeds a size limit; the message has the size and the limit."""

    status = 413
    code = "too_large"


class ModelNotFoundError(RequestError):
    """No served model has this name."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class QueueFullError(RequestError):
    """The model's queue is full."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class EngineError(RequestError):
    """The model raised an exception while processing the request."""

    code = "engine_failed"


class EngineDeadError(EngineError):
    """The model's process died while processing the request."""

    # The request may be the cause, and would kill the restarted process too.
    retryable = False


class PluginFailedError(RequestError):
    """A plugin's hook failed for this request."""

    code = "plugin_failed"


class ModelUnavailableError(RequestError):
    """The model does not accept requests: it is not loaded, has failed or is shutting down."""

    status = 503
    code = "model_unavailable"


class QueueTimeoutError(RequestError):
    """The request exceeded the queue timeout, which limits waiting and running time together."""

    status = 504
    type = "timeout_error"
    code = "queue_timeout"


def describe_error(error: BaseException) -> str:
    """Return the reason of an exception as one line for messages to users, such as "no such file: 'config.json'".

    An OSError is described without its number and class; others start with the name of their class. A period at the end
    is removed, since the reason becomes a part of a sentence.
    """
    lines = str(error).strip().splitlines()
    text = lines[0].rstrip(".") if lines else ""
    if not isinstance(error, OSError):
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    if error.strerror is None or error.filename is None:
        return error.strerror or text or type(error).__name__
    reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror.lower()
    return f"{reason}: {str(error.filename)!r}"
