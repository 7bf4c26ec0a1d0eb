"""All contact with mlx-embeddings, whose models differ in their arguments and in what they pool themselves."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_embeddings.models import qwen3_vl
from mlx_embeddings.tokenizer_utils import load_tokenizer
from mlx_embeddings.utils import load_config, load_model
from mlx_host.errors import LoadError
from mlx_host_text.tokenizer import Tokenizer
from PIL.Image import Image
from transformers import AutoImageProcessor

Array: TypeAlias = mx.array
Call: TypeAlias = Callable[[Any, Array, Array], Array]

# What decides about a vision tower's size is config.json; from other names mlx-embeddings reads it out of the name.
TRUST_CONFIG = "medsiglip"


@dataclass(frozen=True)
class Family:
    """How an architecture is used: token vectors, where the pooling of its kind is known, and its longest input."""

    states: Call
    pooling: str
    positions: Callable[[Mapping[str, Any]], int | None] = lambda config: config.get("max_position_embeddings")
    has_dense: bool = False


def _states(network: Any, tokens: Array, mask: Array) -> Array:
    states: Array = network(tokens, attention_mask=mask).last_hidden_state
    return states


def _modernbert_states(network: Any, tokens: Array, mask: Array) -> Array:
    # The outer model pools already. The mask decides the type of the scores added to, which cannot be integers.
    weight = network.model.embeddings.tok_embeddings.weight
    states: Array = network.model(tokens, attention_mask=mask.astype(weight.dtype))["last_hidden_state"]
    return states


def _roberta_positions(config: Mapping[str, Any]) -> int | None:
    # Positions are counted on from the padding token's id.
    return int(config["max_position_embeddings"]) - int(config.get("pad_token_id", 1)) - 1


FAMILIES = {
    "bert": Family(_states, "mean"),
    "xlm_roberta": Family(_states, "mean", _roberta_positions),
    "modernbert": Family(_modernbert_states, "mean"),
    "qwen3": Family(_states, "lasttoken"),
    "gemma3_text": Family(_states, "mean", has_dense=True),
    "llama_bidirec": Family(_states, "mean"),
}
IMAGE_FAMILIES = ("qwen3_vl", "siglip")
MULTI_VECTOR_MODELS = ("lfm2", "colqwen2_5", "colidefics3")


@dataclass(frozen=True)
class LoadedModel:
    """A network, its tokenizer and its config.json."""

    family: Family
    network: Any
    tokenizer: Tokenizer
    config: Mapping[str, Any]

    def states(self, tokens: Array, mask: Array) -> Array:
        """Token vectors (inputs, tokens, size) of `tokens` padded on the right, where `mask` is 1 for a token."""
        return self.family.states(self.network, tokens, mask)

    @property
    def dense(self) -> Sequence[Callable[[Array], Array]]:
        """The layers after the pooling."""
        return self.network.dense if self.family.has_dense else ()

    @property
    def positions(self) -> int | None:
        """The number of positions of the network, the maximum length of an input in tokens."""
        return self.family.positions(self.config)


@dataclass(frozen=True)
class Siglip:
    """A pair of networks for texts and images; it pools and has a fixed number of positions for texts."""

    network: Any
    tokenizer: Tokenizer
    positions: int
    vocabulary: int
    patches: int
    processor: Any
    config: Mapping[str, Any]

    def texts(self, tokens: Array) -> Array:
        """Vectors (rows, size) of tokens (rows, positions)."""
        vectors: Array = self.network.get_text_features(input_ids=tokens)
        return vectors

    def pixels(self, image: Image) -> Array:
        """What the network wants of an image: (channels, height, width)."""
        return mx.array(self.processor(images=[image], return_tensors="np")["pixel_values"][0])

    def images(self, pixels: Array) -> Array:
        """Vectors (rows, size) of pixels (rows, channels, height, width)."""
        vectors: Array = self.network.get_image_features(pixel_values=pixels)
        return vectors


@dataclass(frozen=True)
class Qwen3Vl:
    """A network that reads texts and images through a chat template, one input at a time."""

    network: Any
    processor: Any
    vocabulary: int
    positions: int | None
    config: Mapping[str, Any]

    def read(self, text: str, image: Image | None, instruction: str) -> dict[str, Array]:
        """What the network wants of one input; `input_ids` is (1, tokens)."""
        item: dict[str, Any] = {key: value for key, value in (("text", text), ("image", image)) if value}
        if instruction:
            item["instruction"] = instruction
        inputs = self.processor.prepare_embedding_inputs([item])
        return {name: inputs[name] for name in ("input_ids", "pixel_values", "image_grid_thw") if name in inputs}

    def states(self, inputs: Mapping[str, Array]) -> Array:
        """Token vectors (1, tokens, size)."""
        # It would go on from the positions of the last call.
        self.network.language_model._position_ids = None
        self.network.language_model._rope_deltas = None
        states: Array = self.network(**inputs).last_hidden_state
        return states


def load(folder: Path) -> LoadedModel | Siglip | Qwen3Vl:
    """Load a folder; LoadError says what cannot be served and what can."""
    config: dict[str, Any] = load_config(folder)
    kind = str(config.get("model_type", "")).replace("-", "_")
    if kind == "siglip":
        return _load_siglip(folder, config)
    if kind == "qwen3_vl":
        return _load_qwen3_vl(folder, config)
    if kind in MULTI_VECTOR_MODELS:
        raise LoadError(
            f"{folder.name!r} is a {kind} model, which gives a vector for every token; an answer of /v1/embeddings has "
            "room for one an input. Serve a model with one vector a text."
        )
    if kind not in FAMILIES:
        raise LoadError(
            f"{folder.name!r} is a {kind or 'nameless'} model, which is none of those served here: "
            f"{', '.join(sorted((*FAMILIES, *IMAGE_FAMILIES)))}."
        )
    network = load_model(folder, path_to_repo=TRUST_CONFIG)
    if kind == "modernbert" and _dtype(network) == mx.float16:
        # Its masks hold -1e9, which float16 makes infinite; rows of nothing else come out as NaN.
        network.set_dtype(mx.float32)
    return LoadedModel(FAMILIES[kind], network, Tokenizer(load_tokenizer(folder)._tokenizer), config)


def _load_siglip(folder: Path, config: Mapping[str, Any]) -> Siglip:
    network = load_model(folder, path_to_repo=TRUST_CONFIG)
    texts, images = network.config.text_config, network.config.vision_config
    return Siglip(
        network=network,
        tokenizer=Tokenizer(load_tokenizer(folder)._tokenizer),
        positions=texts.max_position_embeddings,
        vocabulary=texts.vocab_size,
        patches=(images.image_size // images.patch_size) ** 2,
        processor=AutoImageProcessor.from_pretrained(folder, backend="pil"),
        config=config,
    )


def _load_qwen3_vl(folder: Path, config: Mapping[str, Any]) -> Qwen3Vl:
    # It would warn, for each input, of how mlx-embeddings calls it.
    logging.getLogger("transformers.processing_utils").setLevel(logging.ERROR)
    # The limit is ours to watch: cut behind an image, an input would not fit its pixels any more.
    processor = qwen3_vl.Processor.from_pretrained(folder, embedding_max_length=sys.maxsize, trust_remote_code=False)
    text = config["text_config"]
    network = load_model(folder, path_to_repo=TRUST_CONFIG)
    return Qwen3Vl(network, processor, text["vocab_size"], text.get("max_position_embeddings"), config)


def _dtype(network: Any) -> mx.Dtype:
    dtypes: list[mx.Dtype] = [array.dtype for _, array in tree_flatten(network.parameters())]
    return max((dtype for dtype in dtypes if mx.issubdtype(dtype, mx.floating)), key=dtypes.count)
