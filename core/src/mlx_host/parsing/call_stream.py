"""Streams the arguments of a call while it is being read.

A reader reports the function's name, then the arguments as far as they are certain. What has been reported is a prefix
of the arguments that the reader emits in the end, if the text is what the family's grammar describes. If it is not, the
reported arguments are completed with quotes and brackets, because the client has already received them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from mlx_host.parsing.arguments import is_name, json_string
from mlx_host.parsing.json_fragments import (
    JsonFragments,
    JsonStringFragments,
    TextFragments,
    completion,
    without_spaces,
)
from mlx_host.parsing.tools import Tools

# The beginning of a call as a JSON object, through the key of its arguments.
_OBJECT_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_MAX_HEAD_LENGTH = 400


class CallStream:
    """The call that is being read. Nothing is streamed unless `enabled`.

    `consumed` is the list of texts that the scanner has consumed since its last decision.
    """

    def __init__(self, consumed: Sequence[str], tools: Tools) -> None:
        self.enabled = False
        self._consumed = consumed
        self._tools = tools
        self._reset()

    def _reset(self) -> None:
        self._active = self._broken = False
        self.name = ""
        self.id: str | None = None
        # Fragments: those that were taken, and those that were not.
        self._taken: list[str] = []
        self._new: list[str] = []
        # Converts consumed text to fragments, while it runs; the index of the first text that it has not converted.
        self._convert: Callable[[str], str] | None = None
        self._runs = False
        self._at = 0
        self._in_member: list[str] = []
        self._members = 0

    @property
    def is_reported(self) -> bool:
        """Whether a part of the arguments has been reported."""
        if self.enabled:
            self._flush(len(self._consumed))
        return bool(self._taken or self._new)

    @property
    def is_taken(self) -> bool:
        """Whether a part of the arguments has been taken."""
        return bool(self._taken)

    # For readers.

    def begin(self, name: str, id: str | None = None) -> None:
        """Report that the arguments of a call to the function `name` follow."""
        if self.enabled and not self.is_reported and is_name(name):
            self._reset()
            self._active = True
            self.name, self.id = self._tools.resolve(name), id or None

    def json_object(self) -> None:
        """Report that the text consumed from now on, until `stop`, is a JSON object with the arguments."""
        if self._active and not self.is_reported:
            self._start(_only_object(JsonFragments()), runs=True)

    def call_object(self, *, only_tools: bool = False) -> None:
        """Report that the text consumed from now on, until `stop`, is a JSON object with a name and arguments.

        With `only_tools` nothing is streamed if the function is not one of the tools.
        """
        if not self.enabled or self.is_reported:
            return
        self._reset()
        head = ""
        arguments: JsonFragments | None = None
        failed = False

        def convert(text: str) -> str:
            nonlocal head, arguments, failed
            if arguments is not None:
                return arguments.feed(text)
            if failed:
                return ""
            head += text
            if not (found := _OBJECT_HEAD.match(head[:_MAX_HEAD_LENGTH])):
                failed = len(head) > _MAX_HEAD_LENGTH
                return ""
            name = _decoded(found[1]).strip()
            failed = only_tools and name not in self._tools
            if not failed:
                self._active = is_name(name)
                self.name = self._tools.resolve(name)
                arguments = JsonFragments()
            return arguments.feed(head[found.end() :]) if arguments is not None else ""

        self._start(convert, runs=True)

    def text(self, key: str, *, trim: bool = False) -> None:
        """Report that the next value is a string, verbatim in the text that is consumed between `resume` and `pause`.

        Newlines around it may belong to the markup; with `trim` one at its beginning does.
        """
        self._string(key, '"', TextFragments(trim=trim).feed)

    def json_string(self, key: str) -> None:
        """Report that the next value is a JSON string, which is consumed between `resume` and `pause`."""
        self._string(key, "", JsonStringFragments().feed)

    def _string(self, key: str, quote: str, feed: Callable[[str], str]) -> None:
        if not self._active:
            return
        head = f"{self._separator()}{json_string(key)}: {quote}"

        def convert(text: str) -> str:
            nonlocal head
            fragment = feed(text)
            if fragment and head:
                fragment, head = head + fragment, ""
            if fragment:
                self._in_member.append(fragment)
            return fragment

        self._start(convert, runs=False)

    def resume(self) -> None:
        """Report that the text consumed from now on belongs to the string."""
        self._runs = True

    def pause(self, *, without_last: bool = False) -> None:
        """Report that this is uncertain of the following text, and of the last operation's with `without_last`."""
        self._flush(len(self._consumed) - without_last)
        self._runs = False

    def stop(self) -> None:
        """Report the end of a JSON object."""
        self._flush(len(self._consumed))
        self._convert = None

    def member(self, key: str, value: str) -> None:
        """Report a complete argument; `value` is JSON."""
        if not self._active:
            return
        self._convert = None
        text = f"{self._separator()}{json_string(key)}: {value}"
        begun = "".join(self._in_member)
        self._in_member.clear()
        self._members += 1
        if text.startswith(begun):
            self._put(text[len(begun) :])
        else:
            self._broken = True

    # For the scanner.

    def take(self) -> str:
        """Return the next fragment."""
        self._flush(len(self._consumed))
        fragment = "".join(self._new)
        if fragment:
            self._taken.append(fragment)
            self._new.clear()
        return fragment

    def end(self, arguments: str | None, *, truncated: bool = False) -> tuple[str, bool]:
        """End the call; return the fragments that were not taken, and whether the arguments are those that were passed.

        `arguments` None means that the call is not valid. Its arguments are completed, except with `truncated`.
        """
        self._flush(len(self._consumed))
        reported = "".join((*self._taken, *self._new))
        untaken = "".join(self._new)
        self._reset()
        if arguments is not None:
            for begun in (reported, without_spaces(reported)):
                if arguments.startswith(begun):
                    return untaken + arguments[len(begun) :], True
        return untaken + ("" if truncated else completion(reported)), False

    def cancel(self) -> None:
        """Discard a call that has not been reported."""
        self._reset()

    def _start(self, convert: Callable[[str], str], *, runs: bool) -> None:
        self._convert, self._runs, self._at = convert, runs, len(self._consumed)

    def _flush(self, end: int) -> None:
        if self._convert is None or not self._runs or end <= self._at:
            return
        text = "".join(self._consumed[self._at : end])
        self._at = end
        self._put(self._convert(text))

    def _put(self, fragment: str) -> None:
        if fragment and self._active and not self._broken:
            self._new.append(fragment)

    def _separator(self) -> str:
        return ", " if self._members else "{"


def _only_object(fragments: JsonFragments) -> Callable[[str], str]:
    """Return `fragments.feed`, but without leading whitespace and without text that is not an object."""
    is_object: bool | None = None

    def convert(text: str) -> str:
        nonlocal is_object
        if is_object is None and (body := text.lstrip()):
            is_object, text = body[0] == "{", body
        return fragments.feed(text) if is_object else ""

    return convert


def _decoded(name: str) -> str:
    try:
        return str(json.loads(name))
    except ValueError:
        return ""
