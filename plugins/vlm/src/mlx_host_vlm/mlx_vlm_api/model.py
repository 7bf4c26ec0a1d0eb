"""A loaded network of mlx-vlm with its processor."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_vlm
from mlx_host.errors import InvalidRequestError, LoadError, describe_error
from mlx_host_text.embedder import HiddenStates
from mlx_host_text.sampling import Array
from mlx_host_text.tokenizer import Tokenizer
from mlx_vlm.generate.ar import _chunked_prefill_enabled
from mlx_vlm.generate.diffusion import is_diffusion_model
from mlx_vlm.prompt_utils import get_message_json
from mlx_vlm.utils import load_config, prepare_inputs
from PIL.Image import Image

from mlx_host_vlm.media.content_parts import Kind
from mlx_host_vlm.media.loader import MAX_AUDIO_SECONDS, AudioSamples
from mlx_host_vlm.mlx_vlm_api.arguments import MediaInputs, align_deepstack, slice_argument, slice_from
from mlx_host_vlm.mlx_vlm_api.batch import cache_ops
from mlx_host_vlm.vision_feature_cache import VisionFeatureCache

# The names of the placeholder token in a network's configuration, and of its text in the processor.
PLACEHOLDER_IDS = ("image_token_id", "image_token_index", "audio_token_id", "audio_token_index")
PLACEHOLDERS: dict[Kind, tuple[str, ...]] = {
    "image": ("image_token", "boi_token"),
    "audio": ("audio_token", "boa_token"),
}
SAMPLE_RATE = 16000
# The exceptions that processors and networks raise for images and audio that they do not support.
INPUT_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, StopIteration)


class LoadedModel:
    """A network of mlx-vlm and its processor, reduced to what serving needs.

    `placeholder_ids` are the tokens that represent images and audio in a prompt. `prefills_whole` means that a prompt
    is prefilled in one pass, because all of its tokens attend to each other. Audio may last `max_audio_seconds`;
    `feature_cache_bytes` is the budget for cached image features.
    """

    def __init__(self, network: Any, processor: Any, config: Mapping[str, Any], feature_cache_bytes: int) -> None:
        self.config = config
        self.language_model = network.language_model
        self.caches = cache_ops(self.language_model)
        self._network = network
        self._processor = processor
        inner = getattr(processor, "tokenizer", processor)
        if inner.chat_template is None:
            inner.chat_template = getattr(processor, "chat_template", None)
        # The context length is checked elsewhere; transformers would log a warning for prompts that are rejected.
        inner.model_max_length = sys.maxsize
        self.tokenizer = Tokenizer(inner, inner.stopping_criteria.eos_token_ids)
        self.feature_cache = VisionFeatureCache(feature_cache_bytes)
        self._bos: int | None = inner.bos_token_id
        parameters = inspect.signature(getattr(processor, "process", processor)).parameters
        feature_extractor = getattr(processor, "feature_extractor", None)
        self.supports_images = getattr(processor, "image_processor", None) is not None
        self.supports_audio = feature_extractor is not None and bool({"audio", "audios"} & set(parameters))
        self.supports_several_audio_clips = bool(getattr(processor, "supports_multiple_audio", False))
        self.sample_rate = int(getattr(feature_extractor, "sampling_rate", SAMPLE_RATE))
        self.max_audio_seconds = _max_samples(feature_extractor) / self.sample_rate or MAX_AUDIO_SECONDS
        numbers = (getattr(network.config, name, None) for name in PLACEHOLDER_IDS)
        self.placeholder_ids = frozenset(number for number in numbers if isinstance(number, int))
        self._stores_positions = hasattr(self.language_model, "_rope_deltas")
        self.prefills_whole = not _chunked_prefill_enabled(network)
        self._scales_text = config.get("model_type") == "gemma3n" and _lacks_text_scale(network)

    def placeholders(self, kind: Kind) -> list[str]:
        """The texts that may represent an image or audio clip in a prompt."""
        numbers = (getattr(self._network.config, name, None) for name in PLACEHOLDER_IDS if name.startswith(kind))
        tokens = self.tokenizer.symbols([number for number in numbers if isinstance(number, int)])
        names = (getattr(self._processor, name, None) for name in PLACEHOLDERS[kind])
        return [symbol for symbol in dict.fromkeys([*tokens, *names]) if isinstance(symbol, str) and symbol]

    def process(
        self, text: str, images: Sequence[Image], audio: Sequence[AudioSamples], param: str = "messages"
    ) -> dict[str, Any]:
        """Run the processor: `input_ids` (1, tokens), and its inputs for images and audio."""
        try:
            processed = prepare_inputs(
                self._processor,
                images=list(images) or None,
                audio=list(audio) or None,
                prompts=text,
                image_token_index=getattr(self._network.config, "image_token_index", None),
            )
        except INPUT_ERRORS as error:
            raise InvalidRequestError(
                f"The model's processor rejected the images or audio: {_reason(error)}", param=param
            ) from error
        return self._without_doubled_bos(processed)

    def embed(self, processed: Mapping[str, Any], name: str, param: str = "messages") -> MediaInputs:
        """Run the vision and audio towers; `name` identifies these images together in the feature cache."""
        arrays = {key: value for key, value in processed.items() if value is not None}
        tokens, pixels = arrays.pop("input_ids"), arrays.pop("pixel_values", None)
        mask = arrays.pop("attention_mask", None)
        try:
            cache = {} if pixels is None else {"vision_cache": self.feature_cache, "_image_key": name}
            arrays |= self._features(tokens, pixels, mask, arrays | cache)
            mx.eval(arrays["inputs_embeds"])
        except INPUT_ERRORS as error:
            raise InvalidRequestError(
                f"The model rejects the images or audio: {_reason(error)}", param=param
            ) from error
        divisible = bool(_chunked_prefill_enabled(self._network, prefill_kwargs=arrays))
        ids: Any = tokens[0].tolist()
        return MediaInputs(ids, arrays, divisible and align_deepstack(arrays, len(ids)))

    def embed_text(self, tokens: list[int]) -> MediaInputs:
        ids = mx.array([tokens])
        arrays = self._features(ids, None, mx.ones_like(ids), {})
        if "position_ids" not in arrays and self._stores_positions:
            arrays["position_ids"] = mx.broadcast_to(mx.arange(len(tokens)), (3, 1, len(tokens)))
            arrays["rope_deltas"] = mx.zeros((1, 1), mx.int32)
        return MediaInputs(tokens, arrays, not self.prefills_whole)

    def text_states(self) -> HiddenStates | None:
        """The language model without its head; None if it is not built of a backbone `model` and a head."""
        text = self.language_model.get("language_model", self.language_model)
        if "model" not in text:
            return None
        backbone = text["model"]

        def states(tokens: Array, mask: Array) -> Array:
            # Attention is causal, so padding on the right needs no mask.
            return backbone(tokens)

        return states

    def states(self, inputs: MediaInputs) -> Array:
        """The last hidden states (tokens, size) of a prompt with images or audio."""
        backbone = self.language_model.model
        parameters = inspect.signature(backbone.__call__).parameters
        arrays = {key: value for key, value in inputs.arrays.items() if key in parameters}
        return backbone(mx.array([inputs.tokens]), **arrays)[0]

    def next_logprobs(self, tokens: list[int], chunk: int) -> Iterator[Array]:
        """The log-probabilities (up to `chunk` tokens, vocabulary) of the token after each of `tokens`, in order."""
        if not tokens:
            return
        arrays = self.embed_text(tokens).arrays
        positions = {key: arrays[key] for key in ("position_ids", "rope_deltas") if key in arrays}
        cache, length = self.caches.new(), len(tokens)
        chunk = length if self.prefills_whole else chunk
        for start in range(0, length, chunk):
            part = {key: slice_argument(key, value, start, start + chunk, length) for key, value in positions.items()}
            ids = mx.array(tokens[start : start + chunk])[None]
            logits = self.language_model(ids, cache=cache, **part).logits[0].astype(mx.float32)
            yield logits - mx.logsumexp(logits, axis=-1, keepdims=True)

    def add_placeholders(self, parts: list[dict[str, str]]) -> str | None:
        """Text with mlx-vlm's placeholders for this model type; None if it has none."""
        count = sum(part["type"] == "audio" for part in parts)
        try:
            message = get_message_json(str(self.config["model_type"]), parts, role="user", num_audios=count)
        except (ValueError, KeyError):
            return None
        content = message["content"] if isinstance(message, Mapping) else message
        if isinstance(content, str):
            return content
        # Where mlx-vlm leaves the placeholders to the template, the processor's are used.
        placeholders = {kind: getattr(self._processor, f"{kind}_token", None) for kind in ("image", "audio")}
        if not all(isinstance(placeholders.get(part["type"], ""), str) for part in parts):
            return None
        return "".join(part["text"] if part["type"] == "text" else str(placeholders[part["type"]]) for part in parts)

    def _features(self, tokens: Array, pixels: Array, mask: Array, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The embeddings and the other arguments of the language model."""
        if self._stores_positions:
            self.language_model._position_ids = self.language_model._rope_deltas = None
        features = self._network.get_input_embeddings(tokens, pixels, mask=mask, **arrays).to_dict()
        found = {key: value for key, value in features.items() if value is not None}
        if self._stores_positions:
            # Some networks store a prompt's positions as attributes, where the next prompt would overwrite them.
            stored = {
                "position_ids": self.language_model._position_ids,
                "rope_deltas": self.language_model._rope_deltas,
            }
            found = {key: value for key, value in stored.items() if value is not None} | found
            # Without this, some networks would compute the positions of running sequences again.
            self.language_model._rope_deltas = found.get("rope_deltas", mx.zeros((1, 1), mx.int32))
        if self._scales_text:
            is_text = (tokens < self._network.embed_vision.vocab_offset)[..., None]
            embeddings = found["inputs_embeds"]
            found["inputs_embeds"] = mx.where(is_text, embeddings * embeddings.shape[-1] ** 0.5, embeddings)
        return found

    def _without_doubled_bos(self, processed: dict[str, Any]) -> dict[str, Any]:
        """Drop a BOS token that the processor added before the template's own."""
        ids = processed["input_ids"]
        if self._bos is None or ids.shape[1] < 2 or ids[0, :2].tolist() != [self._bos, self._bos]:
            return processed
        length = ids.shape[1]
        return {
            key: value[:, 1:] if key in ("input_ids", "attention_mask") else slice_from(key, value, 1, length)
            for key, value in processed.items()
        }


def load(path: Path, *, adapter_path: Path | None, trust_remote_code: bool, feature_cache_bytes: int) -> LoadedModel:
    try:
        network, processor = mlx_vlm.load(
            str(path),
            adapter_path=None if adapter_path is None else str(adapter_path),
            trust_remote_code=trust_remote_code,
        )
        if not hasattr(network, "language_model") or is_diffusion_model(network):
            raise LoadError(f"The model {str(path)!r} does not generate text token by token; choose another one.")
        loaded = LoadedModel(network, processor, load_config(path), feature_cache_bytes)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise LoadError(f"mlx-vlm cannot load {str(path)!r}: {describe_error(error)}.") from error
    loaded.caches.check_batching("mlx-vlm", path)
    return loaded


def _reason(error: Exception) -> str:
    """The message of an error without the prefix that transformers adds."""
    return str(error).removeprefix("Failed to process inputs with error: ") or type(error).__name__


def _max_samples(feature_extractor: Any) -> int:
    """The number of samples after which the feature extractor truncates audio; 0 if it does not."""
    known = inspect.signature(feature_extractor.__call__).parameters if feature_extractor is not None else {}
    truncates, length = (known[name].default if name in known else None for name in ("truncation", "max_length"))
    return length if truncates is True and isinstance(length, int) else 0


def _lacks_text_scale(network: Any) -> bool:
    """Whether a Gemma 3n returns text embeddings without multiplying them by the root of their size.

    Its language model scales them when it is called with tokens, and transformers' Gemma3nTextScaledWordEmbedding
    always does; mlx-vlm 0.7.10 does not in `get_input_embeddings`.
    """
    tokens = mx.arange(8)[None]
    stored = network.language_model.model.embed_tokens(tokens)
    return bool(mx.array_equal(network.get_input_embeddings(tokens).inputs_embeds, stored))
