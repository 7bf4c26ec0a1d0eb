"""Everything this plugin uses of mlx-vlm; tests/plugins/vlm/test_mlx_vlm_signatures.py pins it."""

from __future__ import annotations

import copy
import inspect
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_vlm
from mlx_host.errors import InvalidRequestError, LoadError
from mlx_host_lm.mlx_lm_api import Layers, Row, Tokenizer, wrap_tokenizer
from mlx_host_lm.sampling import Array, Sampler
from mlx_vlm.generate.ar import (
    GenerationBatch,
    PromptProcessingBatch,
    _chunked_prefill_enabled,
    _is_sequence_aligned_prompt_kwarg,
    _slice_sequence_aligned_prompt_kwarg,
)
from mlx_vlm.generate.diffusion import is_diffusion_model
from mlx_vlm.models.cache import CacheList, KVCache, make_prompt_cache
from mlx_vlm.prompt_utils import get_message_json
from mlx_vlm.utils import load_config, prepare_inputs
from PIL.Image import Image

from mlx_host_vlm.media.loader import MAX_AUDIO_SECONDS, AudioSamples
from mlx_host_vlm.media.parts import Kind

Sequences = Any
"""mlx-vlm's GenerationBatch."""

# Where a network's configuration has the token that stands for a medium, and its processor the text of a mark.
PLACES = ("image_token_id", "image_token_index", "audio_token_id", "audio_token_index")
MARKS: dict[Kind, tuple[str, ...]] = {"image": ("image_token", "boi_token"), "audio": ("audio_token", "boa_token")}
SAMPLE_RATE = 16000
# What goes into deeper layers of a network, and where.
DEEP = ("deepstack_visual_embeds", "visual_pos_masks")
# What a processor or a network may raise over pictures and sounds that do not suit it.
INPUT_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, StopIteration)


@dataclass(frozen=True)
class Inputs:
    """A prompt with media as the network reads it: its tokens, their embeddings, and what comes with them.

    `arrays` are the arguments of the network's text part. `divisible` says that a prompt's media may be read in pieces,
    `known` that its tokens tell it from prompts with other media.
    """

    tokens: list[int]
    arrays: Mapping[str, Any]
    divisible: bool
    known: bool = True

    @property
    def nbytes(self) -> int:
        return _nbytes(self.arrays.values())


class Seen:
    """Pictures as a network saw them, within a budget of bytes, least recently used first to go.

    Those networks of mlx-vlm that can go on from there call `get` and `put`, by the name that `embed` was given.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._features: OrderedDict[str, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    @property
    def nbytes(self) -> int:
        return _nbytes(self._features.values())

    def get(self, name: str) -> Any:
        if name in self._features:
            self._features.move_to_end(name)
        return self._features.get(name)

    def put(self, name: str, features: Any) -> None:
        if _nbytes([features]) > self._budget:
            return
        self._features[name] = features
        while self.nbytes > self._budget:
            self._features.popitem(last=False)


class Loaded:
    """A network of mlx-vlm and its processor, reduced to what serving needs.

    `sees` and `hears` say what the network takes; `places` are the tokens that stand for media in a prompt. `whole`
    says that a prompt is read in one piece, because each of its tokens sees all others. `max_audio_seconds` is the
    maximum length of an audio clip; `seen_bytes` bound what is kept of pictures.
    """

    def __init__(self, network: Any, processor: Any, config: Mapping[str, Any], seen_bytes: int) -> None:
        self.config = config
        self.language_model = network.language_model
        self._network = network
        self._processor = processor
        inner = getattr(processor, "tokenizer", processor)
        if inner.chat_template is None:
            inner.chat_template = getattr(processor, "chat_template", None)
        # The context length is kept elsewhere; transformers would say in the log that a refused prompt fails otherwise.
        inner.model_max_length = sys.maxsize
        self.tokenizer: Tokenizer = wrap_tokenizer(inner, inner.stopping_criteria.eos_token_ids)
        self.seen = Seen(seen_bytes)
        self._bos: int | None = inner.bos_token_id
        takes = inspect.signature(getattr(processor, "process", processor)).parameters
        feature_extractor = getattr(processor, "feature_extractor", None)
        self.sees = getattr(processor, "image_processor", None) is not None
        self.hears = feature_extractor is not None and bool({"audio", "audios"} & set(takes))
        self.hears_several = bool(getattr(processor, "supports_multiple_audio", False))
        self.sample_rate = int(getattr(feature_extractor, "sampling_rate", SAMPLE_RATE))
        self.max_audio_seconds = _samples_kept(feature_extractor) / self.sample_rate or MAX_AUDIO_SECONDS
        numbers = (getattr(network.config, name, None) for name in PLACES)
        self.places = frozenset(number for number in numbers if isinstance(number, int))
        self._keeps_positions = hasattr(self.language_model, "_rope_deltas")
        self.whole = not _chunked_prefill_enabled(network)
        self._scales_text = config.get("model_type") == "gemma3n" and _forgets_scale(network)

    def fresh_cache(self) -> Layers:
        return list(make_prompt_cache(self.language_model))

    def symbols(self, kind: Kind) -> list[str]:
        """What may stand for a picture or sound in a prompt's text."""
        numbers = (getattr(self._network.config, name, None) for name in PLACES if name.startswith(kind))
        tokens = self.tokenizer.symbols([number for number in numbers if isinstance(number, int)])
        marks = (getattr(self._processor, name, None) for name in MARKS[kind])
        return [symbol for symbol in dict.fromkeys([*tokens, *marks]) if isinstance(symbol, str) and symbol]

    def read(
        self, text: str, images: Sequence[Image], audio: Sequence[AudioSamples], param: str = "messages"
    ) -> dict[str, Any]:
        """Run the processor: tokens as `input_ids` (1, tokens), and whatever it makes of pictures and sounds."""
        try:
            made = prepare_inputs(
                self._processor,
                images=list(images) or None,
                audio=list(audio) or None,
                prompts=text,
                image_token_index=getattr(self._network.config, "image_token_index", None),
            )
        except INPUT_ERRORS as error:
            raise InvalidRequestError(
                f"the model's processor refuses the pictures or sounds: {_said(error)}", param=param
            ) from error
        return self._without_doubled_bos(made)

    def embed(self, made: Mapping[str, Any], name: str, param: str = "messages") -> Inputs:
        """Run what sees and hears in the network; `name` is that of these pictures together, and of no others."""
        arrays = {key: value for key, value in made.items() if value is not None}
        tokens, pixels = arrays.pop("input_ids"), arrays.pop("pixel_values", None)
        mask = arrays.pop("attention_mask", None)
        try:
            seen = {} if pixels is None else {"vision_cache": self.seen, "_image_key": name}
            arrays |= self._features(tokens, pixels, mask, arrays | seen)
            mx.eval(arrays["inputs_embeds"])
        except INPUT_ERRORS as error:
            raise InvalidRequestError(
                f"the model refuses the pictures or sounds: {_said(error)}", param=param
            ) from error
        divisible = bool(_chunked_prefill_enabled(self._network, prefill_kwargs=arrays))
        ids: Any = tokens[0].tolist()
        return Inputs(ids, arrays, divisible and _keep_together(arrays, len(ids)))

    def embed_text(self, tokens: list[int]) -> Inputs:
        ids = mx.array([tokens])
        arrays = self._features(ids, None, mx.ones_like(ids), {})
        if "position_ids" not in arrays and self._keeps_positions:
            arrays["position_ids"] = mx.broadcast_to(mx.arange(len(tokens)), (3, 1, len(tokens)))
            arrays["rope_deltas"] = mx.zeros((1, 1), mx.int32)
        return Inputs(tokens, arrays, not self.whole)

    def states(self, inputs: Inputs) -> Array:
        """Last hidden states (tokens, size) of a prompt with media."""
        trunk = self.language_model.model
        takes = inspect.signature(trunk.__call__).parameters
        arrays = {key: value for key, value in inputs.arrays.items() if key in takes}
        return trunk(mx.array([inputs.tokens]), **arrays)[0]

    def next_logprobs(self, tokens: list[int], step: int) -> Iterator[Array]:
        """What a sequence's tokens say of the next: log-probabilities (up to `step` tokens, vocabulary), in order."""
        if not tokens:
            return
        arrays = self.embed_text(tokens).arrays
        positions = {key: arrays[key] for key in ("position_ids", "rope_deltas") if key in arrays}
        layers, length = self.fresh_cache(), len(tokens)
        step = length if self.whole else step
        for start in range(0, length, step):
            piece = {key: _piece(key, value, start, start + step, length) for key, value in positions.items()}
            ids = mx.array(tokens[start : start + step])[None]
            logits = self.language_model(ids, cache=layers, **piece).logits[0].astype(mx.float32)
            yield logits - mx.logsumexp(logits, axis=-1, keepdims=True)

    def marks(self, parts: list[dict[str, str]]) -> str | None:
        """Text with the marks that this kind of model knows media by; None if they are not known."""
        count = sum(part["type"] == "audio" for part in parts)
        try:
            made = get_message_json(str(self.config["model_type"]), parts, role="user", num_audios=count)
        except (ValueError, KeyError):
            return None
        content = made["content"] if isinstance(made, Mapping) else made
        if isinstance(content, str):
            return content
        # Where mlx-vlm would leave the marks to the template, they are what the processor looks for.
        marks = {kind: getattr(self._processor, f"{kind}_token", None) for kind in ("image", "audio")}
        if not all(isinstance(marks.get(part["type"], ""), str) for part in parts):
            return None
        return "".join(part["text"] if part["type"] == "text" else str(marks[part["type"]]) for part in parts)

    def _features(self, tokens: Array, pixels: Array, mask: Array, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The embeddings, and what else the text part is to be called with."""
        if self._keeps_positions:
            self.language_model._position_ids = self.language_model._rope_deltas = None
        features = self._network.get_input_embeddings(tokens, pixels, mask=mask, **arrays).to_dict()
        found = {key: value for key, value in features.items() if value is not None}
        if self._keeps_positions:
            # Some networks keep a prompt's positions to themselves, where the next prompt would overwrite them.
            kept = {"position_ids": self.language_model._position_ids, "rope_deltas": self.language_model._rope_deltas}
            found = {key: value for key, value in kept.items() if value is not None} | found
            # Without this, some would count the positions of the rows that decode anew.
            self.language_model._rope_deltas = found.get("rope_deltas", mx.zeros((1, 1), mx.int32))
        if self._scales_text:
            is_text = (tokens < self._network.embed_vision.vocab_offset)[..., None]
            embeddings = found["inputs_embeds"]
            found["inputs_embeds"] = mx.where(is_text, embeddings * embeddings.shape[-1] ** 0.5, embeddings)
        return found

    def _without_doubled_bos(self, made: dict[str, Any]) -> dict[str, Any]:
        """Drop a token that the processor put before the template's own."""
        ids = made["input_ids"]
        if self._bos is None or ids.shape[1] < 2 or ids[0, :2].tolist() != [self._bos, self._bos]:
            return made
        length = ids.shape[1]
        return {
            key: value[:, 1:] if key in ("input_ids", "attention_mask") else _from(key, value, 1, length)
            for key, value in made.items()
        }


def load(path: Path, *, adapter_path: Path | None, trust_remote_code: bool, seen_bytes: int) -> Loaded:
    try:
        network, processor = mlx_vlm.load(
            str(path),
            adapter_path=None if adapter_path is None else str(adapter_path),
            trust_remote_code=trust_remote_code,
        )
        if not hasattr(network, "language_model") or is_diffusion_model(network):
            raise LoadError(f"the model {str(path)!r} does not write text token by token; choose another one")
        loaded = Loaded(network, processor, load_config(path), seen_bytes)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        # mlx-vlm goes on for pages about how to convert a model.
        reason = str(error).strip().partition("\n")[0]
        raise LoadError(f"mlx-vlm cannot load {str(path)!r}: {type(error).__name__}: {reason}") from error
    unbatched = sorted({type(layer).__name__ for layer in loaded.fresh_cache() if not hasattr(layer, "merge")})
    if unbatched:
        raise LoadError(
            f"mlx-vlm cannot batch the model {str(path)!r} (its cache is a {', '.join(unbatched)}); "
            "choose a model of another architecture"
        )
    return loaded


def can_always_trim(layers: Layers) -> bool:
    """Whether tokens can be dropped from the end at any length; sliding windows and recurrent states cannot."""
    return all(
        can_always_trim(list(layer.caches)) if isinstance(layer, CacheList) else type(layer) is KVCache
        for layer in layers
    )


class RowProcessor:
    """A row's logits processors, over the tokens of its prompt and answer, and its guide; called in mlx-vlm's way."""

    def __init__(self, row: Row, prompt: Sequence[int]) -> None:
        self._row = row
        self._tokens: Array = mx.array(list(prompt))

    def __call__(self, _: Array, logits: Array) -> Array:
        return self._process(None, logits)

    def process_last_token(self, token: int, logits: Array) -> Array:
        self._tokens = mx.concatenate([self._tokens, mx.array([token])])
        return self._process(token, logits)

    def _process(self, token: int | None, logits: Array) -> Array:
        for process in self._row.processors:
            logits = process(self._tokens, logits)
        if self._row.guide is None:
            return logits
        # So that the network does not wait for the guide.
        mx.async_eval(logits)  # type: ignore[no-untyped-call]  # mlx says so
        return self._row.guide.process(token, logits)


class Reading:
    """A prompt while it is read, from token number `start` on; `layers` hold what comes before and are written to."""

    def __init__(self, language_model: Any, uid: int, inputs: Inputs, layers: Layers, start: int, row: Row) -> None:
        length = len(inputs.tokens)
        arrays = {key: _from(key, value, start, length) for key, value in inputs.arrays.items()}
        if not inputs.divisible and start:
            # What is left of such a prompt holds no pictures.
            arrays = {key: value for key, value in arrays.items() if key not in DEEP}
        self._batch = PromptProcessingBatch(
            model=language_model,
            uids=[uid],
            input_ids=[inputs.tokens[start:]],
            max_tokens=[sys.maxsize],
            inputs_embeds=arrays.pop("inputs_embeds")[:, start:],
            prompt_kwargs=arrays,
            logits_processors=[[RowProcessor(row, inputs.tokens)]] if row.processors or row.guide else None,
            warm_cache=layers,
        )

    def read(self, tokens: int) -> None:
        """Read so many tokens, and leave at least one."""
        # What mlx-vlm would read at once, it cuts nowhere; where to cut is decided here.
        self._batch.prefill_step_size = tokens
        self._batch.prompt_step()

    @property
    def layers(self) -> Layers:
        return list(self._batch.prompt_cache)

    def finish(self, sampler: Sampler) -> Sequences:
        """Read what is left and sample a token."""
        return self._batch.generate(sampler, _never, compute_logprobs=False)


class Decoding:
    """Rows that are generated together; `sampler` gets the log-probabilities of all, in the order of `uids`."""

    def __init__(self, language_model: Any, sampler: Sampler) -> None:
        self._batch = GenerationBatch.empty(language_model, sampler, _never, compute_logprobs=False)

    @property
    def uids(self) -> list[int]:
        return list(self._batch.uids)

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self._batch.prompt_cache)

    def join(self, rows: Sequences) -> None:
        self._batch.extend(rows)

    def step(self) -> list[int]:
        """The tokens that were sampled last, while the next ones are computed."""
        return [answer.token for answer in self._batch.next()]

    def drop(self, uids: Iterable[int]) -> None:
        gone = set(uids)
        keep = [index for index, uid in enumerate(self._batch.uids) if uid not in gone]
        if len(keep) < len(self._batch.uids):
            self._batch.filter(keep)

    def layers(self, uid: int) -> Layers:
        """A row's own caches."""
        index = self._batch.uids.index(uid)
        return [_row(layer, index) for layer in self._batch.prompt_cache]


def materialise(layers: Layers) -> None:
    mx.async_eval([layer.state for layer in layers])  # type: ignore[no-untyped-call]


def _row(layer: Any, index: int) -> Any:
    # The cache of a row that was never joined by another has no rows to extract, or is that row.
    return layer.extract(index) if hasattr(layer, "extract") else copy.deepcopy(layer)


def _said(error: Exception) -> str:
    """What went wrong, without the words in which transformers wraps what a processor says."""
    return str(error).removeprefix("Failed to process inputs with error: ") or type(error).__name__


def _nbytes(values: Iterable[Any]) -> int:
    """The bytes of the arrays among these, in lists or not."""
    parts = ([value] if isinstance(value, mx.array) else value for value in values)
    return sum(part.nbytes for each in parts if isinstance(each, list | tuple) for part in each)


def _keep_together(arrays: dict[str, Any], length: int) -> bool:
    """Make sure that what goes into deeper layers finds its tokens, however a prompt is cut; False if it may not be.

    mlx-vlm cuts the mask of the pictures' tokens with the prompt, but not their features where only those are held.
    Networks that hold them so cut both by themselves, given a mask that mlx-vlm leaves whole for being longer.
    """
    deep, mask = arrays.get("deepstack_visual_embeds"), arrays.get("visual_pos_masks")
    if deep is None or mask is None:
        return True
    if isinstance(deep, mx.array) and deep.shape[:2] == (1, length):
        return True
    if isinstance(deep, list | tuple) or (isinstance(deep, mx.array) and deep.shape[1] != length):
        arrays["visual_pos_masks"] = mx.pad(mask, [(0, 0), (0, 1)])
        return True
    return False


def _samples_kept(feature_extractor: Any) -> int:
    """How many of a sound's samples are kept where the rest would be cut off unheard; 0 if that is not said."""
    takes = inspect.signature(feature_extractor.__call__).parameters if feature_extractor is not None else {}
    cuts, length = (takes[name].default if name in takes else None for name in ("truncation", "max_length"))
    return length if cuts is True and isinstance(length, int) else 0


def _forgets_scale(network: Any) -> bool:
    """Whether a Gemma 3n hands over the embeddings of text as they are stored.

    They are to be multiplied by the root of their size: so does its text part where it is given tokens, and so does
    transformers' Gemma3nTextScaledWordEmbedding everywhere; mlx-vlm 0.7.10 does not where a prompt is embedded first.
    """
    tokens = mx.arange(8)[None]
    stored = network.language_model.model.embed_tokens(tokens)
    return bool(mx.array_equal(network.get_input_embeddings(tokens).inputs_embeds, stored))


def _from(key: str, value: Any, start: int, length: int) -> Any:
    """What of an argument is about a prompt's tokens from number `start` on."""
    return _piece(key, value, start, length, length) if start else value


def _piece(key: str, value: Any, start: int, stop: int, length: int) -> Any:
    """What of an argument is about some of a prompt's tokens; what is not about tokens is about all."""
    if isinstance(value, mx.array) and _is_sequence_aligned_prompt_kwarg(key, value, length):
        return _slice_sequence_aligned_prompt_kwarg(key, value, start=start, stop=stop)
    return value


def _never(token: int) -> bool:
    """Rows end when they are dropped."""
    return False
