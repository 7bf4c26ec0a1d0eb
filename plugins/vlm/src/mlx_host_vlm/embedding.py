"""Embeddings of a network that sees: the mean of the last hidden states over text, or a picture and text."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import mlx.core as mx
from mlx_host.embedding import InputType, Row
from mlx_host.errors import ContextLengthExceededError
from mlx_host_lm.embedding import TextEmbedder, unit_vectors
from mlx_host_lm.mlx_lm_api import Loaded as TextLoaded

from mlx_host_vlm.media import Medium
from mlx_host_vlm.mlx_vlm_api import Inputs, Loaded

Read = Callable[[str, Medium], Inputs]
"""A text beside a picture, and the picture, to what the network reads."""


class VisionEmbedder(TextEmbedder):
    """A TextEmbedder that also takes pictures, by the names under which they wait in `pictures`."""

    def __init__(self, loaded: Loaded, vocabulary: int, context_length: int | None, read: Read) -> None:
        super().__init__(TextLoaded(loaded.language_model, loaded.tokenizer, loaded.config), vocabulary, context_length)
        self.pictures: dict[str, Medium] = {}
        self._loaded = loaded
        self._read = read

    def encode_image(self, url: str, text: str, input_type: InputType | None) -> Generator[None, None, Row]:
        if url not in self.pictures:
            return (yield from super().encode_image(url, text, input_type))
        inputs = self._read(text, self.pictures[url])
        if self.context_length is not None and len(inputs.tokens) > self.context_length:
            raise ContextLengthExceededError(self.context_length, len(inputs.tokens), param="image_url")
        return Row(inputs.tokens, image=inputs)

    def embed(self, rows: Sequence[Row]) -> list[bytes | None]:
        texts = [number for number, row in enumerate(rows) if row.image is None]
        written = dict(zip(texts, super().embed([rows[number] for number in texts]) if texts else [], strict=True))
        for number, row in enumerate(rows):
            if row.image is not None:
                states = self._loaded.states(row.image).astype(mx.float32)
                written[number] = unit_vectors(states.mean(axis=0, keepdims=True))[0]
        return [written[number] for number in range(len(rows))]
