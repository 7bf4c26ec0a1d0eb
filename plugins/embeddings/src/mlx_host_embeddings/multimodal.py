"""Embedders of models that support images: SigLIP, with images as separate inputs, and Qwen3-VL."""

from __future__ import annotations

from collections.abc import Container, Generator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import mlx.core as mx
from mlx_host.errors import ContextLengthExceededError, InvalidRequestError
from mlx_host_text.embedding_scheduler import EmbeddingInput, InputType
from mlx_host_text.pooling import normalize, to_bytes
from mlx_host_text.pooling_config import Prompts
from PIL.Image import Image

from mlx_host_embeddings.images import ImageLoader
from mlx_host_embeddings.mlx_embeddings_api import Array, Qwen3Vl, Siglip


class SiglipEmbedder:
    """Texts and images in one space; a text fills all positions with padding, as the model was trained."""

    def __init__(self, model: Siglip, prompts: Prompts, loader: ImageLoader, context_length: int | None) -> None:
        self._model = model
        self._loader = loader
        self._prompts = prompts
        self.vocabulary_size = model.vocabulary
        self.context_length = context_length
        self.matryoshka_dimensions: Container[int] = ()
        self.dimensions: int = self._texts([EmbeddingInput([model.tokenizer.pad_id])]).shape[1]

    def encode(
        self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None
    ) -> list[EmbeddingInput]:
        prompt = self._prompts[input_type]
        encoded = self._model.tokenizer.encode_batch([prompt + text for text in texts], limit)
        return [EmbeddingInput(tokens) for tokens in encoded]

    def encode_images(
        self, urls: Sequence[str], texts: Sequence[str], input_type: InputType | None
    ) -> Generator[None, None, list[EmbeddingInput]]:
        if any(texts):
            raise InvalidRequestError(
                "This model embeds texts and images, but not a text together with an image: send two requests, the one "
                "for the image without an input.",
                param="input",
            )
        inputs: list[EmbeddingInput] = []
        for url in urls:
            if inputs:
                yield
            image = yield from self._loader.load(url)
            inputs.append(EmbeddingInput(range(self._model.patches), image=self._model.pixels(image)))
        return inputs

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[bytes | None]:
        vectors: dict[int, bytes | None] = {}
        for run in (self._texts, self._images):
            indices = [index for index, each in enumerate(inputs) if (each.image is None) == (run == self._texts)]
            if indices:
                vectors.update(zip(indices, to_bytes(run([inputs[index] for index in indices])), strict=True))
        return [vectors[index] for index in range(len(inputs))]

    def _texts(self, inputs: Sequence[EmbeddingInput]) -> Array:
        length, pad = self._model.positions, self._model.tokenizer.pad_id
        tokens = mx.array([[*each.tokens, *[pad] * (length - len(each.tokens))] for each in inputs])
        return normalize(self._model.texts(tokens).astype(mx.float32))

    def _images(self, inputs: Sequence[EmbeddingInput]) -> Array:
        return normalize(self._model.images(mx.stack([each.image for each in inputs])).astype(mx.float32))


class Qwen3VlEmbedder:
    """The last token's vector of a conversation with the text, the image or both.

    A prompt replaces the model's default instruction. Inputs run through the network one at a time, because its
    attention produces NaN for padding.
    """

    def __init__(self, model: Qwen3Vl, prompts: Prompts, loader: ImageLoader, context_length: int | None) -> None:
        self._model = model
        self._loader = loader
        self._prompts = prompts
        self.vocabulary_size = model.vocabulary
        self.context_length = context_length
        self.matryoshka_dimensions: Container[int] = ()
        self.dimensions: int = self._vector(EmbeddingInput([0])).shape[1]

    def encode(
        self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None
    ) -> list[EmbeddingInput]:
        return [EmbeddingInput(self._encode_text(text, self._prompts[input_type], limit)) for text in texts]

    def encode_images(
        self, urls: Sequence[str], texts: Sequence[str], input_type: InputType | None
    ) -> Generator[None, None, list[EmbeddingInput]]:
        encoded: list[EmbeddingInput] = []
        for url, text in zip(urls, texts, strict=True):
            if encoded:
                yield
            image = yield from self._loader.load(url)
            encoded.append(self._encode_image(image, text, input_type))
        return encoded

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[bytes | None]:
        return [vector for each in inputs for vector in to_bytes(self._vector(each))]

    def _encode_text(self, text: str, prompt: str, limit: int | None) -> list[int]:
        """Tokens of a conversation; a limit shortens only the text, because the template's last token is pooled."""
        tokens = _tokens(self._model.process(text, None, prompt))
        if limit is None or len(tokens) <= limit:
            return tokens
        # The tokens that the conversations with two different texts end with.
        other = _tokens(self._model.process("-", None, prompt))
        pairs = zip(reversed(tokens), reversed(other), strict=False)
        end = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return [*tokens[: max(0, limit - end)], *tokens[len(tokens) - min(end, limit) :]]

    def _encode_image(self, image: Image, text: str, input_type: InputType | None) -> EmbeddingInput:
        inputs = self._model.process(text, image, self._prompts[input_type])
        tokens = _tokens(inputs)
        if self.context_length is not None and len(tokens) > self.context_length:
            raise ContextLengthExceededError(self.context_length, len(tokens), param="image_url")
        return EmbeddingInput(tokens, image=inputs)

    def _vector(self, encoded: EmbeddingInput) -> Array:
        inputs = {"input_ids": mx.array([encoded.tokens])} if encoded.image is None else encoded.image
        return normalize(self._model.states(inputs)[:, -1].astype(mx.float32))


def _tokens(inputs: Mapping[str, Array]) -> list[int]:
    tokens: Any = inputs["input_ids"][0].tolist()
    return list(tokens)
