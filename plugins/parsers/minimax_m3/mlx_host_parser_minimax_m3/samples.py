"""Outputs of MiniMax-M3, and the expected parts."""

from mlx_host.testing.samples import OSLO, ROME, TOOLS, Sample, standard_samples

from mlx_host_parser_minimax_m3 import MiniMaxM3Parser
from mlx_host_parser_minimax_m3.notation import NS, MiniMaxM3Call

[FORMAT] = MiniMaxM3Parser.formats()
BLOCK, CALL_OSLO = FORMAT.write([OSLO]), MiniMaxM3Call().write(*OSLO)
CUT = FORMAT.write([OSLO, ROME])[:210]
elements = MiniMaxM3Call().write_elements
TAGS = ("write_file", {"text": f"\n{NS}<a>{NS}</invoke> \n"})
TYPES = ("f", {"a": "x", "b": 7, "c": [1, {"d": [True]}], "e": {"g": None}})
MAIL = {
    "type": "function",
    "function": {
        "name": "mail",
        "parameters": {
            "type": "object",
            "properties": {
                "to": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}},
                "cc": {"type": ["array", "null"], "items": {"type": "string"}},
                "item": {"type": "object", "properties": {"item": {"type": "string"}}},
            },
        },
    },
}


def block(*invokes: str) -> str:
    """Write a block of calls exactly as given."""
    return f"{NS}<tool_call>\n{''.join(invokes)}{NS}</tool_call>"


MIXED = block(f'{NS}<invoke name="f">{NS}<a>x{NS}<b>1{NS}</b>{NS}</a>{NS}</invoke>')

SAMPLES = (
    *standard_samples(MiniMaxM3Parser, malformed="<tool_call>now()</tool_call>"),
    Sample(
        "reasoning, then two calls in one block",
        f"<mm:think>\nCold?\n</mm:think>\n\n{FORMAT.write([OSLO, ROME])}[e~[",
        reasoning="Cold?",
        calls=(OSLO, ROME),
        tools=TOOLS,
    ),
    Sample(
        "a closer although the prompt closed the reasoning",
        "</mm:think>\nIt is cold.",
        content="It is cold.",
        generation_prompt="<mm:think></mm:think>",
    ),
    Sample("tags in a string", FORMAT.write([TAGS]), calls=(TAGS,), tools=TOOLS),
    Sample("types without a schema", FORMAT.write([TYPES]), calls=(TYPES,), tools=TOOLS),
    Sample(
        "arrays as several elements of one name, and of one",
        block(
            elements("mail", ("to", {"id": 1}), ("to", {"id": 2}), ("cc", "7")),
            elements("mail", ("to", {"id": 1}), ("cc", None)),
        ),
        calls=(
            ("mail", {"to": [{"id": 1}, {"id": 2}], "cc": ["7"]}),
            ("mail", {"to": [{"id": 1}], "cc": None}),
        ),
        tools=(MAIL,),
    ),
    Sample(
        "empty containers, JSON in an element, a member called item",
        block(
            elements("mail", ("to", []), ("item", {})),
            elements("mail", ("to", '[{"id": 1}]'), ("item", {"item": "7"})),
        ),
        calls=(("mail", {"to": [], "item": {}}), ("mail", {"to": [{"id": 1}], "item": {"item": "7"}})),
        tools=(MAIL,),
    ),
    Sample(
        "the first token and the newlines missing",
        BLOCK.removeprefix(NS).replace("\n", ""),
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("the block's tags missing", f"So: {CALL_OSLO}", content="So: ", calls=(OSLO,), tools=TOOLS),
    Sample(
        "truncated in the second call",
        CUT,
        content=CUT[len(f"{NS}<tool_call>\n{CALL_OSLO}") - 1 :],
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("text and elements mixed", MIXED, content=MIXED, tools=TOOLS),
)
