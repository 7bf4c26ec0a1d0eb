"""The public interface of API plugins: what they register, and the service that their endpoints use.

`mlx_host.api.http` is for request handlers, `mlx_host.api.text` for APIs of text models. This module does not import
the web framework.
"""

from mlx_host.api.chat_events import (
    ChatEvent,
    ChoiceCompleted,
    ChoiceDelta,
    FinishReason,
    OutputCompleted,
    VisiblePart,
)
from mlx_host.api.contract import Api, ApiSettings, Endpoints
from mlx_host.api.service import (
    LOCAL,
    Caller,
    Deadline,
    ModelState,
    ModelStatus,
    Reply,
    RequestRecord,
    Service,
)

__all__ = [
    "LOCAL",
    "Api",
    "ApiSettings",
    "Caller",
    "ChatEvent",
    "ChoiceCompleted",
    "ChoiceDelta",
    "Deadline",
    "Endpoints",
    "FinishReason",
    "ModelState",
    "ModelStatus",
    "OutputCompleted",
    "Reply",
    "RequestRecord",
    "Service",
    "VisiblePart",
]
