"""Outputs of Llama 3.1 to 4, and the expected parts."""

import json

from mlx_host.parsing import JsonCall
from mlx_host.testing.samples import NOW, OSLO, ROME, SCRIPT, TOOLS, Sample, standard_samples

from mlx_host_parser_llama3_json import Llama3JsonParser

LEADING, TAGGED = Llama3JsonParser.formats()
CALL_OSLO, CALL_ROME, CALL_NOW = (LEADING.write([call]) for call in (OSLO, ROME, NOW))
MARKERS = ("f", {"a": '}}; {"name": "<|python_tag|>'})

SAMPLES = (
    # A call without its tag is one only at the beginning.
    *standard_samples(Llama3JsonParser, leave_out={"text around calls", "malformed call before a valid one"}),
    Sample("call with its tag", f"{TAGGED.write([OSLO])}<|eom_id|>", calls=(OSLO,), tools=TOOLS),
    Sample(
        "calls after whitespace, with other keys and separators",
        f"\n\n{CALL_OSLO}; {JsonCall().write(*ROME)};{CALL_NOW}",
        calls=(OSLO, ROME, NOW),
        tools=TOOLS,
    ),
    Sample("calls on lines", f"{CALL_OSLO}\n{CALL_ROME}", calls=(OSLO, ROME), tools=TOOLS),
    Sample("braces and markers in a string", LEADING.write([MARKERS]), calls=(MARKERS,), tools=TOOLS),
    Sample(
        "type and order of keys, parameters as a string",
        f'{{"type": "function", "parameters": {json.dumps(json.dumps(OSLO[1]))}, "name": "get_weather"}}',
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample("text after a call", f"{CALL_OSLO}\nI look.", content="I look.", calls=(OSLO,), tools=TOOLS),
    Sample("text before a tagged call", f"So: {TAGGED.write([OSLO])}", "So: ", calls=(OSLO,), tools=TOOLS),
    Sample("JSON without parameters", '{"name": "now"}', content='{"name": "now"}', tools=TOOLS),
    Sample("JSON without a name", '{"parameters": {"a": 7}}\n', content='{"parameters": {"a": 7}}\n', tools=TOOLS),
    Sample("no JSON", SCRIPT.replace("if", "{"), content=SCRIPT.replace("if", "{"), tools=TOOLS),
    Sample("JSON in text", f"As in {CALL_OSLO}", content=f"As in {CALL_OSLO}", tools=TOOLS),
    Sample("JSON in a fence", f"```json\n{CALL_OSLO}\n```", content=f"```json\n{CALL_OSLO}\n```", tools=TOOLS),
    Sample(
        "code after the tag",
        '<|python_tag|>search.call(query="cold")',
        content='<|python_tag|>search.call(query="cold")',
        tools=TOOLS,
    ),
    Sample(
        "truncated in the second call",
        f"{CALL_OSLO}; {CALL_ROME[:30]}",
        content=f"; {CALL_ROME[:30]}",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "malformed call next to a valid one",
        f"<|python_tag|>{{oops}}{TAGGED.write([OSLO])}",
        content="<|python_tag|>{oops}",
        calls=(OSLO,),
        tools=TOOLS,
    ),
    Sample(
        "parameters that are not an object",
        '{"name": "now", "parameters": [1]}',
        content='{"name": "now", "parameters": [1]}',
        tools=TOOLS,
    ),
)
