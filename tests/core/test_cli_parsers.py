"""The commands `mlx-host parsers` and `mlx-host parser`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from mlx_host import hookimpl
from mlx_host._cli import build, builtin_commands
from mlx_host._cli.parsers_command import Recording, chunkings, read_recordings, run
from mlx_host._plugins.manager import Plugins
from mlx_host.errors import UsageError
from mlx_host.parsing import Content, Parser, Part
from mlx_host.parsing.detect import detect

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mlx_host", *args], capture_output=True, text=True, check=False)


def test_parsers_are_listed_with_their_descriptions() -> None:
    rows = json.loads(command("parsers", "--json").stdout)
    (qwen3,) = [row for row in rows if row["name"] == "qwen3"]
    assert "qwen3_moe" in qwen3["aliases"]
    assert qwen3["distribution"] == "mlx-host-parser-qwen3"
    assert "Qwen3" in qwen3["reads"]
    assert qwen3["forces_calls"]
    assert [row["name"] for row in rows if not row["forces_calls"]] == ["deepseek_r1"]
    assert "qwen3" in command("parsers").stdout


def test_the_parts_of_a_recorded_output_are_shown(tmp_path: Path) -> None:
    recorded = tmp_path / "output.txt"
    recorded.write_text(f"<think>\nHm.\n</think>\n\nSo: {CALL}", encoding="utf-8")
    done = command("parser", "test", "qwen3", str(recorded))
    assert done.returncode == 0, done.stderr
    assert "'Hm.'" in done.stdout
    assert 'f {"a": 1}' in done.stdout.replace('{"a":1}', '{"a": 1}')


def test_a_recording_can_be_jsonl_with_a_generation_prompt(tmp_path: Path) -> None:
    recorded = tmp_path / "outputs.jsonl"
    recorded.write_text(
        '{"text": "Hm.</think>Yes.", "generation_prompt": "<think>"}\n\n{"text": "Yes."}\n', encoding="utf-8"
    )
    first, second = read_recordings(recorded, "")
    assert (first.text, first.generation_prompt, second.text) == ("Hm.</think>Yes.", "<think>", "Yes.")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('["b"]', "object"),
        ("{", "JSON"),
        ('{"text": 5}', "text: .*string"),
        ('{"text": "b", "tools": [5]}', r"tools\[0\]: must be an object, got 5"),
        ('{"text": "b", "generation_prompt": 5}', "generation_prompt: .*string"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    recorded = tmp_path / "outputs.jsonl"
    recorded.write_text(f'{{"text": "a"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=f"Line 2 .*{expected}"):
        read_recordings(recorded, "")


def test_an_empty_file_is_rejected(tmp_path: Path) -> None:
    recorded = tmp_path / "outputs.jsonl"
    recorded.write_text("\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no recording"):
        read_recordings(recorded, "")


def test_a_recording_is_read_unchanged(tmp_path: Path) -> None:
    text = "a\r\nb\u2028c"
    for name, written in (("output.txt", text), ("outputs.jsonl", json.dumps({"text": text}, ensure_ascii=False))):
        (tmp_path / name).write_bytes(written.encode())
        (recording,) = read_recordings(tmp_path / name, "")
        assert recording.text == text


def invoke(*args: str, parsers: Sequence[type[Parser]] = ()) -> Result:
    """Run a command in this process with only these parsers installed."""
    providing = SimpleNamespace(register_parsers=hookimpl(lambda: list(parsers)))
    plugins = Plugins({"commands": builtin_commands, "parsers": providing}, installed=())
    return CliRunner().invoke(build(plugins), args)


def test_a_missing_file_and_an_unknown_parser_are_usage_errors(tmp_path: Path) -> None:
    for args in (("qwen3", str(tmp_path / "none.txt")), ("unknown", str(tmp_path / "none.txt"))):
        done = command("parser", "test", *args)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert args[0] in done.stderr or "none.txt" in done.stderr


class LosesSingleCharacters(Parser):
    """A faulty parser that loses chunks of one character."""

    name = "cut_shows"
    description = "nothing right"

    def feed(self, text: str) -> list[Part]:
        return [Content(text)] if len(text) != 1 else [Content("?")]

    def finish(self) -> list[Part]:
        return []


class Bracketed(LosesSingleCharacters):
    name = "bracketed_parser_of_a_long_name"
    description = "answers in [bold] and [/bold]"


def test_a_parsers_name_and_description_are_not_truncated() -> None:
    listed = invoke("parsers", parsers=[Bracketed]).stdout
    assert "bracketed_parser_of_a_long_name" in listed
    assert {"[bold]", "[/bold]"} <= set(listed.split())


def test_no_package_is_suggested_for_an_unknown_parser() -> None:
    output = invoke("parser", "fuzz", "openai").stderr
    assert "'openai'" in output
    assert "mlx-host-parser-openai" not in output


def test_without_parsers_the_output_explains_how_to_install_them() -> None:
    assert "mlx-host-parser-qwen3" in invoke("parsers").stdout
    assert json.loads(invoke("parsers", "--json").stdout) == []


def test_dependence_on_chunks_is_reported_and_fails(tmp_path: Path) -> None:
    recorded = tmp_path / "output.txt"
    recorded.write_text("[red]" + "word " * 40, encoding="utf-8")
    done = invoke("parser", "test", "cut_shows", str(recorded), parsers=[LosesSingleCharacters])
    assert done.exit_code == 1
    whole, pieces, otherwise = done.stdout.splitlines()[1:]
    assert whole == f"content   {'[red]' + 'word ' * 40!r}"
    assert "different result with the chunks ['[', 'r', 'e', 'd', ']'," in pieces
    assert "?" * 205 in otherwise


def test_chunkings_find_a_parser_that_depends_on_chunks() -> None:
    recording = Recording("any text")
    whole = run(LosesSingleCharacters, recording, [recording.text])
    assert any(run(LosesSingleCharacters, recording, pieces) != whole for pieces in chunkings(recording.text))


def test_the_contract_can_be_run_by_name() -> None:
    done = command("parser", "fuzz", "qwen3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "failed" not in done.stdout


def test_the_contract_needs_samples() -> None:
    done = invoke("parser", "fuzz", "cut_shows", parsers=[LosesSingleCharacters])
    assert done.exit_code == 1
    assert "Parser 'cut_shows' has no samples" in done.stderr


class Plain(LosesSingleCharacters):
    name = "plain"
    template_signatures = (("<tool_call>", "tool_call.name"),)


class Special(LosesSingleCharacters):
    name = "special"
    template_signatures = (("<other>",), ("<tool_call>\n<function=", "<tool_call>"))


def test_the_family_with_most_markers_in_the_template_is_chosen() -> None:
    families = [Plain, Special, LosesSingleCharacters]
    found = detect("{% x %}<tool_call>{{ tool_call.name }}</tool_call>", families)
    assert found is not None
    assert found.parser is Plain
    assert "'<tool_call>' and 'tool_call.name'" in str(found)
    found = detect("<tool_call>\n<function={{ tool_call.name }}>", families)
    assert found is not None
    assert found.parser is Special
    assert detect("no tools here", families) is None
