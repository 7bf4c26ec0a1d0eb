"""JSON text is released in fragments that, joined so far, brackets and quotation marks complete."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlx_host.parsing.json_fragments import JsonFragments, JsonStringFragments, TextFragments, completion

TEXT = st.text('a"\\\n\t é🙂{}[],:0\ud83d\ude00', max_size=8).map(
    lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)
CASES = settings(max_examples=100, derandomize=True, database=None, deadline=None)


@CASES
@given(OBJECTS, st.booleans(), st.sampled_from([None, 1]), st.integers(1, 7))
@example({"a": "\U0001f642"}, True, None, 1)
def test_fragments_are_completed_by_brackets(value: Any, ascii_only: bool, indent: int | None, size: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    fragments = JsonFragments()
    released = ""
    for at in range(0, len(text), size):
        released += fragments.feed(text[at : at + size])
        if released:
            assert isinstance(json.loads(released + completion(released)), dict)
    assert released == text


def test_a_string_is_released_as_it_grows() -> None:
    fragments = JsonFragments()
    assert [fragments.feed(char) for char in '{"a": "b\\u00e9c\\ud83d\\ude00"'] == [
        *("", "", "", "", "", "", '{"a": "', "b", "", "", "", "", "", "\\u00e9", "c"),
        *([""] * 11),
        "\\ud83d\\ude00",
        '"',
    ]


def test_an_unpaired_surrogate_is_released_with_the_text_after_it() -> None:
    fragments = JsonFragments()
    assert fragments.feed('{"a": "\\ud83d') == '{"a": "'
    assert fragments.feed("\\") == ""
    assert fragments.feed("n") == "\\ud83d\\n"


def test_a_number_is_released_with_the_text_after_it() -> None:
    fragments = JsonFragments()
    assert fragments.feed('{"a": 12') == ""
    assert fragments.feed("3,") == '{"a": 123'
    assert fragments.feed(' "b": []') == ', "b": []'
    assert fragments.feed("}") == "}"


@CASES
@given(TEXT, st.integers(1, 5))
def test_a_json_string_is_released_without_its_end(text: str, size: int) -> None:
    written = json.dumps(text)
    fragments = JsonStringFragments()
    pieces = [written[at : at + size] for at in range(0, len(written), size)]
    assert "".join(map(fragments.feed, pieces)) + '"' == written


@CASES
@given(st.text('a\n"\\', max_size=9), st.integers(1, 4), st.booleans())
def test_text_is_released_without_newlines_around_it(text: str, size: int, trim: bool) -> None:
    fragments = TextFragments(trim=trim)
    released = "".join(fragments.feed(text[at : at + size]) for at in range(0, len(text), size))
    body = text.removeprefix("\n") if trim else text
    newlines = min(len(body) - len(body.rstrip("\n")), 2)
    assert released == json.dumps(body[: len(body) - newlines])[1:-1]
