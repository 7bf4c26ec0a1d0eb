"""Conversations with images are adapted to the chat template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlx_host.events import Explained
from mlx_host.requests import ExplainRequest
from mlx_host_parser_qwen3 import Qwen3Parser
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import chat_request, generate_one
from tests.plugins.vlm.conftest import load
from tests.support.media import image_part, image_url

# Like Gemma 3: no role system, alternating roles; contents are lists of parts.
TEMPLATE = """
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{{- '<' + message.role + '>' }}
{%- for part in message.content if message.content is not string %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' if part.type == 'image' else part.text }}
{%- endfor %}{{ '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}"""
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def model(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextModel]:
    file = tmp_path_factory.mktemp("template") / "template.jinja"
    file.write_text(TEMPLATE, encoding="utf-8")
    model = load(tiny_qwen, chat_template_file=file)
    yield model
    model.close()


def prompt(model: TextModel, messages: Sequence[Any], **fields: Any) -> str:
    """The rendered prompt; a completion has as many prompt tokens."""
    request = chat_request(messages, max_tokens=1, **fields)
    explain = ExplainRequest(id="e", model="m", prompt=request)
    (explained,) = [event for event in model.generate(explain) if isinstance(event, Explained)]
    assert generate_one(model, request).prompt_tokens == explained.prompt_tokens
    return explained.prompt


def test_messages_with_images_are_joined_in_order(model: TextModel) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "One:"}, image_part(image_url(1))]},
        {"role": "user", "content": [image_part(image_url(2)), {"type": "text", "text": "was two."}]},
        {"role": "assistant", "content": "Yes."},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [image_part(image_url(3))]},
    ]
    assert prompt(model, messages) == (
        f"<user>Be kind.\n\nOne:{IMAGE}\n\n{IMAGE}was two.\n<assistant>Yes.\n"
        f"<user><system_instruction>\nBe brief.\n</system_instruction>\n\n{IMAGE}\n<assistant>"
    )


def test_tools_calls_and_results_with_images_are_written(model: TextModel) -> None:
    function = {"name": "look", "arguments": '{"at": "sky"}'}
    messages = [
        {"role": "user", "content": "Look!"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "Seen:"}, image_part(image_url(1))]},
    ]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    text = prompt(model, messages, tools=tools, call_notation=Qwen3Parser)
    assert text.startswith("<user># Tools")
    assert "</tools>" in text
    call = '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>'
    assert text.endswith(
        f"Look!\n<assistant>{call}\n<user><tool_response>\nSeen:{IMAGE}\n</tool_response>\n<assistant>"
    )


def test_the_last_message_is_continued(model: TextModel) -> None:
    messages = [
        {"role": "user", "content": [image_part(image_url(1))]},
        {"role": "assistant", "content": [{"type": "text", "text": "It is a "}]},
    ]
    text = prompt(model, messages, continue_final_message=True)
    assert text == f"<user>{IMAGE}\n<assistant>It is a "
