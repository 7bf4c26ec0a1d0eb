"""The model that sees and hears: requests with pictures and sounds become rows of the batch that text runs in."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mlx_host.backend import LoadContext
from mlx_host.errors import InvalidRequestError, LoadError
from mlx_host.events import Event, Finished, Started, Tokenized
from mlx_host.requests import ChatRequest, EmbeddingRequest, GenerationRequest, Json, TokenizeRequest
from mlx_host_lm.answer import Plan
from mlx_host_lm.mlx_lm_api import TEMPLATE_ERRORS, Snapshot, has_trunk
from mlx_host_lm.model import LanguageModel, Parts, context_length, started, vocabulary_size
from mlx_host_lm.prompts import Prompt, Prompts, read_template
from mlx_host_lm.settings import read_generation_config
from mlx_host_media.fetcher import Fetcher, FetchLimits
from PIL.Image import Image
from PIL.Image import new as new_image

from mlx_host_vlm.embedding import VisionEmbedder
from mlx_host_vlm.keys import MediaKeys, find_runs
from mlx_host_vlm.layout import PART_NAMES, Layout, find_layout
from mlx_host_vlm.media import Kind, Loader, Medium, Part, find_parts
from mlx_host_vlm.mlx_vlm_api import INPUT_ERRORS, Inputs, Loaded, can_always_trim, load
from mlx_host_vlm.options import VlmOptions
from mlx_host_vlm.rows import VisionRows

log = logging.getLogger(__name__)

# How long to wait for a download or a decoder in a turn in which nothing else is to be done.
TURN = 0.02
# So large a part of the prompt cache may be pictures as the network saw them.
SEEN_SHARE = 8
# A picture to try the processor on.
SAMPLE_SIZE = (64, 64)


def load_model(request: LoadContext[VlmOptions]) -> VisionModel:
    if request.path is None or not request.path.is_dir():
        raise LoadError(f"the backend vlm needs a folder with an MLX model, and {request.ref!r} is none")
    options = request.options
    request.progress("load", 0, 1, str(request.ref))
    loaded = load(
        request.path,
        adapter_path=options.adapter_path,
        trust_remote_code=options.trust_remote_code,
        seen_bytes=options.prompt_cache_bytes // SEEN_SHARE,
    )
    model = VisionModel(loaded, options, read_generation_config(request.path))
    request.progress("load", 1, 1, str(request.ref))
    request.progress("warm-up", 0, 1)
    model.warm_up()
    request.progress("warm-up", 1, 1)
    return model


class VisionModel(LanguageModel):
    """A model that takes pictures or sounds as well as text."""

    def __init__(self, loaded: Loaded, options: VlmOptions, generation_config: Mapping[str, Any]) -> None:
        template = read_template(options.chat_template_file)
        self._layout = layout = find_template_layout(loaded, template)
        prompts = Prompts(loaded.tokenizer, template, layout.content)
        limit = context_length(loaded.config, options)
        self._embedder = self._find_embedder(loaded, limit)
        parts = Parts(
            tokenizer=loaded.tokenizer,
            config=loaded.config,
            prompts=prompts,
            open_rows=lambda: VisionRows(loaded, prefill_step_size=options.prefill_step_size),
            trimmable=can_always_trim(loaded.fresh_cache()),
            next_logprobs=loaded.next_logprobs,
            embedder=self._embedder,
        )
        super().__init__(parts, options, generation_config)
        self._loaded = loaded
        if loaded.whole:
            # Where all tokens of a prompt see each other, mlx-vlm's rows of different lengths do not keep apart.
            self.concurrency = 1
        self._keys = MediaKeys()
        self._apart = all(self._stands_apart(kind) for kind in layout.kinds)
        fetcher = Fetcher(FetchLimits(), options.trusted_media_hosts) if options.allow_remote_media else None
        self._media = Loader(
            lambda: 0.0 if self._batch.running else TURN,
            fetcher,
            max_pixels=options.max_image_pixels,
            resize=not options.disable_auto_resize,
            sample_rate=loaded.sample_rate,
            max_seconds=loaded.max_audio_seconds,
        )

    def close(self) -> None:
        super().close()
        self._media.close()

    def _chat(self, request: ChatRequest) -> Iterator[Event | None]:
        parts = find_parts(request.messages)
        if not parts:
            yield from super()._chat(request)
            return
        # Before anything is fetched or decoded: what the template or the model does not take is refused at once.
        text, tail = self._prompts.write(request)
        self._check_number(parts)
        media = yield from self._media.load(parts)
        made = self._read(text, media)
        # Before the network looks: what does not fit is refused.
        self._room(request, made["input_ids"].shape[1])
        yield None
        inputs = self._loaded.embed(made, _name(media))
        digests = [medium.digest for medium in media]
        key = self._keys.key(inputs.tokens, self._loaded.places, digests, apart=self._apart)
        prompt = self._prompts.divide(key or inputs.tokens, tail)
        plan = yield from self._plan(request, prompt, inputs=inputs if key else replace(inputs, known=False))
        yield from self._answer(plan, started(plan, prompt.tail))

    def _tokenize(self, request: TokenizeRequest) -> Iterator[Event | None]:
        parts = find_parts(request.prompt.messages) if isinstance(request.prompt, ChatRequest) else []
        if not parts or not isinstance(request.prompt, ChatRequest):
            yield from super()._tokenize(request)
            return
        text = self._prompts.text(request.prompt, generation_prompt=request.add_generation_prompt)
        self._check_number(parts)
        media = yield from self._media.load(parts)
        tokens = self._read(text, media)["input_ids"][0].tolist()
        yield Started(prompt_tokens=0)
        yield Tokenized(tuple(tokens), tuple(self._tokenizer.symbols(tokens)))
        yield Finished()

    def _embed(self, request: EmbeddingRequest) -> Iterator[Event | None]:
        if self._embedder is None or not request.images or "image" not in self._layout.kinds:
            yield from super()._embed(request)
            return
        names = [f"{request.id}:{number}" for number in range(len(request.images))]
        parts = [Part("image", f"image_url[{number}]", url) for number, url in enumerate(request.images)]
        try:
            media = yield from self._media.load(parts, param="image_url")
            self._embedder.pictures.update(zip(names, media, strict=True))
            yield from super()._embed(replace(request, images=names))
        finally:
            for name in names:
                self._embedder.pictures.pop(name, None)

    def _plan(
        self, request: GenerationRequest, prompt: Prompt, context: Sequence[int] = (), inputs: Any = None
    ) -> Generator[None, None, Plan]:
        if self._loaded.whole and request.n > 1:
            raise InvalidRequestError(
                "n: this model reads its prompt anew for each answer; send the request several times.", param="n"
            )
        return (yield from super()._plan(request, prompt, context, inputs))

    def _prefix(self, prompt: Prompt, inputs: Any) -> tuple[Snapshot | None, int | None]:
        known = not isinstance(inputs, Inputs) or inputs.known
        if self._loaded.whole or not known:
            return None, None
        cached, keep_at = super()._prefix(prompt, inputs)
        if cached is not None and isinstance(inputs, Inputs) and not inputs.divisible:
            # Media see each other: what is left to read may not hold any.
            rest = inputs.tokens[len(cached.tokens) :]
            cached = None if self._loaded.places.intersection(rest) else cached
        return cached, keep_at

    def _read(self, text: str, media: Sequence[Medium], param: str = "messages") -> dict[str, Any]:
        self._layout.check(text, Counter(medium.kind for medium in media), param)
        images = [medium.content for medium in media if isinstance(medium.content, Image)]
        audio = [medium.content for medium in media if not isinstance(medium.content, Image)]
        return self._loaded.read(text, images, audio, param)

    def _check_number(self, parts: Sequence[Part]) -> None:
        audio = [part for part in parts if part.kind == "audio"]
        if len(audio) > 1 and not self._loaded.hears_several:
            raise InvalidRequestError(
                f"{audio[1].where}: this model takes one input_audio a conversation", param="messages"
            )

    def _find_embedder(self, loaded: Loaded, limit: int | None) -> VisionEmbedder | None:
        if not has_trunk(loaded.language_model):
            return None
        try:
            return VisionEmbedder(loaded, vocabulary_size(loaded.config, loaded.tokenizer), limit, self._beside)
        except INPUT_ERRORS as error:
            log.info("this model gives no hidden states to embed with: %s: %s", type(error).__name__, error)
            return None

    def _beside(self, text: str, picture: Medium) -> Inputs:
        """A text beside a picture, as a message of a user."""
        content = [{"type": "image_url"}, *([{"type": "text", "text": text}] if text else [])]
        request = ChatRequest(id="", model="", messages=[{"role": "user", "content": content}])
        made = self._read(self._prompts.text(request, generation_prompt=False), [picture], "image_url")
        return self._loaded.embed(made, _name([picture]), "image_url")

    def _stands_apart(self, kind: Kind) -> bool:
        """Whether the tokens of two media next to each other are more than one run."""
        if kind == "audio" and not self._loaded.hears_several:
            return True
        name, rate = PART_NAMES[kind], self._loaded.sample_rate
        content = new_image("RGB", SAMPLE_SIZE) if kind == "image" else np.zeros(rate, np.float32)
        counts = []
        for number in (1, 2):
            messages = [{"role": "user", "content": [{"type": name}] * number}]
            text = self._prompts.text(ChatRequest(id="", model="", messages=messages), generation_prompt=True)
            try:
                tokens = self._read(text, [Medium(kind, content, b"")] * number)["input_ids"][0].tolist()
            except InvalidRequestError:
                return False
            counts.append(len(find_runs(tokens, self._loaded.places)))
        return counts[1] == 2 * counts[0]


def _name(media: Sequence[Medium]) -> str:
    return " ".join(medium.digest.hex() for medium in media if isinstance(medium.content, Image))


def find_template_layout(loaded: Loaded, template: str | None) -> Layout:
    def render(messages: Sequence[Json]) -> str | None:
        try:
            return loaded.tokenizer.render(messages, (), add_generation_prompt=True, template=template, variables={})
        except TEMPLATE_ERRORS:
            return None

    senses: dict[Kind, bool] = {"image": loaded.sees, "audio": loaded.hears}
    symbols = {kind: loaded.symbols(kind) for kind, there in senses.items() if there}
    return find_layout(render, loaded.marks, symbols)
