from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlx_host.errors import InvalidRequestError, LoadError
from mlx_host.requests import ChatRequest, Json
from mlx_host_text.chat_template import ChatTemplate
from mlx_host_text.limits import TextLimits
from mlx_host_text.messages import TemplateFormat
from mlx_host_text.prompts import Prompt, TextPrompts
from mlx_host_text.tokenizer import Tokenizer
from transformers import AutoTokenizer

from tests.plugins.lm.driver import chat_request, generate_one, load, result
from tests.plugins.text import templates

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Returns the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def call(call_id: str, arguments: Any, name: str = "weather") -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def history(*calls: Json, **assistant: Any) -> list[Json]:
    return [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": list(calls), **assistant},
        *({"role": "tool", "tool_call_id": each["id"], "content": f"sun-{each['id']}"} for each in calls),
    ]


def render(
    tokenizer: Tokenizer, template: str | None, messages: Sequence[Json], tools: tuple[Json, ...] = (TOOL,)
) -> str:
    return tokenizer.decode(prompt_of(tokenizer, template, chat_request(messages, tools=tools)).tokens)


def prompt_of(tokenizer: Tokenizer, template: str | None, request: ChatRequest) -> Prompt:
    source = TextPrompts(tokenizer, ChatTemplate(tokenizer, template), len(tokenizer), TextLimits(1, None))
    return result(source.chat(request))


class TestTemplateFormat:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            (templates.ARGUMENTS_AS_MAPPING, TemplateFormat()),
            (templates.ARGUMENTS_AS_STRING, TemplateFormat(arguments="string")),
            (templates.ARGUMENTS_AS_ANY, TemplateFormat(arguments="string")),
            (
                templates.SINGLE_CALL,
                TemplateFormat(parallel_calls=False, content_with_reasoning=False),
            ),
            (templates.SHORT_IDS, TemplateFormat(long_ids=False)),
            (templates.NAMED_IDS, TemplateFormat(named_ids=True)),
            (templates.STRICT, TemplateFormat()),
            (None, TemplateFormat()),
        ],
    )
    def test_is_detected_by_rendering(
        self, tokenizer: Tokenizer, template: str | None, expected: TemplateFormat
    ) -> None:
        assert ChatTemplate(tokenizer, template).format == expected

    @pytest.mark.parametrize("key", ["thinking", "reasoning"])
    def test_uses_the_templates_name_for_reasoning(self, key: str) -> None:
        (message,) = TemplateFormat(reasoning_key=key).convert(  # type: ignore[arg-type]
            [{"role": "assistant", "content": "x", "reasoning_content": "because"}]
        )
        assert message == {"role": "assistant", "content": "x", key: "because"}


class TestToolHistory:
    @pytest.mark.parametrize("arguments", ['{"city": "Rome", "days": 2}', {"city": "Rome", "days": 2}])
    def test_arguments_become_a_mapping_if_the_template_expects_one(self, tokenizer: Tokenizer, arguments: Any) -> None:
        text = render(tokenizer, templates.ARGUMENTS_AS_MAPPING, history(call("c1", arguments)))
        assert "<function=weather><parameter=city>Rome</parameter><parameter=days>2</parameter>" in text

    @pytest.mark.parametrize("arguments", ['{"city": "Röm"}', {"city": "Röm"}])
    @pytest.mark.parametrize("template", [templates.ARGUMENTS_AS_STRING, templates.ARGUMENTS_AS_ANY])
    def test_arguments_become_a_string_if_the_template_expects_one(
        self, tokenizer: Tokenizer, arguments: Any, template: str
    ) -> None:
        assert '<call>weather\n{"city": "Röm"}' in render(tokenizer, template, history(call("c1", arguments)))

    @pytest.mark.parametrize(
        ("arguments", "rendered"),
        [
            ("", ""),
            (None, ""),
            ("{}", ""),
            ("[1]", "<parameter=arguments>[1]"),
            ("{oops", "<parameter=arguments>{oops"),
        ],
    )
    def test_arguments_that_are_not_an_object_are_rendered(
        self, tokenizer: Tokenizer, arguments: str | None, rendered: str
    ) -> None:
        text = render(tokenizer, templates.ARGUMENTS_AS_MAPPING, history(call("c1", arguments)))
        assert f"<function=weather>{rendered}" in text
        assert ("<parameter" in text) == bool(rendered)

    @pytest.mark.parametrize("arguments", ["", None])
    def test_missing_arguments_as_a_string_are_an_empty_object(
        self, tokenizer: Tokenizer, arguments: str | None
    ) -> None:
        assert "<call>weather\n{}" in render(tokenizer, templates.ARGUMENTS_AS_STRING, history(call("c1", arguments)))

    def test_results_get_the_name_of_their_function(self, tokenizer: Tokenizer) -> None:
        text = render(tokenizer, templates.ARGUMENTS_AS_STRING, history(call("a", "{}"), call("b", "{}", name="tides")))
        assert text.index("<result of=weather>sun-a") < text.index("<result of=tides>sun-b")

    def test_parallel_calls_are_split_for_templates_that_render_one(self, tokenizer: Tokenizer) -> None:
        messages = history(call("a", '{"n": 1}'), call("b", '{"n": 2}'), reasoning_content="hm")
        messages[2:] = reversed(messages[2:])
        text = render(tokenizer, templates.SINGLE_CALL, messages)
        pieces = ['to=weather {"n": 1}', "sun-a", 'to=weather {"n": 2}', "sun-b"]
        positions = [text.index(piece) for piece in pieces]
        assert positions == sorted(positions)
        assert text.count("hm") == 1

    def test_splitting_keeps_every_message(self) -> None:
        stray = {"role": "tool", "tool_call_id": "zzz", "content": "stray"}
        messages = [*history(call("a", "{}"), call("b", "{}")), stray, {"role": "user", "content": "next"}]
        split = TemplateFormat(parallel_calls=False).convert(messages)
        assert [message["content"] for message in split] == ["Weather?", "", "sun-a", "", "sun-b", "stray", "next"]

    def test_content_is_appended_to_reasoning_if_they_exclude_each_other(self, tokenizer: Tokenizer) -> None:
        text = render(tokenizer, templates.SINGLE_CALL, history(call("a", "{}"), content="I look.", reasoning="hm"))
        assert "<|analysis|>hm\n\nI look.<|end|>" in text

    def test_long_ids_are_shortened_consistently(self, tokenizer: Tokenizer) -> None:
        text = render(tokenizer, templates.SHORT_IDS, history(call("call_abcdefghijklmnop", '{"n": 1}')))
        (short,) = {text.split("[CALL ")[1][:9], text.split("[RESULT ")[1][:9]}
        assert short.isalnum()

    def test_ids_without_the_functions_name_are_replaced_if_the_template_renders_only_ids(
        self, tokenizer: Tokenizer
    ) -> None:
        kept = call("functions.weather:0", "{}")
        messages = [*history(kept), *history(call("toolu_1", "{}", name="tides"), call("call_2", "{}"))]
        messages.append({"role": "tool", "tool_call_id": "unknown", "content": "stray"})
        text = render(tokenizer, templates.NAMED_IDS, messages)
        for name, output in (
            ("functions.weather:0", "sun-functions.weather:0"),
            ("functions.tides:1", "sun-toolu_1"),
            ("functions.weather:2", "sun-call_2"),
        ):
            assert f"<|tool_call_begin|>{name}<|tool_call_argument_begin|>{{}}" in text
            assert f"## Return of {name}\n{output}" in text
        assert "## Return of unknown\nstray" in text

    def test_calls_without_ids_get_one_if_the_template_renders_only_ids(self, tokenizer: Tokenizer) -> None:
        anonymous = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
        text = render(tokenizer, templates.NAMED_IDS, [{"role": "assistant", "content": "", "tool_calls": [anonymous]}])
        assert "<|tool_call_begin|>functions.weather:0<" in text

    def test_short_ids_are_kept(self, tokenizer: Tokenizer) -> None:
        assert "[CALL abcdefgh1]" in render(tokenizer, templates.SHORT_IDS, history(call("abcdefgh1", "{}")))

    def test_the_request_is_not_modified(self, tokenizer: Tokenizer) -> None:
        messages = history(call("a", '{"n": 1}'), call("b", '{"n": 2}'), reasoning="hm")
        before = copy.deepcopy(messages)
        render(tokenizer, templates.SINGLE_CALL, messages)
        assert messages == before

    @pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
    def test_both_names_for_reasoning_are_accepted(self, tokenizer: Tokenizer, key: str) -> None:
        text = render(tokenizer, templates.ARGUMENTS_AS_MAPPING, history(call("a", "{}"), **{key: "because"}))
        assert "<think>because</think>" in text


class TestContent:
    def test_may_be_a_list_of_text_parts(self, tokenizer: Tokenizer) -> None:
        parts = [
            {"type": "text", "text": "One."},
            {"type": "input_text", "text": "Two."},
            {"type": "refusal", "refusal": "No."},
        ]
        assert "user\nOne.\nTwo.\nNo.<|im_end|>" in render(tokenizer, None, [{"role": "user", "content": parts}])

    @pytest.mark.parametrize(
        ("kind", "supported_by_vlm"), [("image_url", True), ("input_audio", True), ("file", False)]
    )
    def test_of_other_types_is_rejected_with_a_suggestion(
        self, tokenizer: Tokenizer, kind: str, supported_by_vlm: bool
    ) -> None:
        with pytest.raises(InvalidRequestError, match=rf"messages\[0\].content\[0\].*{kind!r}") as error:
            render(tokenizer, None, [{"role": "user", "content": [{"type": kind}]}])
        assert ("--backend vlm" in str(error.value)) is supported_by_vlm
        assert error.value.param == "messages"

    @pytest.mark.parametrize(
        "messages",
        [
            [],
            ["hello"],
            [{"content": "no role"}],
            [{"role": "user", "content": 7}],
            [{"role": "user", "content": [{"text": "no type"}]}],
            [{"role": "user", "content": [{"type": "text"}]}],
            [{"role": "user", "content": [None]}],
            [{"role": "assistant", "content": "x", "tool_calls": "y"}],
            [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}],
            [{"role": "assistant", "content": "x", "tool_calls": [None]}],
            [{"role": "assistant", "content": "x", "reasoning": 5}],
        ],
    )
    def test_of_invalid_messages_is_rejected(self, tokenizer: Tokenizer, messages: list[Any]) -> None:
        with pytest.raises(InvalidRequestError, match="messages") as error:
            render(tokenizer, None, messages)
        assert error.value.param == "messages"

    def test_that_renders_to_an_empty_prompt_is_rejected(self, tokenizer: Tokenizer) -> None:
        with pytest.raises(InvalidRequestError, match="empty prompt"):
            render(tokenizer, "{{ messages[0].content }}", [{"role": "user", "content": ""}])


class TestTemplate:
    def test_errors_contain_the_templates_message(self, tokenizer: Tokenizer) -> None:
        template = "{% if 'x' in messages[0].content %}{{ raise_exception('No x') }}{% endif %}{{ 1 }}"
        with pytest.raises(InvalidRequestError, match="No x") as error:
            render(tokenizer, template, [{"role": "user", "content": "x"}])
        assert error.value.param == "messages"

    @pytest.mark.parametrize(
        "expression", ["messages[9].content", "1 / 0", "messages + 'x'", "nothing.at.all", "'%d' % 'x'"]
    )
    def test_that_raises_for_messages_rejects_them(self, tokenizer: Tokenizer, expression: str) -> None:
        with pytest.raises(InvalidRequestError):
            render(tokenizer, "{{ " + expression + " }}", [{"role": "user", "content": "x"}])

    def test_gets_tools_or_none(self, tokenizer: Tokenizer) -> None:
        template = "{% if tools is not none %}{{ tools|tojson }}{% else %}none{% endif %}"
        assert '"name": "weather"' in render(tokenizer, template, [{"role": "user", "content": "x"}])
        assert render(tokenizer, template, [{"role": "user", "content": "x"}], tools=()) == "none"

    def test_file_replaces_the_models_template(self, tiny_llama: Path, tmp_path: Path) -> None:
        file = tmp_path / "chat.jinja"
        file.write_text(templates.VARIABLES, encoding="utf-8")
        model = load(tiny_llama, chat_template_file=file)
        assert model.chat_template == templates.VARIABLES
        assert "<|im_start|>" in (load(tiny_llama).chat_template or "")
        assert generate_one(model, chat_request()).started.generation_prompt == "<think>"  # type: ignore[union-attr]

    def test_missing_is_a_load_error(self, tiny_llama: Path, tmp_path: Path) -> None:
        for file in tiny_llama.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        config = (tmp_path / "tokenizer_config.json").read_text(encoding="utf-8")
        (tmp_path / "tokenizer_config.json").write_text(config.replace('"chat_template"', '"no_template"'))
        with pytest.raises(LoadError, match="--chat-template-file"):
            load(tmp_path)

    def test_with_a_syntax_error_is_a_load_error(self, tiny_llama: Path, tmp_path: Path) -> None:
        file = tmp_path / "broken.jinja"
        file.write_text("{% for %}", encoding="utf-8")
        with pytest.raises(LoadError, match="line 1"):
            load(tiny_llama, chat_template_file=file)

    def test_that_is_not_text_is_a_load_error(self, tiny_llama: Path, tmp_path: Path) -> None:
        file = tmp_path / "binary.jinja"
        file.write_bytes(b"\xff\xfe\xfa")
        with pytest.raises(LoadError, match=r"binary\.jinja"):
            load(tiny_llama, chat_template_file=file)


class TestVariables:
    @pytest.mark.parametrize(
        ("variables", "generation_prompt"),
        [({}, "<think>"), ({"enable_thinking": False}, "<think></think>"), ({"reasoning_effort": "low"}, "<think>low")],
    )
    def test_reach_the_template_and_the_generation_prompt(
        self, tokenizer: Tokenizer, variables: dict[str, Any], generation_prompt: str
    ) -> None:
        prompt = prompt_of(tokenizer, templates.VARIABLES, chat_request("Hi", template_kwargs=variables))
        assert prompt.generation_prompt == generation_prompt
        assert prompt.restore_points == (len(prompt.tokens) - len(tokenizer.encode(generation_prompt)),)

    @pytest.mark.parametrize("name", ["messages", "tools", "chat_template", "add_generation_prompt", "tokenize"])
    def test_cannot_override_request_fields(self, tokenizer: Tokenizer, name: str) -> None:
        with pytest.raises(InvalidRequestError, match=repr(name)) as error:
            prompt_of(tokenizer, None, chat_request("Hi", template_kwargs={name: "x"}))
        assert error.value.param == "chat_template_kwargs"


class TestGenerationPrompt:
    def test_is_what_follows_the_last_message(self, tokenizer: Tokenizer) -> None:
        prompt = prompt_of(tokenizer, None, chat_request("Hi"))
        assert prompt.generation_prompt == "<|im_start|>assistant\n"
        (end,) = prompt.restore_points
        assert tokenizer.decode(prompt.tokens[end:]) == prompt.generation_prompt

    def test_is_found_if_the_template_raises_without_it(self, tokenizer: Tokenizer) -> None:
        assert prompt_of(tokenizer, templates.STRICT, chat_request("Hi")).generation_prompt == "\nmodel: <think>"

    def test_is_found_if_the_template_always_appends_it(self, tokenizer: Tokenizer) -> None:
        assert (
            prompt_of(tokenizer, templates.SHORT_IDS, chat_request("Hi <think> there")).generation_prompt == "\n[/INST]"
        )

    def test_may_be_unknown(self, tokenizer: Tokenizer) -> None:
        prompt = prompt_of(tokenizer, "{{ messages[0].content|upper }}<think>", chat_request("Hi"))
        assert (prompt.generation_prompt, prompt.restore_points) == ("", ())


class TestContinuedMessage:
    MESSAGES = ({"role": "user", "content": "Count."}, {"role": "assistant", "content": "<|im_end|> One,"})

    def test_ends_the_prompt_and_is_the_generation_prompt(self, tokenizer: Tokenizer) -> None:
        request = chat_request(self.MESSAGES, continue_final_message=True)
        prompt = prompt_of(tokenizer, templates.SYSTEM_FIRST, request)
        text = tokenizer.decode(prompt.tokens)
        assert text == "<|im_start|>user\nCount.<|im_end|>\n<|im_start|>assistant\n<|im_end|> One,"
        assert prompt.generation_prompt == "<|im_start|>assistant\n<|im_end|> One,"

    def test_must_be_rendered(self, tokenizer: Tokenizer) -> None:
        request = chat_request(self.MESSAGES, continue_final_message=True)
        with pytest.raises(InvalidRequestError) as error:
            prompt_of(tokenizer, "{{ messages[0].content }}", request)
        assert error.value.param == "continue_final_message"


class TestToolsWithoutAParser:
    def test_are_not_described_but_calls_are_written(self, tokenizer: Tokenizer) -> None:
        text = render(tokenizer, templates.NO_SYSTEM, history(call("a", '{"city": "Rome"}')))
        assert "Returns the weather" not in text
        assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>' in text
        assert "<tool_response>\nsun-a\n</tool_response>" in text


class TestAdaptedConversations:
    def test_a_user_message_after_a_result_is_separated(self, tokenizer: Tokenizer) -> None:
        messages = [*history(call("a", "{}")), {"role": "user", "content": "Thanks!"}]
        text = render(tokenizer, templates.ALTERNATING_WITH_CALLS, messages)
        assert text.endswith("[TOOL]sun-a\n[ASSISTANT]\n[USER]Thanks!\n[ASSISTANT]")

    def test_a_late_system_message_does_not_separate_a_call_from_its_result(self, tokenizer: Tokenizer) -> None:
        messages = history(call("a", "{}"))
        messages.insert(2, {"role": "system", "content": "Be brief."})
        text = render(tokenizer, templates.SYSTEM_FIRST, messages)
        assert text.index("weather") < text.index("sun-a") < text.index("<system_instruction>\nBe brief.")

    def test_a_template_that_renders_everything_gets_the_conversation_as_it_is(self, tokenizer: Tokenizer) -> None:
        messages = [
            {"role": "system", "content": "One"},
            {"role": "system", "content": "Two"},
            {"role": "assistant", "content": "Three"},
            {"role": "user", "content": "Four"},
            {"role": "user", "content": "Five"},
            {"role": "system", "content": "Six"},
        ]
        adapted = ChatTemplate(tokenizer, templates.ARGUMENTS_AS_MAPPING).adapt(chat_request(messages))
        assert (adapted.messages, adapted.notes) == (messages, [])

    def test_reasoning_is_rendered_by_a_template_without_calls(self, tokenizer: Tokenizer) -> None:
        template = (
            "{% for message in messages %}"
            "{% if message.tool_calls or message.role == 'tool' %}{{ raise_exception('x') }}{% endif %}"
            "{{ message.content }}({{ message.thinking or '' }}){% endfor %}"
        )
        messages = [{"role": "assistant", "content": "Two.", "reasoning_content": "because"}]
        assert "Two.(because)" in render(tokenizer, template, messages, tools=())

    def test_tools_get_a_system_message_if_the_template_renders_them_there(self, tokenizer: Tokenizer) -> None:
        template = (
            "{% for message in messages %}[{{ message.role }}]{{ message.content }}"
            "{% if message.role == 'system' and tools %}{{ tools | tojson }}{% endif %}{% endfor %}"
        )
        text = render(tokenizer, template, [{"role": "user", "content": "Hi"}])
        assert text.startswith("[system][{")
        assert text.endswith("}][user]Hi")
        assert render(tokenizer, template, [{"role": "user", "content": "Hi"}], tools=()) == "[user]Hi"

    @pytest.mark.parametrize("error", [AssertionError, NotImplementedError])
    def test_a_template_in_python_may_reject_a_conversation(self, tiny_llama: Path, error: type[Exception]) -> None:
        def template(messages: Sequence[Json], **variables: Any) -> str:
            if any(message["role"] != "user" or message["content"] == "no" for message in messages):
                raise error("no")
            return "".join(message["content"] for message in messages)

        inner = AutoTokenizer.from_pretrained(tiny_llama)
        inner.chat_template = None
        tokenizer = Tokenizer(inner, template_function=template)
        messages = [{"role": "system", "content": "One"}, {"role": "user", "content": "Two"}]
        assert render(tokenizer, None, messages, tools=()) == "One\n\nTwo"
        with pytest.raises(InvalidRequestError) as raised:
            render(tokenizer, None, [{"role": "user", "content": "no"}], tools=())
        assert raised.value.param == "messages"
