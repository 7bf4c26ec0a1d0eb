"""The contract of mlx_host.backend.Model: text, images, several choices, embeddings."""

from __future__ import annotations

from pathlib import Path

from mlx_host.requests import CompletionRequest, EmbeddingRequest, Sampling, TokenizeRequest
from mlx_host.testing import ModelContract, chat
from mlx_host_vlm.plugin import VLM

from tests.plugins.lm.driver import chat_request
from tests.support.media import image_url, look
from tests.support.tiny_vlm import write_tiny_qwen2_vl


class TestVlm(ModelContract):
    backend = VLM
    requests = (
        chat_request(look(1), max_tokens=6),
        chat("What is the capital of France?", max_tokens=9),
        chat_request(look(2, 1, text="Two images."), max_tokens=5, n=2),
        CompletionRequest(id="c", model="m", prompt="Once upon a", n=2, max_tokens=5, sampling=Sampling(temperature=0)),
        CompletionRequest(id="e", model="m", prompt=[9690], echo=True, top_logprobs=1, max_tokens=0),
        TokenizeRequest(id="t", model="m", prompt=chat_request(look(3))),
        EmbeddingRequest(id="v", model="m", inputs=["a cat"], images=[image_url(4)]),
    )

    @classmethod
    def path(cls, empty: Path) -> Path:
        return write_tiny_qwen2_vl(empty, context_length=256)
