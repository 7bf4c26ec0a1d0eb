"""All calls into mlx-embeddings, whose models differ in their arguments and in whether they pool.

tests/plugins/embeddings/test_mlx_embeddings_signatures.py pins what is used.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_embeddings.tokenizer_utils import load_tokenizer
from mlx_embeddings.utils import load_config, load_model
from mlx_host.errors import LoadError
from mlx_host_text.tokenizer import Tokenizer
from PIL.Image import Image
from transformers import AutoImageProcessor

from mlx_host_embeddings.model_types import model_type, unsupported_type

Array: TypeAlias = mx.array
StatesFunction: TypeAlias = Callable[[Any, Array, Array], Array]
"""A network, tokens (inputs, tokens) and their mask to token vectors (inputs, tokens, size)."""

# With this name, mlx-embeddings takes the size of a vision tower from config.json instead of the model's name.
TRUST_CONFIG = "medsiglip"


@dataclass(frozen=True)
class Family:
    """How to use an architecture.

    `states` computes token vectors. `pooling` is mlx-embeddings' default for the architecture. `positions` returns the
    maximum input length in tokens from config.json. With `has_dense`, dense layers follow pooling.
    """

    states: StatesFunction
    pooling: str
    positions: Callable[[Mapping[str, Any]], int | None] = lambda config: config.get("max_position_embeddings")
    has_dense: bool = False


def _states(network: Any, tokens: Array, mask: Array) -> Array:
    states: Array = network(tokens, attention_mask=mask).last_hidden_state
    return states


def _modernbert_states(network: Any, tokens: Array, mask: Array) -> Array:
    # The outer model pools already. Attention scores take the mask's dtype, which must be a floating-point type.
    weight = network.model.embeddings.tok_embeddings.weight
    states: Array = network.model(tokens, attention_mask=mask.astype(weight.dtype))["last_hidden_state"]
    return states


def _roberta_positions(config: Mapping[str, Any]) -> int | None:
    # The first position is the padding token's id plus one.
    return int(config["max_position_embeddings"]) - int(config.get("pad_token_id", 1)) - 1


FAMILIES = {
    "bert": Family(_states, "mean"),
    "xlm_roberta": Family(_states, "mean", _roberta_positions),
    "modernbert": Family(_modernbert_states, "mean"),
    "qwen3": Family(_states, "lasttoken"),
    "gemma3_text": Family(_states, "mean", has_dense=True),
    "llama_bidirec": Family(_states, "mean"),
}


@dataclass(frozen=True)
class LoadedModel:
    """A network, its tokenizer and its config.json."""

    family: Family
    network: Any
    tokenizer: Tokenizer
    config: Mapping[str, Any]

    def states(self, tokens: Array, mask: Array) -> Array:
        """Token vectors (inputs, tokens, size) of right-padded `tokens` (inputs, tokens); `mask` is 0 for padding."""
        return self.family.states(self.network, tokens, mask)

    @property
    def dense(self) -> Sequence[Callable[[Array], Array]]:
        """The layers after pooling."""
        return self.network.dense if self.family.has_dense else ()

    @property
    def positions(self) -> int | None:
        """The number of positions of the network, the maximum length of an input in tokens."""
        return self.family.positions(self.config)


@dataclass(frozen=True)
class Siglip:
    """A pair of networks for texts and images, which pool their output; texts are padded to `positions` tokens."""

    network: Any
    tokenizer: Tokenizer
    positions: int
    vocabulary: int
    patches: int
    processor: Any
    config: Mapping[str, Any]

    def texts(self, tokens: Array) -> Array:
        """Return vectors of shape (inputs, size) for tokens of shape (inputs, positions)."""
        vectors: Array = self.network.get_text_features(input_ids=tokens)
        return vectors

    def pixels(self, image: Image) -> Array:
        """Return the preprocessed pixels of an image, of shape (channels, height, width)."""
        return mx.array(self.processor(images=[image], return_tensors="np")["pixel_values"][0])

    def images(self, pixels: Array) -> Array:
        """Vectors (inputs, size) of pixels (inputs, channels, height, width)."""
        vectors: Array = self.network.get_image_features(pixel_values=pixels)
        return vectors


@dataclass(frozen=True)
class Qwen3Vl:
    """A network for texts and images, which are rendered with a chat template; it processes one input at a time."""

    network: Any
    processor: Any
    vocabulary: int
    positions: int | None
    config: Mapping[str, Any]

    def process(self, text: str, image: Image | None, instruction: str) -> dict[str, Array]:
        """The network's arguments for one input; `input_ids` is (1, tokens)."""
        item: dict[str, Any] = {key: value for key, value in (("text", text), ("image", image)) if value}
        if instruction:
            item["instruction"] = instruction
        inputs = self.processor.prepare_embedding_inputs([item])
        return {name: inputs[name] for name in ("input_ids", "pixel_values", "image_grid_thw") if name in inputs}

    def states(self, inputs: Mapping[str, Array]) -> Array:
        """Token vectors (1, tokens, size)."""
        # The network would continue from the positions of the previous call.
        self.network.language_model._position_ids = None
        self.network.language_model._rope_deltas = None
        states: Array = self.network(**inputs).last_hidden_state
        return states


def load(folder: Path) -> LoadedModel | Siglip | Qwen3Vl:
    """Load a folder; LoadError for unsupported architectures."""
    config: dict[str, Any] = load_config(folder)
    if (reason := unsupported_type(config)) is not None:
        raise LoadError(f"{folder.name!r}: {reason}.")
    kind = model_type(config)
    if kind == "siglip":
        return _load_siglip(folder, config)
    if kind == "qwen3_vl":
        return _load_qwen3_vl(folder, config)
    network = load_model(folder, path_to_repo=TRUST_CONFIG)
    if kind == "modernbert" and _dtype(network) == mx.float16:
        # Its masks contain -1e9, which is -inf in float16; the softmax of a fully masked row is NaN.
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
    # Imported for this family only, because it imports mlx-lm.
    from mlx_embeddings.models import qwen3_vl

    # transformers would log a warning for each input about the way mlx-embeddings calls the processor.
    logging.getLogger("transformers.processing_utils").setLevel(logging.ERROR)
    # The length is checked by the embedder: truncated tokens would not match the pixels of their image.
    processor = qwen3_vl.Processor.from_pretrained(folder, embedding_max_length=sys.maxsize, trust_remote_code=False)
    text = config["text_config"]
    network = load_model(folder, path_to_repo=TRUST_CONFIG)
    return Qwen3Vl(network, processor, text["vocab_size"], text.get("max_position_embeddings"), config)


def _dtype(network: Any) -> mx.Dtype:
    dtypes: list[mx.Dtype] = [array.dtype for _, array in tree_flatten(network.parameters())]
    return max((dtype for dtype in dtypes if mx.issubdtype(dtype, mx.floating)), key=dtypes.count)
