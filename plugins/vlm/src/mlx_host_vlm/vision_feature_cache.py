"""Image features, cached between the turns of a conversation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import mlx.core as mx


class VisionFeatureCache:
    """Image features by name within a budget of bytes; the least recently used are evicted first.

    The networks of mlx-vlm that can use cached features call `get` and `put`, with the name passed to `embed`.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._features: OrderedDict[str, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    @property
    def nbytes(self) -> int:
        return total_nbytes(self._features.values())

    def get(self, name: str) -> Any:
        if name in self._features:
            self._features.move_to_end(name)
        return self._features.get(name)

    def put(self, name: str, features: Any) -> None:
        if total_nbytes([features]) > self._budget:
            return
        self._features[name] = features
        while self.nbytes > self._budget:
            self._features.popitem(last=False)


def total_nbytes(values: Iterable[Any]) -> int:
    """The bytes of the arrays among these values and in lists of arrays."""
    parts = ([value] if isinstance(value, mx.array) else value for value in values)
    return sum(part.nbytes for each in parts if isinstance(each, list | tuple) for part in each)
