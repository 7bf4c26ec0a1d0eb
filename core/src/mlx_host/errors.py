"""Every error that mlx-host raises on purpose; all of them pickle.

MlxHostError
├── UsageError            the command line, a setting or the environment is wrong: exit code 2
├── PluginError           a plugin broke the contract
├── LoadError             a model could not be loaded
└── RequestError          one request ends; carries the HTTP status and OpenAI's error fields
    ├── InvalidRequestError            400
    │   ├── ContextLengthExceededError 400
    │   ├── UnsupportedRequestError    400
    │   └── RequestTooLargeError              413
    ├── ModelNotFoundError             404
    ├── QueueFullError                429
    ├── EngineError              500
    │   └── EngineDeadError            500
    ├── PluginFailedError         500
    ├── ModelUnavailableError          503
    └── QueueTimeoutError              504
"""

from __future__ import annotations

from typing import ClassVar


class MlxHostError(Exception):
    """The root of the tree; its text is one sentence that a user can act on."""


class UsageError(MlxHostError):
    """The command line, a setting or the environment cannot be used as given."""


class PluginError(MlxHostError):
    """A plugin broke the plugin contract."""


class LoadError(MlxHostError):
    """A model could not be found or loaded."""


class RequestError(MlxHostError):
    """One request ends here, with the status and body that the client gets.

    `param` names the invalid request field, `code` is OpenAI's machine-readable code and `retry_after` (seconds)
    becomes the Retry-After header. If it is not `retryable`, the header `x-should-retry: false` keeps SDKs from sending
    the request again.
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
    """The client asked for something malformed or impossible."""

    status = 400
    type = "invalid_request_error"


class ContextLengthExceededError(InvalidRequestError):
    """The prompt does not fit the model's context; the text holds both numbers in tokens."""

    code = "context_length_exceeded"

    def __init__(self, limit: int, prompt_tokens: int, *, param: str | None = "messages") -> None:
        # The wording is what client frameworks look for when they decide to shorten and retry.
        super().__init__(
            f"This model's maximum context length is {limit} tokens. However, your prompt is too long: "
            f"it has {prompt_tokens} tokens (context_length_exceeded).",
            param=param,
        )
        self.limit = limit
        self.prompt_tokens = prompt_tokens

    def __reduce__(self) -> tuple[type, tuple[int, int], dict[str, object]]:
        return type(self), (self.limit, self.prompt_tokens), self.__dict__


class UnsupportedRequestError(InvalidRequestError):
    """The model does not serve this kind of request."""

    code = "unsupported_request"


class RequestTooLargeError(InvalidRequestError):
    """The client sent more than is taken here; the text says how much that is."""

    status = 413
    code = "too_large"


class ModelNotFoundError(RequestError):
    """No model of that name is served here."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class QueueFullError(RequestError):
    """The queue is full."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class EngineError(RequestError):
    """The model failed while it worked on this request."""

    code = "engine_failed"


class EngineDeadError(EngineError):
    """The model's process ended while it worked on this request, which may be why; the next one might end, too."""

    retryable = False


class PluginFailedError(RequestError):
    """A plugin's hook failed on this request."""

    code = "plugin_failed"


class ModelUnavailableError(RequestError):
    """The model takes no requests: it is not loaded, has failed or is being shut down."""

    status = 503
    code = "model_unavailable"


class QueueTimeoutError(RequestError):
    """The request took longer, waiting and running together, than the queue timeout allows."""

    status = 504
    type = "timeout_error"
    code = "queue_timeout"
