"""Operations on caches with one object per layer, which mlx-lm and mlx-vlm share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_host.errors import LoadError

from mlx_host_text.sequence import KVCache


class LayerCaches:
    """CacheOps for a library whose caches are lists with one object per layer.

    `create` returns the cache of an empty sequence. `trimmable` is the library's class of layer caches that can be
    trimmed at any length, and `nested` its class of layer caches that contain others.
    """

    def __init__(self, create: Callable[[], KVCache], *, trimmable: type, nested: Any) -> None:
        self._create = create
        self._trimmable = trimmable
        self._nested = nested

    def new(self) -> KVCache:
        return list(self._create())

    def can_trim(self, cache: KVCache) -> bool:
        return all(self._can_trim_layer(layer) for layer in cache)

    def _can_trim_layer(self, layer: Any) -> bool:
        if isinstance(layer, self._nested):
            return self.can_trim(list(layer.caches))
        # Subclasses, such as rotating caches, cannot be trimmed at any length.
        return type(layer) is self._trimmable

    def trim(self, cache: KVCache, tokens: int) -> KVCache:
        copied = copy.deepcopy(cache)
        for layer in copied:
            layer.trim(tokens)
        return copied

    def nbytes(self, cache: KVCache) -> int:
        return sum(layer.nbytes for layer in cache)

    def check_batching(self, library: str, path: Path) -> None:
        """Raise LoadError if the caches of the model in `path` cannot be batched."""
        unbatched = sorted({type(layer).__name__ for layer in self.new() if not hasattr(layer, "merge")})
        if unbatched:
            raise LoadError(
                f"{library} cannot batch the model {str(path)!r} (its cache is {', '.join(unbatched)}); choose a model "
                "of another architecture."
            )
