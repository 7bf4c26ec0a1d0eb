import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_host.parsing import CallSyntaxError, ScanGenerator, Scanner, read_balanced, read_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def read(reading: ScanGenerator[str], s: Scanner, text: str) -> tuple[str, str]:
    """Feed single characters; return the value (or "no") and the unread text."""
    pieces = iter(text)
    while True:
        try:
            next(reading)
        except StopIteration as stop:
            return stop.value, s.text[s.pos :] + "".join(pieces)
        except CallSyntaxError:
            return "no", s.text[s.pos :] + "".join(pieces)
        piece = next(pieces, "")
        s.feed(piece)
        s.ended = not piece


@settings(derandomize=True, database=None, deadline=None)
@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_json_value_ends_at_its_last_character(value: object, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps([value], ensure_ascii=ascii_only, indent=indent)
    s = Scanner()
    assert read(read_json(s), s, text + "]</call>") == (text, "]</call>")


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("[1,]", "]"),
        ('{"a" 1}', "1}"),
        ("{a}", "a}"),
        ("[01]", "1]"),
        ("[1.]", "]"),
        ("[+1]", "+1]"),
        ("[NaN]", "NaN]"),
        ("[tru1]", "tru1]"),
        ('["\n"]', '\n"]'),
        ('["\\x"]', 'x"]'),
        ('["\\u12g4"]', 'g4"]'),
        ("[1}", "}"),
        ('["open', ""),
        ("[" * 129, "["),
    ],
)
def test_invalid_json_stops_at_the_first_invalid_character(text: str, unread: str) -> None:
    s = Scanner()
    assert read(read_json(s), s, text) == ("no", unread)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(a=')', b=[1])x", ("(a=')', b=[1])", "x")),
        ('{"\\"}": 1}x', ('{"\\"}": 1}', "x")),
        ("{]}", ("no", "}")),
        ("(((", ("no", "")),
        ("('a\\", ("no", "")),
    ],
)
def test_balanced_brackets_ignore_quoted_text(text: str, expected: tuple[str, str]) -> None:
    s = Scanner()
    assert read(read_balanced(s), s, text) == expected


def test_quotes_can_have_several_characters() -> None:
    s = Scanner()
    assert read(read_balanced(s, ('<|"|>',), ""), s, '{k:<|"|>}"\\<|"|>}x') == ('{k:<|"|>}"\\<|"|>}', "x")
