"""Outputs of Kimi K3, and the expected parts."""

import json

from mlx_host.testing.samples import LIGHT, NOW, OSLO, ROME, TOOLS, Sample, standard_samples

from mlx_host_parser_kimi_k3 import KimiK3Parser
from mlx_host_parser_kimi_k3.notation import KimiK3Call, write_argument

[FORMAT] = KimiK3Parser.formats()
TOOLS_TAG, TOOLS_END = "<|open|>tools<|sep|>", "<|close|>tools<|sep|>"
THINK, THINK_END = "<|open|>think<|sep|>", "<|close|>think<|sep|>"
RESPONSE, RESPONSE_END = "<|open|>response<|sep|>", "<|close|>response<|sep|>"
MESSAGE_END = "<|close|>message<|sep|><|end_of_msg|>"
element = KimiK3Call().write_element
CALL_OSLO, CALL_ROME = KimiK3Call().write(*OSLO), KimiK3Call().write(*ROME, number=1)
MARKERS = ("f", {"a": f"\n <|close|>call<|sep|>{TOOLS_END}\n"})
ESCAPED = ("f&g", {'a &quot; "b"': "&amp;"})


def section(*calls: str) -> str:
    """Write a section of calls exactly as given."""
    return TOOLS_TAG + "".join(calls) + TOOLS_END


SAMPLES = (
    *standard_samples(KimiK3Parser, malformed=f"{TOOLS_TAG}{element('now', 'oops')}"),
    Sample(
        "reasoning opened by the prompt, then a response",
        f"Cold?{THINK_END}{RESPONSE}It is.{RESPONSE_END}{MESSAGE_END}",
        content="It is.",
        reasoning="Cold?",
        generation_prompt=THINK,
    ),
    Sample(
        "response opened by the prompt",
        f"It is.\n{RESPONSE_END}{MESSAGE_END}",
        content="It is.\n",
        generation_prompt=RESPONSE,
        tools=TOOLS,
    ),
    Sample("response opened twice", f"{RESPONSE}It is.", content="It is.", generation_prompt=RESPONSE),
    Sample(
        "reasoning that the response ends",
        f"Cold?{RESPONSE}It is.",
        content="It is.",
        reasoning="Cold?",
        generation_prompt=THINK,
    ),
    Sample(
        "response and parallel calls",
        f"Cold?{THINK_END}{RESPONSE}I look.{RESPONSE_END}{FORMAT.write([OSLO, ROME])}{MESSAGE_END}",
        content="I look.",
        reasoning="Cold?",
        calls=(OSLO, ROME),
        generation_prompt=THINK,
        tools=TOOLS,
    ),
    Sample(
        "a call where the prompt opened the response",
        FORMAT.write([LIGHT]),
        calls=(LIGHT,),
        generation_prompt=RESPONSE,
        tools=TOOLS,
    ),
    Sample("markers in a value", FORMAT.write([MARKERS]), calls=(MARKERS,), tools=TOOLS),
    Sample("escaped attributes", FORMAT.write([ESCAPED]), calls=(ESCAPED,), tools=TOOLS),
    Sample(
        "values typed by the schema, since the argument has no type or a wrong one",
        section(
            element(
                "set-light",
                write_argument("level", "", "7").replace(' type=""', "")
                + write_argument("on", "boolean", "True")
                + write_argument("scene", "object", "dusk"),
            )
        ),
        calls=(("set-light", {"level": 7, "on": True, "scene": "dusk"}),),
        tools=TOOLS,
    ),
    Sample(
        "arguments as JSON",
        section(element("get_weather", f'<|open|>json type="object"<|sep|>{json.dumps(ROME[1])}<|close|>json<|sep|>')),
        calls=(ROME,),
        tools=TOOLS,
    ),
    Sample("two calls without arguments", FORMAT.write([NOW, NOW]), calls=(NOW, NOW), tools=TOOLS),
    Sample(
        "whitespace between elements",
        f"{TOOLS_TAG}\n  {CALL_OSLO}\n  {CALL_ROME}\n{TOOLS_END}\n",
        calls=(OSLO, ROME),
        tools=TOOLS,
    ),
    Sample(
        "a whole message in reasoning that is never closed",
        f"Cold?{FORMAT.write([OSLO])}{MESSAGE_END}",
        reasoning="Cold?",
        calls=(OSLO,),
        generation_prompt=THINK,
        tools=TOOLS,
    ),
    Sample("section missing", f"I look.{CALL_OSLO}", content="I look.", calls=(OSLO,), tools=TOOLS),
    Sample("outer closer missing", TOOLS_TAG + CALL_OSLO, calls=(OSLO,), tools=TOOLS),
    Sample("truncated between arguments", section(CALL_ROME)[:170], content=section(CALL_ROME)[:170], tools=TOOLS),
)
