"""The Embedder of vision models: the mean of the last hidden states over a text, or an image with a text."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import mlx.core as mx
from mlx_host.errors import ContextLengthExceededError
from mlx_host_text.embedder import TextEmbedder
from mlx_host_text.embedding_scheduler import EmbeddingInput, InputType
from mlx_host_text.pooling import normalize, to_bytes

from mlx_host_vlm.mlx_vlm_api import LoadedModel
from mlx_host_vlm.prompts import VlmPrompts


class VisionEmbedder:
    """Embeds texts with a TextEmbedder, and images as messages of a user."""

    def __init__(self, loaded: LoadedModel, texts: TextEmbedder, prompts: VlmPrompts) -> None:
        self.context_length = texts.context_length
        self.vocabulary_size = texts.vocabulary_size
        self.dimensions = texts.dimensions
        self.matryoshka_dimensions = texts.matryoshka_dimensions
        self._loaded = loaded
        self._texts = texts
        self._prompts = prompts

    def encode(
        self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None
    ) -> list[EmbeddingInput]:
        return self._texts.encode(texts, input_type, limit)

    def encode_images(
        self, urls: Sequence[str], texts: Sequence[str], input_type: InputType | None
    ) -> Generator[None, None, list[EmbeddingInput]]:
        if not self._prompts.supports_images:
            return (yield from self._texts.encode_images(urls, texts, input_type))
        images = yield from self._prompts.load_images(urls)
        encoded: list[EmbeddingInput] = []
        for image, text in zip(images, texts, strict=True):
            if encoded:
                yield
            inputs = self._prompts.image_inputs(text, image)
            if self.context_length is not None and len(inputs.tokens) > self.context_length:
                raise ContextLengthExceededError(self.context_length, len(inputs.tokens), param="image_url")
            encoded.append(EmbeddingInput(inputs.tokens, image=inputs))
        return encoded

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[bytes | None]:
        texts = [index for index, each in enumerate(inputs) if each.image is None]
        vectors = dict(zip(texts, self._texts.embed([inputs[index] for index in texts]) if texts else [], strict=True))
        for index, each in enumerate(inputs):
            if each.image is not None:
                states = self._loaded.states(each.image).astype(mx.float32)
                vectors[index] = to_bytes(normalize(states.mean(axis=0, keepdims=True)))[0]
        return [vectors[index] for index in range(len(inputs))]
