"""Core's own APIs, registered through the same hook as a plugin's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlx_host._apis.audio import AUDIO
from mlx_host._apis.chat import CHAT
from mlx_host._apis.completions import COMPLETIONS
from mlx_host._apis.embeddings import EMBEDDINGS
from mlx_host._apis.home import HOME
from mlx_host._apis.images import IMAGES
from mlx_host._apis.models import MODELS
from mlx_host._apis.responses import RESPONSES
from mlx_host._apis.status import STATUS
from mlx_host._apis.tokens import TOKENS
from mlx_host.api import Api
from mlx_host.hookspecs import hookimpl


@hookimpl
def register_apis() -> Iterable[Api[Any]]:
    """Return the OpenAI APIs, tokenization, the APIs for monitoring, and the home page."""
    return (CHAT, RESPONSES, COMPLETIONS, EMBEDDINGS, IMAGES, AUDIO, TOKENS, MODELS, STATUS, HOME)
