"""Small chat templates of our own that differ in the ways that model families' templates do."""

from __future__ import annotations

TAIL = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

ITERATES = (
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
"""In the manner of Qwen3-Coder: arguments are walked as a mapping."""

CONCATENATES = (
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
"""In the manner of DeepSeek V3: arguments are joined to text, results name their function."""

JOINS = CONCATENATES.replace("+ call.function.arguments }}", "~ call.function.arguments }}")
"""The same with an operator that makes text of anything, a mapping too."""

RENDERS_ONE_CALL = """
{%- for message in messages %}
{{- '<|start|>' + message.role }}
{%- if message.tool_calls %}
{%- if message.content and message.thinking %}{{ raise_exception('content and thinking come with a call') }}{% endif %}
{{- '<|analysis|>' + (message.content or message.thinking or '') + '<|end|>' }}
{{- ' to=' + message.tool_calls[0].function.name + ' ' + message.tool_calls[0].function.arguments|tojson }}
{%- else %}{{ '<|message|>' + message.content }}
{%- endif %}
{{- '<|end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}"""
"""In the manner of gpt-oss: one call a message, reasoning is called thinking and excludes content."""

SHORT_IDS = """
{%- for message in messages %}
{%- for call in message.tool_calls or [] %}
{%- if call.id|length != 9 %}{{ raise_exception('Tool call IDs have length 9!') }}{% endif %}
{{- '[CALL ' + call.id + ']' + call.function.arguments|tojson }}
{%- endfor %}
{%- if message.role == 'tool' %}[RESULT {{ message.tool_call_id }}]{% endif %}
{{- message.content + '\n' }}
{%- endfor %}[/INST]"""
"""In the manner of Mistral: ids of nine characters, and the answer's header is always there."""

STRICT = """
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{{- message.role + ': ' + message.content + '\n' }}
{%- endfor %}
{%- if not add_generation_prompt %}{{ raise_exception('I only ask') }}{% endif %}model: <think>
"""
"""In the manner of Gemma: no system message, no tools, roles alternate; and it raises without a generation prompt."""

VARIABLES = (
    "{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>{{ reasoning_effort|default('') }}{% endif %}{% endif %}"
)

THINKS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{{ '' }}{% endif %}"
)
"""In the manner of models that always think: the header opens the reasoning, the history shows none."""
