"""Embedders of models that take images: SigLIP, for which an image is an input of its own, and Qwen3-VL."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx_host.embedding import Embedder, InputType, Row
from mlx_host.errors import ContextLengthExceededError, InvalidRequestError

from mlx_host_embeddings.images import ImageLoader
from mlx_host_embeddings.mlx_embeddings_api import Array, Qwen3Vl, Siglip
from mlx_host_embeddings.pooling import as_bytes, normalized
from mlx_host_embeddings.recipe import Prefixes


class SiglipEmbedder(Embedder):
    """Texts and images in one space; a text fills all positions with padding, as the model was trained."""

    def __init__(self, model: Siglip, prefixes: Prefixes, loader: ImageLoader) -> None:
        self._model = model
        self._loader = loader
        self._prefixes = prefixes
        self.vocabulary = model.vocabulary
        self.context_length = model.positions
        self.dimensions = self._texts([Row([model.tokenizer.pad_id])]).shape[1]

    def encode(self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None) -> list[Row]:
        prefix = self._prefixes[input_type]
        return [Row(ids) for ids in self._model.tokenizer.encode([prefix + text for text in texts], limit)]

    def encode_image(self, url: str, text: str, input_type: InputType | None) -> Generator[None, None, Row]:
        if text:
            raise InvalidRequestError(
                "This model embeds texts and images, but not a text together with an image: send them apart, the "
                "image without an input.",
                param="input",
            )
        image = yield from self._loader.load(url)
        return Row(range(self._model.patches), image=self._model.pixels(image))

    def embed(self, rows: Sequence[Row]) -> list[bytes | None]:
        written: dict[int, bytes | None] = {}
        for kind in (self._texts, self._images):
            which = [number for number, row in enumerate(rows) if (row.image is None) == (kind == self._texts)]
            if which:
                written.update(zip(which, as_bytes(kind([rows[number] for number in which])), strict=True))
        return [written[number] for number in range(len(rows))]

    def _texts(self, rows: Sequence[Row]) -> Array:
        length, pad = self._model.positions, self._model.tokenizer.pad_id
        tokens = mx.array([[*row.tokens, *[pad] * (length - len(row.tokens))] for row in rows])
        return normalized(self._model.texts(tokens).astype(mx.float32))

    def _images(self, rows: Sequence[Row]) -> Array:
        return normalized(self._model.images(mx.stack([row.image for row in rows])).astype(mx.float32))


class Qwen3VlEmbedder(Embedder):
    """The last token's vector of a conversation that holds the text, the image or both.

    A prefix takes the place of the model's own instruction. Rows go through the network one at a time: its attention
    makes NaN of padding.
    """

    def __init__(self, model: Qwen3Vl, prefixes: Prefixes, loader: ImageLoader) -> None:
        self._model = model
        self._loader = loader
        self._prefixes = prefixes
        self.vocabulary = model.vocabulary
        self.context_length = model.positions
        self.dimensions = self._vector(Row([0])).shape[1]

    def encode(self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None) -> list[Row]:
        prefix = self._prefixes[input_type]
        return [Row(_tokens(self._model.read(text, None, prefix))[:limit]) for text in texts]

    def encode_image(self, url: str, text: str, input_type: InputType | None) -> Generator[None, None, Row]:
        image = yield from self._loader.load(url)
        inputs = self._model.read(text, image, self._prefixes[input_type])
        tokens = _tokens(inputs)
        if self.context_length is not None and len(tokens) > self.context_length:
            raise ContextLengthExceededError(self.context_length, len(tokens), param="image_url")
        return Row(tokens, image=inputs)

    def embed(self, rows: Sequence[Row]) -> list[bytes | None]:
        return [vector for row in rows for vector in as_bytes(self._vector(row))]

    def _vector(self, row: Row) -> Array:
        inputs = {"input_ids": mx.array([row.tokens])} if row.image is None else row.image
        return normalized(self._model.states(inputs)[:, -1].astype(mx.float32))


def _tokens(inputs: Mapping[str, Array]) -> list[int]:
    tokens: Any = inputs["input_ids"][0].tolist()
    return list(tokens)
