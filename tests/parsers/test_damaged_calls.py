"""Calls that models write with deviations from their family's notation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mlx_host._plugins.manager import Plugins
from mlx_host.parsing import Content, Parser
from mlx_host.requests import Json
from mlx_host.testing.parser_contract import ParserContract, calls_of, text_of
from mlx_host.testing.text_strategies import Case

PARSERS = {parser.name: parser for parser in Plugins({}).parsers.found.values()}


def tool(name: str, **properties: str | Json) -> Json:
    """Return a tool; all parameters are required. A type may be given by its name."""
    members = {key: {"type": value} if isinstance(value, str) else value for key, value in properties.items()}
    parameters = {"type": "object", "properties": members, "required": list(members)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = (
    tool("exec", command="string"),
    tool("write", path="string", content="string"),
    tool("now"),
    tool("get_weather", city="string"),
    tool("ask", input="string"),
    tool("search", refs={"type": "array", "items": {"type": "string"}}),
    tool("page", q="boolean", limit="integer"),
)
LS = ("exec", {"command": "ls"})
OSLO = ("get_weather", {"city": "Oslo"})


def parse(parser: str, text: str, **more: Any) -> tuple[list[tuple[str, object]], str]:
    """Return the calls and the content of an output, which is checked for both invariants."""
    chosen: type[Parser] = PARSERS[parser]
    contract = type("Contract", (ParserContract,), {"parser": chosen, "samples": ()})()
    parts = contract.check(Case(text, **{"tools": TOOLS, **more}))
    return calls_of(parts), text_of(parts, Content)


def wrapped(text: str) -> str:
    return f"<tool_call>{text}</tool_call>"


# JSON calls of each family: the object is inserted.
JSON_FAMILIES = {
    "hermes": "<tool_call>\n{}\n</tool_call>",
    "qwen3": "<tool_call>{}</tool_call>",
    "qwen3_5": "<tool_call>{}</tool_call>",
    "qwen3_coder": "<tool_call>\n{}\n</tool_call>",
    "glm4_moe": "<tool_call>{}</tool_call>",
    "mistral": "[TOOL_CALLS] [{}]",
    "granite": "<|tool_call|>[{}]",
    "phi4": "<|tool_call|>[{}]<|/tool_call|>",
    "lfm2": "<|tool_call_start|>[{}]<|tool_call_end|>",
    "llama3_json": "{}",
}
# Arguments after a name, of exec.
NAMED_FAMILIES = {
    "mistral": "[TOOL_CALLS]exec[ARGS]{}",
    "deepseek_v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>exec\n```json\n{}\n```"
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "deepseek_v31": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>exec<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
    "deepseek_v32": '<｜DSML｜function_calls>\n<｜DSML｜invoke name="exec">\n{}\n</｜DSML｜invoke>\n'
    "</｜DSML｜function_calls>",
    "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.exec:0<|tool_call_argument_begin|>{}"
    "<|tool_call_end|><|tool_calls_section_end|>",
    "kimi_k3": '<|open|>tools<|sep|><|open|>call tool="exec" index="1"<|sep|><|open|>json<|sep|>{}<|close|>json<|sep|>'
    "<|close|>call<|sep|><|close|>tools<|sep|>",
    "harmony": "<|channel|>commentary to=functions.exec <|constrain|>json<|message|>{}<|call|>",
    "glm4_moe": "<tool_call>exec\n{}</tool_call>",
}


@pytest.mark.parametrize("parser", JSON_FAMILIES)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "exec", "input": {"command": "ls"}}', LS),
        ('{"name": "exec", "params": {"command": "ls"}}', LS),
        ('{"name": "exec", "args": "{\\"command\\": \\"ls\\"}"}', LS),
        ('{"name": "exec", "command": "ls"}', LS),
        ('{"type": "function", "name": "exec", "command": "ls"}', LS),
        ('{"name": "exec", "arguments": {}, "command": "ls"}', LS),
        ('{"type": "function", "function": {"name": "exec", "input": {"command": "ls"}}}', LS),
        ('{"name": "ask", "input": "why?"}', ("ask", {"input": "why?"})),
        ('{"name": "ask", "input": {"input": "why?"}}', ("ask", {"input": "why?"})),
        ('{"name": "other", "input": {"a": 1}}', ("other", {"a": 1})),
    ],
)
def test_arguments_under_another_key(parser: str, text: str, expected: tuple[str, object]) -> None:
    assert parse(parser, JSON_FAMILIES[parser].replace("{}", text)) == ([expected], "")


@pytest.mark.parametrize("parser", JSON_FAMILIES)
@pytest.mark.parametrize(
    "text", ['{"name": "exec", "cmd": "ls"}', '{"name": "other", "command": "ls"}', '{"name": "exec", "input": "ls"}']
)
def test_unknown_members_without_arguments_are_text(parser: str, text: str) -> None:
    written = JSON_FAMILIES[parser].replace("{}", text)
    assert parse(parser, written) == ([], written)


BACKSLASHES = {"command": "C:\\users\\x \\u22co"}
DAMAGED = [
    ('{"command": "a\n\tb"}', {"command": "a\n\tb"}),
    (r'{"command": "C:\users\x \u22co"}', BACKSLASHES),
    ('{"command": "ls",}', {"command": "ls"}),
    ("{'command': 'say \"it\\'s\"'}", {"command": 'say "it\'s"'}),
    ('{"command": "ls" // list\n}', {"command": "ls"}),
    ('{/* list */ "command": "ls"}', {"command": "ls"}),
    ('{command: "ls"}', {"command": "ls"}),
]


@pytest.mark.parametrize("parser", JSON_FAMILIES)
@pytest.mark.parametrize(("text", "expected"), DAMAGED)
def test_damaged_json_is_repaired(parser: str, text: str, expected: object) -> None:
    written = JSON_FAMILIES[parser].replace("{}", '{"name": "exec", "arguments": ' + text + "}")
    assert parse(parser, written) == ([("exec", expected)], "")


@pytest.mark.parametrize("parser", NAMED_FAMILIES)
@pytest.mark.parametrize(("text", "expected"), DAMAGED)
def test_damaged_arguments_are_repaired(parser: str, text: str, expected: object) -> None:
    assert parse(parser, NAMED_FAMILIES[parser].replace("{}", text)) == ([("exec", expected)], "")


@pytest.mark.parametrize("parser", [name for name in NAMED_FAMILIES if name != "mistral"])
def test_missing_bracket_before_the_closing_tag(parser: str) -> None:
    assert parse(parser, NAMED_FAMILIES[parser].replace("{}", '{"command": "ls"')) == ([LS], "")


@pytest.mark.parametrize("parser", ["hermes", "qwen3", "phi4", "lfm2", "granite"])
def test_missing_brace_of_an_object(parser: str) -> None:
    text = JSON_FAMILIES[parser].replace("{}", '{"name": "exec", "arguments": {"command": "ls"}')
    assert parse(parser, text) == ([LS], "")


def test_words_of_python() -> None:
    text = wrapped('{"name": "page", "arguments": {"q": True, "limit": 5}}')
    assert parse("hermes", text) == ([("page", {"q": True, "limit": 5})], "")


@pytest.mark.parametrize("parser", JSON_FAMILIES)
@pytest.mark.parametrize(
    "text",
    [
        '{"name": "other", "arguments": {"command": "ls",}}',
        '{"name": "exec", "arguments": {"command": 7,}}',
        '{"name": "exec", "arguments": {"cmd": "ls",}}',
        '{"name": "exec", "arguments": {"command": "say "hi""}}',
        '{"name": "exec", "arguments": {"command": ls}}',
        '{"name": "exec", "arguments": {"command": "a\nb',
    ],
)
def test_what_is_not_repaired_is_text(parser: str, text: str) -> None:
    written = JSON_FAMILIES[parser].replace("{}", text)
    assert parse(parser, written) == ([], written)


@pytest.mark.parametrize("parser", ["hermes", "mistral", "harmony"])
def test_repair_can_be_disabled(parser: str) -> None:
    written = NAMED_FAMILIES.get(parser, wrapped('{"name": "exec", "arguments": {}}')).replace(
        "{}", '{"command": "ls",}'
    )
    reading = PARSERS[parser](tools=TOOLS, repair_calls=False)
    assert not calls_of(reading.feed(written) + reading.finish())


def test_a_call_after_one_that_cannot_be_repaired() -> None:
    damaged = '<tool_call>{"name": "exec", "arguments": {"command": "a\n'
    assert parse("hermes", damaged + wrapped(json.dumps({"name": "now"}))) == ([("now", {})], damaged)


@pytest.mark.parametrize("parser", ["hermes", "qwen3", "qwen3_5", "qwen3_coder", "mistral", "granite", "phi4"])
@pytest.mark.parametrize("separator", ["", "\n", ",\n"])
def test_several_objects_in_one_block(parser: str, separator: str) -> None:
    text = separator.join(json.dumps({"name": "exec", "arguments": {"command": name}}) for name in "ab")
    written = JSON_FAMILIES[parser].replace("[{}]", "{}").replace("{}", text)
    assert parse(parser, written) == ([("exec", {"command": "a"}), ("exec", {"command": "b"})], "")


@pytest.mark.parametrize("parser", ["hermes", "qwen3", "qwen3_5", "qwen3_coder", "mistral", "granite", "phi4"])
@pytest.mark.parametrize("array", [False, True])
def test_a_fence_in_the_block(parser: str, array: bool) -> None:
    call = json.dumps({"name": "exec", "arguments": {"command": "ls"}})
    fenced = f"```json\n{f'[{call}]' if array else call}\n```"
    written = JSON_FAMILIES[parser].replace("[{}]", "{}").replace("{}", fenced)
    assert parse(parser, written) == ([LS], "")


@pytest.mark.parametrize("parser", [name for name in NAMED_FAMILIES if name != "deepseek_v3"])
def test_fenced_arguments(parser: str) -> None:
    assert parse(parser, NAMED_FAMILIES[parser].replace("{}", '```json\n{"command": "ls"}\n```')) == ([LS], "")


@pytest.mark.parametrize("parser", JSON_FAMILIES)
@pytest.mark.parametrize("name", ["functions.now", "Now", "Functions.NOW"])
def test_the_name_of_a_tool_in_another_spelling(parser: str, name: str) -> None:
    written = JSON_FAMILIES[parser].replace("{}", json.dumps({"name": name, "arguments": {}}))
    assert parse(parser, written) == ([("now", {})], "")


def test_a_name_that_two_tools_share_but_for_case_is_unchanged() -> None:
    tools = (tool("now"), tool("Now"))
    reading = PARSERS["hermes"](tools=tools)
    text = wrapped(json.dumps({"name": "NOW"})) + wrapped(json.dumps({"name": "Now"}))
    assert calls_of(reading.feed(text)) == [("NOW", {}), ("Now", {})]


@pytest.mark.parametrize("id", ["functionsexec5", "functions.exec5", "exec:5", "functions.Exec:5"])
def test_kimi_ids_without_punctuation(id: str) -> None:
    text = NAMED_FAMILIES["kimi_k2"].replace("functions.exec:0", id).replace("{}", '{"command": "ls"}')
    assert parse("kimi_k2", text) == ([LS], "")


M3 = "]<]minimax[>["
GIVEN = {"path": "a.txt", "content": "hello"}
WRITE = ("write", GIVEN)
CODER = ["qwen3_coder", "qwen3_5", "qwen3"]


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        *(
            (
                parser,
                "<tool_call>\n<function=write>\n<parameter=path>\na.txt\n<parameter=content>\nhello\n</parameter>\n"
                "</function>\n</tool_call>",
            )
            for parser in CODER
        ),
        (
            "minimax",
            '<minimax:tool_call>\n<invoke name="write">\n<parameter name="path">a.txt\n<parameter name="content">hello'
            "</parameter>\n</invoke>\n</minimax:tool_call>",
        ),
        (
            "glm4_moe",
            "<tool_call>write\n<arg_key>path</arg_key>\n<arg_value>a.txt\n<arg_key>content</arg_key>\n"
            "<arg_value>hello</arg_value>\n</tool_call>",
        ),
        (
            "glm4_moe",
            "<tool_call>write<arg_key>path</arg_key><arg_value>a.txt<arg_key>content</arg_key><arg_value>hello"
            "</arg_value></tool_call>",
        ),
        (
            "deepseek_v32",
            '<｜DSML｜function_calls>\n<｜DSML｜invoke name="write">\n'
            '<｜DSML｜parameter name="path" string="true">a.txt<｜DSML｜parameter name="content" string="true">'
            "hello</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
            "</｜DSML｜function_calls>",
        ),
        (
            "kimi_k3",
            '<|open|>tools<|sep|><|open|>call tool="write" index="1"<|sep|><|open|>argument key="path" type="string"'
            '<|sep|>a.txt<|open|>argument key="content" type="string"<|sep|>hello<|close|>argument<|sep|>'
            "<|close|>call<|sep|><|close|>tools<|sep|>",
        ),
        (
            "minimax_m3",
            f'{M3}<tool_call>\n{M3}<invoke name="write">\n{M3}<path>a.txt\n{M3}<content>hello{M3}</content>\n'
            f"{M3}</invoke>\n{M3}</tool_call>",
        ),
    ],
)
def test_a_closing_tag_of_a_value_is_missing(parser: str, text: str) -> None:
    assert parse(parser, text) == ([WRITE], "")


@pytest.mark.parametrize("parser", CODER)
def test_a_value_that_swallows_a_required_parameter_is_text(parser: str) -> None:
    text = (
        "<tool_call>\n<function=write>\n<parameter=path>\na.txt <parameter=content>\nhello\n</parameter>\n"
        "</function>\n</tool_call>"
    )
    assert parse(parser, text) == ([], text)


FUNCTION = "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo"
INVOKE = '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Oslo'
DSML = (
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">Oslo'
)
K3 = (
    '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|><|open|>argument key="city" type="string"'
    "<|sep|>Oslo"
)
M3_CALL = f'{M3}<tool_call>\n{M3}<invoke name="get_weather">\n{M3}<city>Oslo'
GLM = "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo"


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        *((parser, f"{FUNCTION}\n</function>\n</tool_call>") for parser in CODER),
        *((parser, f"{FUNCTION}\n</parameter>\n</tool_call>") for parser in CODER),
        *((parser, f"{FUNCTION}\n</tool_call>") for parser in CODER),
        ("glm4_moe", f"{GLM}\n</tool_call>"),
        ("minimax", f"{INVOKE}</invoke>\n</minimax:tool_call>"),
        ("minimax", f"{INVOKE}</parameter>\n</minimax:tool_call>"),
        ("deepseek_v32", f"{DSML}</｜DSML｜invoke>\n</｜DSML｜function_calls>"),
        ("deepseek_v32", f"{DSML}</｜DSML｜parameter>\n</｜DSML｜function_calls>"),
        ("kimi_k3", f"{K3}<|close|>call<|sep|><|close|>tools<|sep|>"),
        ("minimax_m3", f"{M3_CALL}{M3}</invoke>\n{M3}</tool_call>"),
        ("minimax_m3", f"{M3_CALL}{M3}</city>\n{M3}</tool_call>"),
    ],
)
def test_an_outer_closing_tag_closes_what_is_open(parser: str, text: str) -> None:
    assert parse(parser, text) == ([OSLO], "")
    assert parse(parser, text + "\nI wait.")[0] == [OSLO]
    assert parse(parser, text + text)[0] == [OSLO, OSLO]


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        *((parser, f"{FUNCTION}\n</parameter>") for parser in CODER),
        *((parser, f"{FUNCTION}\n</parameter>\n</function>") for parser in CODER),
        ("glm4_moe", f"{GLM}</arg_value>\n"),
        ("minimax", f"{INVOKE}</parameter>\n</in"),
        ("deepseek_v32", f"{DSML}</｜DSML｜parameter>\n"),
        ("kimi_k3", f"{K3}<|close|>argument<|sep|>"),
        ("minimax_m3", f"{M3_CALL}{M3}</city>\n"),
    ],
)
def test_closing_tags_are_missing_at_the_end_of_the_output(parser: str, text: str) -> None:
    assert parse(parser, text) == ([OSLO], "")
    if not text.endswith("</function>"):
        assert parse(parser, text, truncated=True) == ([], text)


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        *(
            (
                parser,
                "<tool_call>\n<function=write>\n<parameter=path>\na.txt\n</parameter>\n<parameter=content>\nVALUE\n"
                "</parameter>\n</function>\n</tool_call>",
            )
            for parser in CODER
        ),
        (
            "minimax",
            '<minimax:tool_call>\n<invoke name="write">\n<parameter name="path">a.txt</parameter>\n'
            '<parameter name="content">VALUE</parameter>\n</invoke>\n</minimax:tool_call>',
        ),
        (
            "glm4_moe",
            "<tool_call>write\n<arg_key>path</arg_key>\n<arg_value>a.txt</arg_value>\n<arg_key>content</arg_key>\n"
            "<arg_value>VALUE</arg_value>\n</tool_call>",
        ),
    ],
)
@pytest.mark.parametrize(
    "value",
    [
        "<parameter>\nhi\n</parameter>",
        "<arg_value>hi</arg_value>",
        "if x: </function> <tool_call>",
        "<function=now>\n</function>\nthen",
        "<invoke name=now></invoke> it",
    ],
)
def test_the_notation_inside_a_value(parser: str, text: str, value: str) -> None:
    assert parse(parser, text.replace("VALUE", value)) == ([("write", {"path": "a.txt", "content": value})], "")


def test_two_functions_in_one_block() -> None:
    one = "<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>"
    for parser in CODER:
        assert parse(parser, f"<tool_call>\n{one}\n{one}\n</tool_call>") == ([OSLO, OSLO], "")


def test_minimax_m3_omits_the_first_opening_tag() -> None:
    body = f"Oslo{M3}</city>{M3}<days>3{M3}</days>{M3}</invoke>"
    text = f'{M3}<tool_call>\n{M3}<invoke name="get_weather">{body}\n{M3}</tool_call>'
    tools = (tool("get_weather", city="string", days="integer"),)
    assert parse("minimax_m3", text, tools=tools) == ([("get_weather", {"city": "Oslo", "days": 3})], "")


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (
            "deepseek_v32",
            '<｜DSML｜function_calls>\n<｜DSML｜invoke name="page">\n'
            '<｜DSML｜parameter name="q" string="true">true</｜DSML｜parameter>\n'
            '<｜DSML｜parameter name="limit" string="true">5</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
            "</｜DSML｜function_calls>",
        ),
        (
            "kimi_k3",
            '<|open|>tools<|sep|><|open|>call tool="page" index="1"<|sep|><|open|>argument key="q" type="string"<|sep|>'
            'true<|close|>argument<|sep|><|open|>argument key="limit" type="string"<|sep|>5<|close|>argument<|sep|>'
            "<|close|>call<|sep|><|close|>tools<|sep|>",
        ),
        ("gemma4", '<|tool_call>call:page{q:<|"|>true<|"|>,limit:<|"|>5<|"|>}<tool_call|>'),
        (
            "function_gemma",
            "<start_function_call>call:page{q:<escape>true<escape>,limit:<escape>5<escape>}<end_function_call>",
        ),
    ],
)
def test_the_schema_decides_where_the_mark_of_a_string_contradicts_it(parser: str, text: str) -> None:
    assert parse(parser, text) == ([("page", {"q": True, "limit": 5})], "")
    other = text.replace("5", "five")
    assert parse(parser, other) == ([("page", {"q": True, "limit": "five"})], "")


def test_a_list_that_is_marked_as_a_string() -> None:
    text = DSML.replace("get_weather", "search").replace("city", "refs").replace("Oslo", '["a"]')
    assert parse("deepseek_v32", f"{text}</｜DSML｜parameter>\n</｜DSML｜invoke>") == (
        [("search", {"refs": ["a"]})],
        "",
    )


def test_a_string_that_is_marked_as_another_type() -> None:
    text = DSML.replace('string="true"', 'string="false"').replace("Oslo", "10")
    assert parse("deepseek_v32", f"{text}</｜DSML｜parameter>\n</｜DSML｜invoke>") == (
        [("get_weather", {"city": "10"})],
        "",
    )


@pytest.mark.parametrize("parser", ["deepseek_v32", "deepseek_v4"])
def test_dsml_closing_tags_without_the_mark(parser: str) -> None:
    block = "function_calls" if parser == "deepseek_v32" else "tool_calls"
    text = DSML.replace("function_calls", block) + f"</parameter>\n</invoke>\n</{block}>"
    assert parse(parser, text) == ([OSLO], "")
    inner = text.replace("Oslo", "<parameter>x</parameter> y")
    assert parse(parser, inner) == ([("get_weather", {"city": "<parameter>x</parameter> y"})], "")


def test_gemma_equals_signs() -> None:
    assert parse("gemma4", '<|tool_call>call:search{refs=["ds_1"]}<tool_call|>') == (
        [("search", {"refs": ["ds_1"]})],
        "",
    )


@pytest.mark.parametrize("quote", ['"', "'", ""])
@pytest.mark.parametrize("block", [True, False])
def test_minimax_attributes_and_block(quote: str, block: bool) -> None:
    text = INVOKE.replace('"', quote) + "</parameter>\n</invoke>\n"
    text = f"{text}</minimax:tool_call>" if block else text.removeprefix("<minimax:tool_call>\n")
    assert parse("minimax", text) == ([OSLO], "")


@pytest.mark.parametrize(
    "text",
    [
        'The tag `<tool_call>{"name": "now"}</tool_call>` is how.',
        "Write `<tool_call>` first.",
        '```<tool_call>{"name": "now"}</tool_call>```',
    ],
)
@pytest.mark.parametrize("parser", ["qwen3", "hermes", "qwen3_coder"])
def test_a_call_in_backticks_is_text(parser: str, text: str) -> None:
    assert parse(parser, text) == ([], text)


def test_a_call_after_closed_backticks() -> None:
    call = wrapped('{"name": "now"}')
    for text in ("Use `ls`", "Use it:\n```\nls\n```\n", "```\n"):
        assert parse("qwen3", text + call) == ([("now", {})], text)


OSLO_CALL = '{"name": "get_weather", "parameters": {"city": "Oslo"}}'


@pytest.mark.parametrize("parser", ["llama3_json", "hermes"])
@pytest.mark.parametrize(("before", "after"), [("", ""), ("Sure, let me check.", "\n"), ("```\nls\n```\nSo:", "\n\n")])
def test_a_json_call_on_a_line(parser: str, before: str, after: str) -> None:
    calls, content = parse(parser, before + after + OSLO_CALL)
    assert (calls, content.strip()) == ([OSLO], before)


@pytest.mark.parametrize("parser", ["llama3_json", "hermes"])
@pytest.mark.parametrize(
    "text",
    [
        f"So {OSLO_CALL}",
        f"As:\n```json\n{OSLO_CALL}\n```",
        f"As:\n```json\n[\n{OSLO_CALL}\n]\n```",
        'As:\n{"name": "other", "parameters": {}}',
        'As:\n{"city": "Oslo"}',
    ],
)
def test_other_json_is_text(parser: str, text: str) -> None:
    assert parse(parser, text) == ([], text)


@pytest.mark.parametrize("before", ["", "<|python_tag|>", "I look.\n"])
def test_python_calls_of_llama(before: str) -> None:
    text = before + '[get_weather(city="Oslo"), now()]'
    calls, content = parse("llama3_json", text)
    assert calls == [OSLO, ("now", {})]
    assert content == before.removeprefix("<|python_tag|>").rstrip()


@pytest.mark.parametrize("text", ["[1, 2]", "[other()]", "[now](https://example.com)", "See\n[now]"])
def test_lists_are_text(text: str) -> None:
    assert parse("llama3_json", text) == ([], text)
