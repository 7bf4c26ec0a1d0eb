"""Small chat templates that differ in the same ways as those of model families."""

from __future__ import annotations

TAIL = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

ARGUMENTS_AS_MAPPING = (
    """
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content }}
{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{%- for call in message.tool_calls or [] %}<function={{ call.function.name }}>
{%- for name, value in call.function.arguments.items() %}<parameter={{ name }}>{{ value }}</parameter>{% endfor %}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}"""
    + TAIL
)
"""Like Qwen3-Coder: iterates over the arguments as a mapping."""

ARGUMENTS_AS_STRING = (
    """
{%- for message in messages %}
{%- if message.role == 'tool' %}{{ '<result of=' + message.name + '>' + message.content }}
{%- else %}{{ '<|im_start|>' + message.role + '\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<call>' + call.function.name + '\n' + call.function.arguments }}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- endfor %}"""
    + TAIL
)
"""Like DeepSeek V3: concatenates the arguments as a string; results have the name of their function."""

ARGUMENTS_AS_ANY = ARGUMENTS_AS_STRING.replace("+ call.function.arguments }}", "~ call.function.arguments }}")
"""The same with an operator that also converts mappings to text."""

SINGLE_CALL = """
{%- for message in messages %}
{{- '<|start|>' + message.role }}
{%- if message.tool_calls %}
{%- if message.content and message.thinking %}{{ raise_exception('content and thinking with a call') }}{% endif %}
{{- '<|analysis|>' + (message.content or message.thinking or '') + '<|end|>' }}
{{- ' to=' + message.tool_calls[0].function.name + ' ' + message.tool_calls[0].function.arguments|tojson }}
{%- else %}{{ '<|message|>' + message.content }}
{%- endif %}
{{- '<|end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}"""
"""Like gpt-oss: one call per message; reasoning is named thinking and cannot be combined with content."""

SHORT_IDS = """
{%- for message in messages %}
{%- for call in message.tool_calls or [] %}
{%- if call.id|length != 9 %}{{ raise_exception('Tool call IDs have length 9!') }}{% endif %}
{{- '[CALL ' + call.id + ']' + call.function.arguments|tojson }}
{%- endfor %}
{%- if message.role == 'tool' %}[RESULT {{ message.tool_call_id }}]{% endif %}
{{- message.content + '\n' }}
{%- endfor %}[/INST]"""
"""Like Mistral: ids of nine characters, and the generation prompt is always appended."""

NAMED_IDS = """
{%- for message in messages %}
{%- if message.role == 'tool' %}## Return of {{ message.tool_call_id }}{{ '\n' }}
{%- endif %}
{{- message.content or '' }}
{%- for call in message.tool_calls or [] %}
{{- '<|tool_call_begin|>' + call.id + '<|tool_call_argument_begin|>' }}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments|tojson }}
{%- endfor %}
{{- '\n' }}
{%- endfor %}"""
"""Like Kimi K2: a call's id contains the name of its function, which is not rendered otherwise."""

STRICT = """
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{{- message.role + ': ' + message.content + '\n' }}
{%- endfor %}
{%- if not add_generation_prompt %}{{ raise_exception('Generation prompt required') }}{% endif %}model: <think>
"""
"""Like Gemma: no system message, no tools, alternating roles; it also raises without a generation prompt."""

VARIABLES = (
    "{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>{{ reasoning_effort|default('') }}{% endif %}{% endif %}"
)

OPENS_REASONING = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{{ '' }}{% endif %}"
)
"""Like models that always reason: the generation prompt opens the reasoning, the history omits it."""

_OPTIONAL_SYSTEM = """
{%- set turns = messages %}
{%- if messages[0].role == 'system' %}{{ '[SYSTEM]' + messages[0].content + '\n' }}
{%- set turns = messages[1:] %}{% endif %}"""

ALTERNATING = (
    _OPTIONAL_SYSTEM
    + """
{%- for message in turns if message.role in ('user', 'assistant') %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{%- endfor %}
{%- for message in turns %}
{%- if message.role == 'user' %}{{ '[USER]' + message.content + '\n' }}
{%- elif message.role == 'assistant' %}{{ '[ASSISTANT]' + message.content + '\n' }}
{%- elif message.role != 'system' %}{{ raise_exception('Only user and assistant roles are supported') }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}[ASSISTANT]{% endif %}"""
)
"""A: like Mistral 7B: alternating roles after an optional system message, a later one is dropped; no tools."""

NO_SYSTEM = """
{%- for message in messages %}
{%- if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{{- '<start_of_turn>' + message.role + '\n' + (message.content | trim) + '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"""
"""N: like Gemma 2: no role system; calls are dropped and results anonymous."""

SYSTEM_FIRST = (
    """
{%- if tools %}<|im_start|>tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}
{%- for message in messages %}
{%- if message.role == 'system' and not loop.first %}{{ raise_exception('System message must be first') }}{% endif %}
{{- '<|im_start|>' + message.role + '\n' + message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}"""
    + TAIL
)
"""F: like Qwen3.5: a system message must be first; tools, calls and results are rendered."""

KNOWN_ROLES_AND_IDS = """
{%- for message in messages %}
{%- if message.role == 'tool' and not message.tool_call_id %}{{ raise_exception('A result needs an id') }}{% endif %}
{%- if message.role not in ('system', 'user', 'assistant', 'tool') %}{{ raise_exception('Unknown role') }}{% endif %}
{{- '[' + message.role | upper + ']' + message.content + '\n' }}
{%- for call in message.tool_calls or [] %}[CALL {{ call.id }}]{{ call.function | tojson }}\n{% endfor %}
{%- if message.role == 'tool' %}[OF {{ message.tool_call_id }}]\n{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}[ASSISTANT]{% endif %}"""
"""I: unknown roles and results without an id are rejected; calls are rendered, tools are not."""

ALTERNATING_WITH_CALLS = """
{%- for message in messages if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{%- endfor %}
{%- for message in messages %}
{{- '[' + message.role | upper + ']' + message.content }}
{%- for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}{{ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}[ASSISTANT]{% endif %}"""
"""Like Mistral 7B v0.3: calls and results are rendered, and do not count as turns."""
