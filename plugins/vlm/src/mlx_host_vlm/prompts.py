"""Prompts with images and audio: loads the media, runs the processor and the network's vision and audio towers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ChatRequest, CompletionRequest, TokenizeRequest
from mlx_host_text.chat_template import AdaptedChat, ChatTemplate, RenderedChat
from mlx_host_text.limits import TextLimits
from mlx_host_text.prompts import Prompt, TextPrompts, restore_points
from PIL.Image import Image
from PIL.Image import new as new_image

from mlx_host_vlm.content_layout import PART_NAMES, ContentLayout
from mlx_host_vlm.media import Kind, MediaLoader, Medium, Part, find_parts
from mlx_host_vlm.media_cache_keys import MediaCacheKeys, find_runs
from mlx_host_vlm.mlx_vlm_api import LoadedModel, MediaInputs

# The size of the image that the processor is probed with.
PROBE_SIZE = (64, 64)


class VlmPrompts:
    """The PromptSource of a model of mlx-vlm."""

    def __init__(
        self,
        loaded: LoadedModel,
        texts: TextPrompts,
        template: ChatTemplate,
        layout: ContentLayout,
        media: MediaLoader,
        limits: TextLimits,
    ) -> None:
        self._loaded = loaded
        self._texts = texts
        self._template = template
        self._layout = layout
        self._media = media
        self._limits = limits
        self._keys = MediaCacheKeys()
        self._separate = all(self._has_separate_runs(kind) for kind in layout.kinds)

    @property
    def chat_template(self) -> str | None:
        return self._texts.chat_template

    @property
    def supports_images(self) -> bool:
        return "image" in self._layout.kinds

    def close(self) -> None:
        self._media.close()
        self._texts.close()

    def chat(self, request: ChatRequest) -> Generator[None, None, Prompt]:
        parts = find_parts(request.messages)
        if not parts:
            return self._cacheable((yield from self._texts.chat(request)))
        # Rendered before anything is fetched or decoded, to reject early what the template does not support.
        text, generation_prompt = yield from self._texts.render(request)
        self._check_number(parts)
        media = yield from self._media.load(parts)
        processed = self._process(text, media)
        tokens: list[int] = processed["input_ids"][0].tolist()
        # Prompts that are too long are rejected before the vision tower runs.
        self._limits.check_length(request, len(tokens))
        yield
        key = self._keys.key(
            tokens, self._loaded.placeholder_ids, [medium.digest for medium in media], separate=self._separate
        )
        prompt = Prompt(
            tokens,
            key=key,
            restore_points=restore_points(self._loaded.tokenizer, tokens if key is None else key, generation_prompt),
            inputs=partial(self._inputs, processed, _feature_name(media)),
            generation_prompt=generation_prompt,
        )
        return self._cacheable(prompt)

    def explain(self, request: ChatRequest) -> Generator[None, None, tuple[AdaptedChat, RenderedChat]]:
        return (yield from self._texts.explain(request))

    def completion(self, request: CompletionRequest) -> Generator[None, None, Prompt]:
        return self._cacheable((yield from self._texts.completion(request)))

    def tokens(self, request: TokenizeRequest) -> Generator[None, None, list[int]]:
        parts = find_parts(request.prompt.messages) if isinstance(request.prompt, ChatRequest) else []
        if not parts or not isinstance(request.prompt, ChatRequest):
            return (yield from self._texts.tokens(request))
        text = self._template.render_text(request.prompt)
        self._check_number(parts)
        media = yield from self._media.load(parts)
        tokens: list[int] = self._process(text, media)["input_ids"][0].tolist()
        return tokens

    def load_images(self, urls: Sequence[str]) -> Generator[None, None, list[Medium]]:
        """Load the images of an embedding request."""
        parts = [Part("image", f"image_url[{number}]", url) for number, url in enumerate(urls)]
        return self._media.load(parts, param="image_url")

    def image_inputs(self, text: str, image: Medium) -> MediaInputs:
        """The inputs for a user message with an image and an optional text."""
        content = [{"type": "image_url"}, *([{"type": "text", "text": text}] if text else [])]
        messages = [{"role": "user", "content": content}]
        rendered = self._template.render_text(
            ChatRequest(id="", model="", messages=messages, add_generation_prompt=False)
        )
        processed = self._process(rendered, [image], "image_url")
        return self._loaded.embed(processed, _feature_name([image]), "image_url")

    def _inputs(
        self, processed: dict[str, Any], feature_name: str, cached_tokens: int
    ) -> Generator[None, None, MediaInputs]:
        yield from ()
        inputs = self._loaded.embed(processed, feature_name)
        # Where image tokens attend to each other, only text may follow a cached prefix.
        usable = inputs.divisible or not self._loaded.placeholder_ids.intersection(inputs.tokens[cached_tokens:])
        return replace(inputs, start=cached_tokens if usable else 0)

    def _cacheable(self, prompt: Prompt) -> Prompt:
        """The prompt without a cache key if its tokens all attend to each other."""
        return replace(prompt, key=None) if self._loaded.prefills_whole else prompt

    def _process(self, text: str, media: Sequence[Medium], param: str = "messages") -> dict[str, Any]:
        self._layout.check(text, Counter(medium.kind for medium in media), param)
        images = [medium.content for medium in media if isinstance(medium.content, Image)]
        audio = [medium.content for medium in media if not isinstance(medium.content, Image)]
        return self._loaded.process(text, images, audio, param)

    def _check_number(self, parts: Sequence[Part]) -> None:
        audio = [part for part in parts if part.kind == "audio"]
        if len(audio) > 1 and not self._loaded.supports_several_audio_clips:
            raise InvalidRequestError(
                f"{audio[1].where}: this model supports one input_audio per conversation.", param="messages"
            )

    def _has_separate_runs(self, kind: Kind) -> bool:
        """Whether the placeholder tokens of two adjacent media form more than one run."""
        if kind == "audio" and not self._loaded.supports_several_audio_clips:
            return True
        name, rate = PART_NAMES[kind], self._loaded.sample_rate
        content = new_image("RGB", PROBE_SIZE) if kind == "image" else np.zeros(rate, np.float32)
        counts = []
        for number in (1, 2):
            messages = [{"role": "user", "content": [{"type": name}] * number}]
            request = ChatRequest(id="", model="", messages=messages)
            text = self._template.render_text(request)
            try:
                tokens = self._process(text, [Medium(kind, content, b"")] * number)["input_ids"][0].tolist()
            except InvalidRequestError:
                return False
            counts.append(len(find_runs(tokens, self._loaded.placeholder_ids)))
        return counts[1] == 2 * counts[0]


def _feature_name(media: Sequence[Medium]) -> str:
    return " ".join(medium.digest.hex() for medium in media if isinstance(medium.content, Image))
