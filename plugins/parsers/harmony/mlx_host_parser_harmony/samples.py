"""Outputs of gpt-oss, and the expected parts."""

import json
from typing import Any

from mlx_host.testing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE, Sample

CHANNEL, CONSTRAIN, MESSAGE = "<|channel|>", "<|constrain|>", "<|message|>"
PROMPT = "<|start|>assistant"


def message(channel: str, body: str, end: str = "<|end|>") -> str:
    """Write a message to the user."""
    return f"{CHANNEL}{channel}{MESSAGE}{body}{end}"


def called(call: tuple[str, dict[str, Any]], *, channel: str = "commentary", end: str = "<|call|>") -> str:
    """Write a call on the given channel."""
    name, arguments = call
    return f" to=functions.{name}{CHANNEL}{channel} json{MESSAGE}{json.dumps(arguments)}{end}"


COLD = message("analysis", "Cold?")

SAMPLES = (
    Sample("final", message("final", "It is cold.\n", end=""), "It is cold.\n", generation_prompt=PROMPT, tools=TOOLS),
    Sample(
        "analysis, then final",
        COLD + PROMPT + message("final", " It is cold.", end="<|return|>"),
        content=" It is cold.",
        reasoning="Cold?",
        generation_prompt=PROMPT,
    ),
    Sample("analysis truncated", message("analysis", "Cold? Let", end=""), reasoning="Cold? Let"),
    Sample("header truncated", f"{CHANNEL}ana", content="ana"),
    Sample("no header", "\nIt is <b>cold</b>.", content="\nIt is <b>cold</b>.", generation_prompt=PROMPT),
    Sample(
        "message opened by the prompt",
        "Cold?<|end|>",
        reasoning="Cold?",
        generation_prompt=PROMPT + message("analysis", "", end=""),
    ),
    Sample(
        "analysis, preamble, call",
        COLD + PROMPT + message("commentary", "I look.") + PROMPT + called(OSLO, end=""),
        content="I look.",
        reasoning="Cold?",
        calls=(OSLO,),
        generation_prompt=PROMPT,
        tools=TOOLS,
    ),
    Sample(
        "recipient after the channel",
        f"{CHANNEL}commentary to=functions.get_weather {CONSTRAIN}json{MESSAGE}{json.dumps(ROME[1])}<|call|>",
        calls=(ROME,),
        tools=TOOLS,
    ),
    Sample(
        "calls on analysis and final, one without the prefix",
        f"{called(OSLO, channel='analysis')}{PROMPT}{called(ROME, channel='final')}{PROMPT}"
        f" to=now{CHANNEL}commentary{MESSAGE}{{}}",
        calls=(OSLO, ROME, ("now", {})),
        tools=TOOLS,
    ),
    Sample("values of every type", called(LIGHT), calls=(LIGHT,), tools=TOOLS),
    Sample("text that looks like markup", called(WRITE), calls=(WRITE,), tools=TOOLS),
    Sample(
        "markers in a string",
        called(("f", {"a": "<|end|><|start|>assistant"})),
        calls=(("f", {"a": "<|end|><|start|>assistant"}),),
        tools=TOOLS,
    ),
    Sample(
        "empty body",
        f" to=functions.set-light{CHANNEL}commentary{MESSAGE}<|call|>{PROMPT}"
        f"{CHANNEL}commentary to=functions.now {CONSTRAIN}json{MESSAGE}",
        calls=(("set-light", {}), ("now", {})),
        tools=TOOLS,
    ),
    Sample(
        "arguments as a string",
        f" to=functions.get_weather{CHANNEL}commentary{MESSAGE}{json.dumps(json.dumps(OSLO[1]))}",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("truncated", called(ROME)[:75], content=called(ROME)[:75], tools=TOOLS),
    Sample(
        "malformed call next to a valid one",
        f" to=functions.f{CHANNEL}commentary{MESSAGE}{{oops}}<|end|>{PROMPT}{called(OSLO)}",
        content=f" to=functions.f{CHANNEL}commentary{MESSAGE}{{oops}}",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "another kind of recipient",
        f"{CHANNEL}analysis to=python code{MESSAGE}print(7)<|call|>",
        reasoning=f"{CHANNEL}analysis to=python code{MESSAGE}print(7)",
        tools=TOOLS,
    ),
    Sample(
        "JSON that is not a call",
        f'{CHANNEL}final {CONSTRAIN}json{MESSAGE}{{"name": "now"}}<|return|>',
        content='{"name": "now"}',
        tools=TOOLS,
    ),
    Sample(
        "a response format's name",
        f"{CHANNEL}final {CONSTRAIN}list{MESSAGE}[7]",
        content="[7]",
        reasoning="list",
    ),
    Sample(
        "end and start missing",
        COLD.removesuffix("<|end|>") + PROMPT + message("commentary", "Yes.", end="") + message("final", " No."),
        content="Yes. No.",
        reasoning="Cold?",
    ),
    Sample(
        "text between messages",
        f"{COLD} 364 {PROMPT}{PROMPT}{message('final', 'Yes.')}\n<|return|>\n",
        content=" 364 Yes.",
        reasoning="Cold?",
    ),
    Sample(
        "words in a header",
        f"{CHANNEL}commentary? Cold?<|end|>{PROMPT}{CHANNEL}{MESSAGE}Hm.<|end|>"
        f"{PROMPT}{CHANNEL}commentary to=assistant{CHANNEL}analysis{MESSAGE}It is.",
        content="? Cold?Hm.",
        reasoning="It is.",
    ),
    Sample(
        "markers mentioned in text",
        message("final", 'A `<|channel|>` ends with `<|end|>`, "so"'),
        content='A `<|channel|>` ends with `<|end|>`, "so"',
    ),
)
