"""Arguments of mlx-vlm's language models: what a prompt with media is called with, and its slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_vlm.generate.ar import _is_sequence_aligned_prompt_kwarg, _slice_sequence_aligned_prompt_kwarg

from mlx_host_vlm.vision_feature_cache import total_nbytes

# Image features that are added in deeper layers of a network, and the mask of their tokens.
DEEPSTACK_FEATURES = "deepstack_visual_embeds"
DEEPSTACK_MASK = "visual_pos_masks"


@dataclass(frozen=True)
class MediaInputs:
    """A prompt as the network processes it: its tokens, their embeddings, and arguments that accompany them.

    `arrays` are arguments of the language model. `divisible` means that the prompt may be prefilled in chunks.
    `start` is the number of cached tokens that these inputs can follow.
    """

    tokens: list[int]
    arrays: Mapping[str, Any]
    divisible: bool
    start: int = 0

    @property
    def nbytes(self) -> int:
        return total_nbytes(self.arrays.values())


def align_deepstack(arrays: dict[str, Any], length: int) -> bool:
    """Make deepstack features match their tokens in every chunk of a prompt; False if it cannot be divided.

    mlx-vlm slices the mask of image tokens with the prompt, but not features that cover the image tokens only. Networks
    with such features slice both themselves, given a mask that mlx-vlm does not slice because it is longer.
    """
    deep, mask = arrays.get(DEEPSTACK_FEATURES), arrays.get(DEEPSTACK_MASK)
    if deep is None or mask is None:
        return True
    if isinstance(deep, mx.array) and deep.shape[:2] == (1, length):
        return True
    if isinstance(deep, list | tuple) or (isinstance(deep, mx.array) and deep.shape[1] != length):
        arrays[DEEPSTACK_MASK] = mx.pad(mask, [(0, 0), (0, 1)])
        return True
    return False


def slice_from(key: str, value: Any, start: int, length: int) -> Any:
    """The part of an argument for a prompt's tokens from number `start` on."""
    return slice_argument(key, value, start, length, length) if start else value


def slice_argument(key: str, value: Any, start: int, stop: int, length: int) -> Any:
    """Return the part of an argument for a range of a prompt's tokens, or the whole argument if it is not per token."""
    if isinstance(value, mx.array) and _is_sequence_aligned_prompt_kwarg(key, value, length):
        return _slice_sequence_aligned_prompt_kwarg(key, value, start=start, stop=stop)
    return value
