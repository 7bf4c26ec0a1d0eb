"""The rules of Open Responses for objects and events, as data, and a checker.

Source: its OpenAPI document 2026-04-24. Where it contradicts OpenAI's API, OpenAI's form is accepted: the schema in
`text.format`, the events `response.reasoning_text.*`, and more types of tools and items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# A field is its types, the allowed values of a string, or the name of the rules for each element of a list.
NULL = type(None)
NUMBER = (int, float)
STATUS = {"in_progress", "completed", "incomplete"}
RESPONSE: dict[str, Any] = {
    "id": str,
    "object": {"response"},
    "created_at": int,
    "completed_at": (int, NULL),
    "status": {"queued", "in_progress", "completed", "failed", "incomplete", "cancelled"},
    "incomplete_details": (dict, NULL),
    "model": str,
    "previous_response_id": (str, NULL),
    "instructions": (str, NULL),
    "output": list,
    "error": (dict, NULL),
    "tools": list,
    "tool_choice": (str, dict),
    "truncation": {"auto", "disabled"},
    "parallel_tool_calls": bool,
    "text": dict,
    "top_p": NUMBER,
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "top_logprobs": int,
    "temperature": NUMBER,
    "reasoning": (dict, NULL),
    "usage": (dict, NULL),
    "max_output_tokens": (int, NULL),
    "max_tool_calls": (int, NULL),
    "store": bool,
    "background": bool,
    "service_tier": str,
    "metadata": dict,
    "safety_identifier": (str, NULL),
    "prompt_cache_key": (str, NULL),
}
USAGE: dict[str, Any] = {
    "input_tokens": int,
    "output_tokens": int,
    "total_tokens": int,
    "input_tokens_details": dict,
    "output_tokens_details": dict,
}
FORMATS: dict[str, dict[str, Any]] = {
    "text": {},
    "json_object": {},
    "json_schema": {"name": str, "description": (str, NULL), "schema": dict, "strict": bool},
}
FUNCTION: dict[str, Any] = {
    "name": str,
    "description": (str, NULL),
    "parameters": (dict, NULL),
    "strict": (bool, NULL),
}
PARTS: dict[str, dict[str, Any]] = {
    "input_text": {"text": str},
    "output_text": {"text": str, "annotations": list},
    "summary_text": {"text": str},
    "reasoning_text": {"text": str},
    "refusal": {"refusal": str},
    "input_image": {"image_url": (str, NULL)},
    "input_file": {},
}
ITEMS: dict[str, dict[str, Any]] = {
    "message": {"id": str, "status": STATUS, "role": {"user", "assistant", "system", "developer"}, "content": list},
    "function_call": {"id": str, "call_id": str, "name": str, "arguments": str, "status": STATUS},
    "function_call_output": {"id": str, "call_id": str, "output": (str, list), "status": STATUS},
    "reasoning": {"id": str, "summary": list},
    "compaction": {"id": str, "encrypted_content": str},
    "custom_tool_call": {"id": str, "call_id": str, "name": str, "input": str},
    "tool_search_call": {"id": str, "call_id": str, "arguments": dict, "status": STATUS},
}
COMPACTION: dict[str, Any] = {
    "id": str,
    "object": {"response.compaction"},
    "created_at": int,
    "output": list,
    "usage": dict,
}
ERROR: dict[str, Any] = {"message": str, "type": str, "param": (str, NULL), "code": (str, NULL)}
PLACE: dict[str, Any] = {"item_id": str, "output_index": int}
TEXT_PLACE: dict[str, Any] = {**PLACE, "content_index": int}
LIFE = ("created", "queued", "in_progress", "completed", "failed", "incomplete")
EVENTS: dict[str, dict[str, Any]] = {
    **{f"response.{name}": {"response": dict} for name in LIFE},
    **{f"response.output_item.{name}": {"output_index": int, "item": dict} for name in ("added", "done")},
    **{f"response.content_part.{name}": {**TEXT_PLACE, "part": dict} for name in ("added", "done")},
    **{f"response.{name}.delta": {**TEXT_PLACE, "delta": str} for name in ("output_text", "reasoning_text")},
    **{f"response.{name}.done": {**TEXT_PLACE, "text": str} for name in ("output_text", "reasoning_text")},
    "response.function_call_arguments.delta": {**PLACE, "delta": str},
    "response.function_call_arguments.done": {**PLACE, "arguments": str},
    "response.custom_tool_call_input.delta": {**PLACE, "delta": str},
    "response.custom_tool_call_input.done": {**PLACE, "input": str},
}
ENDS = ("response.completed", "response.failed", "response.incomplete")


def check_fields(value: Any, rules: Mapping[str, Any], where: str) -> None:
    """Every field is present, and has an allowed type or value."""
    assert isinstance(value, dict), (where, value)
    for name, rule in rules.items():
        assert name in value, f"{where}.{name} is missing"
        given = value[name]
        if isinstance(rule, set):
            assert given in rule, (f"{where}.{name}", given)
            continue
        types = rule if isinstance(rule, tuple) else (rule,)
        assert isinstance(given, types), (f"{where}.{name}", given)
        assert bool in types or not isinstance(given, bool), (f"{where}.{name}", given)


def check_part(part: Any, where: str) -> None:
    assert part["type"] in PARTS, (where, part)
    check_fields(part, PARTS[part["type"]], f"{where} ({part['type']})")


def check_item(item: Any, where: str) -> None:
    kind = item["type"]
    assert kind in ITEMS, (where, item)
    check_fields(item, ITEMS[kind], f"{where} ({kind})")
    assert "phase" not in item or item["phase"] in ("commentary", "final_answer")
    for name in ("content", "summary"):
        for part in item.get(name) or ():
            check_part(part, f"{where}.{name}[]")


def check_response(response: Any, where: str = "response") -> None:
    check_fields(response, RESPONSE, where)
    if response["usage"] is not None:
        check_fields(response["usage"], USAGE, f"{where}.usage")
        check_fields(response["usage"]["input_tokens_details"], {"cached_tokens": int}, f"{where}.usage")
        check_fields(response["usage"]["output_tokens_details"], {"reasoning_tokens": int}, f"{where}.usage")
    if response["error"] is not None:
        check_fields(response["error"], {"code": str, "message": str}, f"{where}.error")
    if response["incomplete_details"] is not None:
        check_fields(response["incomplete_details"], {"reason": str}, f"{where}.incomplete_details")
    check_fields(response["text"]["format"], FORMATS[response["text"]["format"]["type"]], f"{where}.text.format")
    for tool in response["tools"]:
        if tool["type"] == "function":
            check_fields(tool, FUNCTION, f"{where}.tools[]")
    for item in response["output"]:
        check_item(item, f"{where}.output[]")
    assert (response["completed_at"] is not None) == (response["status"] == "completed"), where


def check_events(events: Sequence[Mapping[str, Any]]) -> None:
    """The fields of all events, their order and numbering, and that the deltas add up to the whole."""
    opened: dict[int, str] = {}
    texts: dict[tuple[str, int], str] = {}
    for number, event in enumerate(events):
        kind = event["type"]
        assert kind in EVENTS, kind
        check_fields(event, {"sequence_number": int, **EVENTS[kind]}, kind)
        assert event["sequence_number"] == number
        if "response" in event:
            check_response(event["response"], kind)
        if kind.startswith("response.output_item."):
            check_item(event["item"], kind)
            if kind.endswith("added"):
                assert event["output_index"] not in opened
                opened[event["output_index"]] = event["item"]["id"]
            assert opened[event["output_index"]] == event["item"]["id"]
        if "part" in event:
            check_part(event["part"], kind)
        place = (event.get("item_id", ""), event.get("content_index", -1))
        if kind.endswith(".delta"):
            texts[place] = texts.get(place, "") + event["delta"]
        for name in ("text", "arguments", "input"):
            if kind.endswith(".done") and name in event:
                assert texts.get(place, "") == event[name], event
    assert events[0]["type"] == "response.created"
    assert events[-1]["type"] in ENDS
