"""Where pictures and sounds stand in a message, in the shape that the model's chat template reads.

Most templates take a message's content as a list of typed parts and write the model's marks for them. Some take text
alone: for those mlx-vlm knows which marks to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.errors import InvalidRequest
from mlx_host_lm.messages import text_content, text_part

from mlx_host_vlm.media.parts import Kind, kind_of

Render = Callable[[Sequence[Mapping[str, Any]]], str | None]
"""Messages to text; None if the template refuses them."""
Marks = Callable[[list[dict[str, str]]], str | None]
"""Parts to text with the model's marks among it; None if no marks are known."""

WORD = "probetext"
PART_NAMES: dict[Kind, str] = {"image": "image_url", "audio": "input_audio"}
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


@dataclass(frozen=True)
class Layout:
    """How one model's messages are laid out: `kinds` are what it takes beside text.

    Without `strings` the template reads no content but lists. `marks` is there for a template that reads no lists.
    """

    kinds: frozenset[Kind]
    strings: bool = True
    marks: Marks | None = None

    def content(self, content: Any, where: str) -> Any:
        """A message's content as the template reads it; InvalidRequest over what this model does not take."""
        if content is None or isinstance(content, str) or not isinstance(content, Sequence):
            text = text_content(content, where)
            return text if self.strings or not text else [_typed(text)]
        parts = [self._part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
        if all(part["type"] == "text" for part in parts):
            text = "\n".join(part["text"] for part in parts)
            return text if self.strings else [_typed(text)]
        return parts if self.marks is None else self.marks(parts)

    def _part(self, part: Any, where: str) -> dict[str, str]:
        name = part.get("type") if isinstance(part, Mapping) else None
        kind = kind_of(part)
        if kind in self.kinds:
            return {"type": str(kind)}
        if not isinstance(name, str) or name in TEXT_PARTS:
            return _typed(text_part(part, where))
        raise InvalidRequest(f"{where} is of type {name!r}, and this model takes {self._taken(name)}", param="messages")

    def _taken(self, instead_of: str) -> str:
        if not self.kinds:
            return "text only; run a model that takes it with --backend vlm"
        names = [PART_NAMES[kind] for kind in sorted(self.kinds, reverse=True)]
        hint = "; send some of its frames as image_url parts" if "video" in instead_of and "image" in self.kinds else ""
        return f"parts of the types {', '.join(['text', *names])}{hint}"


def find_layout(render: Render, marks: Marks, kinds: Iterable[Kind]) -> Layout:
    """Find out, by rendering, what a template reads of what the network takes."""
    plain = render([_user(WORD)])
    strings = plain is not None and WORD in plain
    listed = render([_user([_typed(WORD)])])
    taken = frozenset(kind for kind in kinds if _writes(render, kind, listed))
    if taken or not strings:
        return Layout(taken, strings=strings)
    marked = frozenset(kind for kind in kinds if (text := marks([{"type": kind}, _typed(WORD)])) and text != WORD)
    return Layout(marked, marks=marks)


def _writes(render: Render, kind: Kind, without: str | None) -> bool:
    """Whether a part of this kind leaves a mark, and not as Python writes it."""
    shown = render([_user([{"type": kind}, _typed(WORD)])])
    return shown is not None and WORD in shown and "{'" not in shown and shown != without


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _typed(text: str) -> dict[str, str]:
    # Some templates read the text of a part under the one name, some under the other.
    return {"type": "text", "text": text, "content": text}
