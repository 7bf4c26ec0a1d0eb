import json

import pytest
from mlx_host.parsing import json_call, json_object, json_string, normalize_arguments


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", "{}"),
        ("null", "{}"),
        ('""', "{}"),
        (' {"n": 1.10} ', '{"n": 1.10}'),
        ('"{\\"a\\": 1}"', '{"a": 1}'),
        ('"\\"{}\\""', None),
        ("[1]", None),
        ("1", None),
        ('{"a": NaN}', None),
        ('{"a": ' + "9" * 5000 + "}", None),
        ("{", None),
    ],
)
def test_normalize_arguments(raw: str, expected: str | None) -> None:
    assert normalize_arguments(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"name": "f"}', ("f", "", None)),
        ('{ "parameters" : {"a" : [1, {}]} , "name" : "f" }', ("f", '{"a" : [1, {}]}', None)),
        ('{"type": "function", "function": {"name": "f", "arguments": "{}"}}', ("f", '"{}"', None)),
        ('{"function": "f", "arguments": {}}', ("f", "{}", None)),
        ('{"name": "f", "id": "x"}', ("f", "", "x")),
        ('{"name": null}', None),
        ("{}", None),
        ('["name"]', None),
    ],
)
def test_json_call(raw: str, expected: tuple[str, str, str | None] | None) -> None:
    assert json_call(raw, id_key="id") == expected


def test_arguments_can_be_required() -> None:
    assert json_call('{"name": "f"}', need_arguments=True) is None


def test_json_string_is_valid_unicode() -> None:
    written = json_object({"é\ud800": json_string("\ud800"), "ü": "1"})
    assert json.loads(written.encode()) == {"é\ud800": "\ud800", "ü": 1}
    assert json_string("é") == '"é"'
