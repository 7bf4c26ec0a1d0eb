"""Detection of parsers from chat templates, on minimal templates of each family."""

from __future__ import annotations

import pytest
from mlx_host._cli import discover
from mlx_host.parsing import Parser
from mlx_host.parsing.detect import detect

# Most templates iterate over a message's calls like this, whatever their markers, so it identifies no family.
LOOP = """{%- for tool_call in message.tool_calls %}
  {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
  BODY
{%- endfor %}"""
CHATML = "{{ '<|im_start|>' + message.role }}\n{{ message.content }}<|im_end|>{{ '<|im_start|>assistant\\n' }}"
THINK = "{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}"
DEEPSEEK = (
    "{{ '<｜User｜>' + message['content'] }}{{ '<｜Assistant｜>' }}{{ message['content'].split('</think>')[-1] }}"
)
DSML = (
    "{%- set dsml = '｜DSML｜' %}{{ '<｜User｜>' ~ text }}{{ '<｜Assistant｜>' ~ ('<think>' if on else '</think>') }}"
)


def calls(body: str) -> str:
    return LOOP.replace("BODY", body)


XML = """{{ '<tool_call>\\n<function=' + tool_call.name + '>\\n' }}
  {%- for key, value in tool_call.arguments | items %}{{ '<parameter=' + key + '>\\n' + value + '\\n</parameter>\\n' }}
  {%- endfor %}{{ '</function>\\n</tool_call>' }}"""
JSON = """{{ '<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' + tool_call.arguments | tojson + '}' }}"""
V3 = "{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool_call['type'] + '<｜tool▁sep｜>' + tool_call['name'] }}"
V31 = "{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool_call.name + '<｜tool▁sep｜>' + tool_call.arguments }}"


def dsml(block: str, gap: str = "") -> str:
    return DSML + calls(
        f"{{{{ '<' ~ dsml ~ '{gap}{block}>\\n' }}}}"
        f"{{{{ '<' ~ dsml ~ '{gap}invoke name=\"' ~ tool_call.name ~ '\">\\n' }}}}"
        f"{{{{ '<' ~ dsml ~ '{gap}parameter name=\"' ~ key ~ '\" string=\"true\">' }}}}"
    )


TEMPLATES = {
    "deepseek_r1": DEEPSEEK + "{{ '<｜Assistant｜><think>\\n' }}",
    "deepseek_v3": DEEPSEEK + calls(V3 + "{{ '\\n' + '```json' + '\\n' + tool_call['arguments'] + '\\n' + '```' }}"),
    "deepseek_v31": DEEPSEEK + "{{ '<think>' if thinking else '</think>' }}" + calls(V31),
    "deepseek_v32": dsml("function_calls"),
    "deepseek_v4": dsml("tool_calls"),
    "function_gemma": "<start_of_turn>model"
    + calls("{{ '<start_function_call>call:' + tool_call.name + '{' + '<escape>' + '}<end_function_call>' }}"),
    "gemma4": "{{ '<|turn>model\\n' }}{{ '<|channel>thought\\n<channel|>' }}"
    + calls("{{ '<|tool_call>call:' + tool_call['name'] + '{' + '<|\"|>' + '}<tool_call|>' }}"),
    "glm4_moe": "<|assistant|>\n<think>"
    + calls("{{ '<tool_call>' + tool_call.name }}<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>"),
    "granite": "<|start_of_role|>{{ message.role }}<|end_of_role|> respond with <|tool_call|> followed by a JSON list.",
    "harmony": "<|start|>assistant<|channel|>analysis<|message|>"
    + calls("{{ '<|start|>assistant to=functions.' + tool_call.name + '<|channel|>commentary json<|message|>' }}"),
    "hermes": CHATML + calls(JSON),
    "kimi_k2": "<|im_assistant|>assistant<|im_middle|><|tool_calls_section_begin|>"
    + calls("<|tool_call_begin|>{{ tool_call['id'] }}<|tool_call_argument_begin|>{{ tool_call.arguments }}"),
    "kimi_k3": "{{ '<|open|>message role=\"assistant\"<|sep|>' }}"
    + calls("{{ '<|open|>call tool=\"' + tool_call.name + '\"<|sep|>' }}"),
    "lfm2": CHATML + "List of tools: <|tool_list_start|>[{{ tools }}]<|tool_list_end|>",
    "llama3_json": "<|start_header_id|>assistant<|end_header_id|>\n\n"
    + calls("{{ '<|python_tag|>' + tool_call.name + '.call(' }}"),
    "minimax": "]~b]ai\n<think>"
    + calls("{{ '<minimax:tool_call>' }}{{ '<invoke name=\"' + tool_call.name + '\">' }}<parameter name="),
    "minimax_m3": "{%- set ns = ']<]minimax[>[' %}{{ '<mm:think>' }}"
    + calls("{{ ns ~ '<tool_call>\\n' }}{{ ns ~ '<invoke name=\"' ~ tool_call.name ~ '\">' }}"),
    "mistral": "[INST]{{ message.content }}[/INST]" + calls("{{ '[TOOL_CALLS]' + tool_call.name + '[ARGS]' }}"),
    "phi4": "{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' }}",
    "qwen3": CHATML + THINK + calls(JSON),
    "qwen3_5": CHATML + THINK + calls(XML),
    "qwen3_coder": CHATML + calls(XML),
}


@pytest.fixture(scope="module")
def parsers() -> list[type[Parser]]:
    return list(discover().parsers.found.values())


@pytest.mark.parametrize("family", TEMPLATES)
def test_family_is_detected_from_template(family: str, parsers: list[type[Parser]]) -> None:
    found = detect(TEMPLATES[family], parsers)
    assert found is not None
    assert found.parser.name == family, str(found)


def test_every_family_has_a_template(parsers: list[type[Parser]]) -> None:
    assert {parser.name for parser in parsers} == TEMPLATES.keys()


@pytest.mark.parametrize(
    ("family", "template"),
    [
        # R1's own template also writes calls, which only the parser of V3 supports.
        ("deepseek_v3", TEMPLATES["deepseek_v3"] + "{{ '<｜Assistant｜><think>\\n' }}</think>"),
        ("deepseek_v4", dsml("calls", gap=" ")),
        ("deepseek_v4", dsml("calls", gap=" ").replace("tool_calls", "tool_uses")),
        ("glm4_moe", TEMPLATES["glm4_moe"].replace("\n", "")),
        ("granite", "<|start_of_role|>available_tools<|end_of_role|>{{ tools | tojson }}"),
        ("granite", "<|start_of_role|>{{ message.role }}<|end_of_role|>" + calls(JSON)),
        ("granite", "<|start_of_role|>{{ role }}<|end_of_role|>write it after 'Here is my thought process:'"),
        ("lfm2", CHATML + "{{ 'List of tools: [' }}" + THINK),
        ("mistral", "[THINK]{{ message.reasoning }}[/THINK]<think></think>[TOOL_CALLS]"),
        ("qwen3_5", CHATML + THINK + calls(XML.replace("\\n", "\n"))),
        ("qwen3_coder", CHATML + calls(XML.replace("\\n", "\n"))),
    ],
)
def test_template_variant_is_detected(family: str, template: str, parsers: list[type[Parser]]) -> None:
    found = detect(template, parsers)
    assert found is not None
    assert found.parser.name == family, str(found)


@pytest.mark.parametrize(
    "template",
    [
        "",
        CHATML,
        "<s>[INST] {{ message.content }} [/INST]",
        "<|start_header_id|>{{ message.role }}<|end_header_id|>{{ message.content }}<|eot_id|>",
        "<start_of_turn>{{ message.role }}\n{{ message.content }}<end_of_turn>",
        "<|start_of_role|>{{ message.role }}<|end_of_role|>{{ message.content }}<|end_of_text|>",
        "<｜User｜>{{ message.content }}<｜Assistant｜>",
    ],
)
def test_template_without_markup_matches_no_family(template: str, parsers: list[type[Parser]]) -> None:
    assert detect(template, parsers) is None
