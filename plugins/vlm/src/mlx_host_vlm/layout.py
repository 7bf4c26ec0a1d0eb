"""Where pictures and sounds stand in a message, in the shape that the model's chat template reads.

Most templates take a message's content as a list of typed parts and write the model's marks for them. Some take text
alone: for those mlx-vlm knows which marks to write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_host.errors import InvalidRequestError
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
    `symbols` are what stands for one medium in a prompt's text, as far as that is known.
    """

    kinds: frozenset[Kind]
    strings: bool = True
    marks: Marks | None = None
    symbols: Mapping[Kind, str] = field(default_factory=dict)

    def content(self, content: Any, where: str) -> Any:
        """A message's content as the template reads it; InvalidRequestError over what this model does not take."""
        if content is None or isinstance(content, str) or not isinstance(content, Sequence):
            text = text_content(content, where)
            return text if self.strings or not text else [_typed(text)]
        parts = [self._part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
        if all(part["type"] == "text" for part in parts):
            text = "\n".join(part["text"] for part in parts)
            return text if self.strings else [_typed(text)]
        return parts if self.marks is None else self.marks(parts)

    def check(self, text: str, given: Mapping[Kind, int], param: str) -> None:
        """Make sure that a prompt's text shows each medium once: neither is one left out, nor does a text pass for one.

        `given` says how many there are of each kind.
        """
        for kind, symbol in self.symbols.items():
            shown, there = text.count(symbol), given.get(kind, 0)
            if shown > there:
                raise InvalidRequestError(
                    f"{symbol!r} stands for an {PART_NAMES[kind]} to this model; leave it out of the text", param=param
                )
            if shown < there:
                raise InvalidRequestError(
                    f"the model's chat template shows {shown} of the {there} {PART_NAMES[kind]} parts; it leaves out "
                    "those in messages of some roles, or all but one of a message",
                    param=param,
                )

    def _part(self, part: Any, where: str) -> dict[str, str]:
        name = part.get("type") if isinstance(part, Mapping) else None
        kind = kind_of(part)
        if kind in self.kinds:
            return {"type": str(kind)}
        if not isinstance(name, str) or name in TEXT_PARTS:
            return _typed(text_part(part, where))
        raise InvalidRequestError(
            f"{where} is of type {name!r}, and this model takes {self._taken(name)}", param="messages"
        )

    def _taken(self, instead_of: str) -> str:
        if not self.kinds:
            other = instead_of in PART_NAMES.values()
            return "text only; run a model that takes it with --backend vlm" if other else "text only"
        names = [PART_NAMES[kind] for kind in sorted(self.kinds, reverse=True)]
        hint = "; send some of its frames as image_url parts" if "video" in instead_of and "image" in self.kinds else ""
        return f"parts of the types {', '.join(['text', *names])}{hint}"


def find_layout(render: Render, marks: Marks, symbols: Mapping[Kind, Sequence[str]]) -> Layout:
    """Find out, by rendering, what a template reads of what the network takes.

    `symbols` holds, for each kind that the network takes, what may stand for a medium.
    """
    plain = render([_user(WORD)])
    strings = plain is not None and WORD in plain
    listed = render([_user([_typed(WORD)])])
    shown = {kind: render([_user([{"type": kind}, _typed(WORD)])]) for kind in symbols}
    taken = {kind: text for kind, text in shown.items() if text is not None and _is_marked(text, listed)}
    if taken or not strings:
        return Layout(frozenset(taken), strings=strings, symbols=_found(taken, symbols))
    marked = {kind: text for kind in symbols if (text := marks([{"type": kind}, _typed(WORD)])) and text != WORD}
    return Layout(frozenset(marked), marks=marks, symbols=_found(marked, symbols))


def _is_marked(text: str, without: str | None) -> bool:
    """Whether a medium left a mark, and not as Python writes it."""
    return WORD in text and "{'" not in text and text != without


def _found(texts: Mapping[Kind, str], symbols: Mapping[Kind, Sequence[str]]) -> dict[Kind, str]:
    """Of each kind the symbol that stands once in a text that shows one medium."""
    once = {kind: [symbol for symbol in symbols[kind] if text.count(symbol) == 1] for kind, text in texts.items()}
    return {kind: found[0] for kind, found in once.items() if found}


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _typed(text: str) -> dict[str, str]:
    # Some templates read the text of a part under the one name, some under the other.
    return {"type": "text", "text": text, "content": text}
