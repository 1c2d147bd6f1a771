"""OpenAI's Responses protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from batchcall.sandbox.completion import CREATED, Asked, Body, Choice, Completion, Finish, Function, pieces
from batchcall.sandbox.protocol import (
    Address,
    Answer,
    BadRequest,
    Kind,
    Protocol,
    Trouble,
    as_event,
    fields,
    unknown_field,
)
from batchcall.sandbox.speak_chat import allowed, check_types, limit_headers, refuse, relayed

_FIELDS = fields(
    model="string", input="string|array", instructions="string", tools="array", tool_choice="string|object",
    temperature="number", top_p="number", max_output_tokens="integer", stream="boolean", stream_options="object",
    text="object", reasoning="object", parallel_tool_calls="boolean", store="boolean", metadata="object",
    previous_response_id="string", truncation="string", user="string", service_tier="string", include="array",
    background="boolean", conversation="string|object", max_tool_calls="integer", prompt="object",
    prompt_cache_key="string", prompt_cache_retention="string", prompt_cache_options="object",
    safety_identifier="string", top_logprobs="integer", context_management="any", moderation="any",
)  # fmt: skip
_NOT_THINKING = (None, "none", "minimal")
_LEAST_OUTPUT = 16  # OpenAI takes no smaller cap


def read(body: Any, address: Address) -> Asked:
    """The request, as strictly as OpenAI reads it."""
    if not isinstance(body, dict):
        raise BadRequest("We could not parse the JSON body of your request.")
    if (name := unknown_field(body, _FIELDS)) is not None:
        raise BadRequest(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    check_types(body, _FIELDS)
    model = body.get("model")
    if not model:
        raise BadRequest("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    cap = body.get("max_output_tokens")
    if cap is not None and cap < _LEAST_OUTPUT:
        raise BadRequest(
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {_LEAST_OUTPUT}, "
            f"but got {cap} instead.",
            "max_output_tokens",
            "integer_below_min_value",
        )
    items = _items(body)
    wanted = (body.get("text") or {}).get("format") or {}
    return Asked(
        model=model,
        text=_text_of(items),
        functions=_functions(body),
        is_json=wanted.get("type") in ("json_object", "json_schema"),
        schema=wanted.get("schema"),
        max_tokens=cap,
        is_thinking=(body.get("reasoning") or {}).get("effort") not in _NOT_THINKING,
        is_stream=bool(body.get("stream")),
        has_result=bool(items) and items[-1].get("type") == "function_call_output",
        body=body,
    )


def _items(body: Body) -> list[Body]:
    given = body.get("input")
    if not given and not body.get("previous_response_id") and not body.get("prompt") and not body.get("conversation"):
        raise BadRequest(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided.",
            "input",
            "missing_required_parameter",
        )
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    items = given or []
    for place, item in enumerate(items):
        if not isinstance(item, dict):
            raise BadRequest(
                f"Invalid type for 'input[{place}]': expected an object.", f"input[{place}]", "invalid_type"
            )
        if "role" not in item and "type" not in item:
            raise BadRequest(f"Missing required parameter: 'input[{place}].type'.", f"input[{place}]")
    if not body.get("previous_response_id") and not body.get("conversation"):  # the calls may be in those
        _check_results(items)
    return items


def _check_results(items: list[Body]) -> None:
    called = {item.get("call_id") for item in items if item.get("type") == "function_call"}
    answered = {item.get("call_id") for item in items if item.get("type") == "function_call_output"}
    for id_ in sorted(map(str, answered - called)):
        raise BadRequest(f"No tool call found for function call output with call_id {id_}.", "input")
    for id_ in sorted(map(str, called - answered)):
        raise BadRequest(f"No tool output found for function call {id_}.", "input")


def _text_of(items: list[Body]) -> str:
    for item in reversed(items):
        if item.get("role") == "user":
            content = item.get("content")
            if isinstance(content, list):
                return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
            return str(content or "")
    return ""


def _functions(body: Body) -> list[Function]:
    functions = []
    for place, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise BadRequest(f"Missing required parameter: 'tools[{place}].type'.", f"tools[{place}].type")
        if tool["type"] != "function":
            continue
        if not isinstance(tool.get("name"), str):  # the nested form of chat-completions ends here
            raise BadRequest(
                f"Missing required parameter: 'tools[{place}].name'.",
                f"tools[{place}].name",
                "missing_required_parameter",
            )
        functions.append(Function(tool["name"], tool.get("parameters")))
    choice = body.get("tool_choice")
    return [] if choice == "none" or not functions else allowed(functions, choice)


def render(completion: Completion) -> Body:
    """The whole response: it repeats what was asked."""
    body, choice, usage = completion.asked.body, completion.choices[0], completion.usage
    is_cut = choice.finish is Finish.LENGTH
    return {
        "id": f"resp_{completion.id}",
        "object": "response",
        "created_at": CREATED,
        "status": "incomplete" if is_cut else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": completion.model,
        "output": _output(completion, choice),
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [{"parameters": None, "strict": True, **tool} for tool in body.get("tools") or ()],
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.total,
        },
        "user": body.get("user") or "",
        "metadata": body.get("metadata") or {},
    }


def _output(completion: Completion, choice: Choice) -> list[Body]:
    status = "incomplete" if choice.finish is Finish.LENGTH else "completed"
    output: list[Body] = []
    if completion.thought:
        output.append({"id": f"rs_{completion.id}", "type": "reasoning", "summary": []})
    part: Body | None = None
    if choice.refusal:
        part = {"type": "refusal", "refusal": choice.refusal}
    elif choice.content:
        part = {"type": "output_text", "text": choice.content, "annotations": [], "logprobs": []}
    if part:
        message = {"id": f"msg_{completion.id}", "type": "message", "status": status, "role": "assistant"}
        output.append({**message, "content": [part]})
    for call in choice.calls:
        output.append(
            {
                "id": f"fc_{call.id}",
                "type": "function_call",
                "status": status,
                "arguments": call.arguments,
                "call_id": f"call_{call.id}",
                "name": call.name,
            }
        )
    return output


def stream(document: Body, completion: Completion) -> bytes:
    """The response as its events, numbered."""
    begun = {**document, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    ending = "incomplete" if document["status"] == "incomplete" else "completed"
    events: list[Body] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for place, item in enumerate(document["output"]):
        events += _item_events(item, place)
    events.append({"type": f"response.{ending}", "response": document})
    return b"".join(as_event({**event, "sequence_number": number}, named=True) for number, event in enumerate(events))


_EMPTY: Mapping[str, Body] = {"message": {"content": []}, "function_call": {"arguments": ""}}


def _item_events(item: Body, place: int) -> Iterator[Body]:
    empty = _EMPTY.get(item["type"], {})
    started = {**item, "status": "in_progress", **empty} if "status" in item else item
    yield {"type": "response.output_item.added", "output_index": place, "item": started}
    here = {"item_id": item["id"], "output_index": place}
    if item["type"] == "function_call":
        yield from _argument_events(item, here)
    for number, part in enumerate(item.get("content") or ()):
        yield from _part_events(part, {**here, "content_index": number})
    yield {"type": "response.output_item.done", "output_index": place, "item": item}


def _argument_events(item: Body, here: Body) -> Iterator[Body]:
    arguments = item["arguments"]
    for piece in pieces(arguments) if isinstance(arguments, str) else [arguments]:
        yield {"type": "response.function_call_arguments.delta", **here, "delta": piece}
    done = {**here, "name": item["name"], "arguments": arguments}
    yield {"type": "response.function_call_arguments.done", **done}


def _part_events(part: Body, here: Body) -> Iterator[Body]:
    is_refusal = part["type"] == "refusal"
    name, key = ("response.refusal", "refusal") if is_refusal else ("response.output_text", "text")
    extra: Body = {} if is_refusal else {"logprobs": []}
    yield {"type": "response.content_part.added", **here, "part": {**part, key: ""}}
    for piece in pieces(part[key]):
        yield {"type": f"{name}.delta", **here, "delta": piece, **extra}
    yield {"type": f"{name}.done", **here, key: part[key], **extra}
    yield {"type": "response.content_part.done", **here, "part": part}


def _refuse(trouble: Trouble) -> Answer:
    answer = refuse(trouble)
    return replace(answer, status=400) if trouble.kind is Kind.UNKNOWN_MODEL else answer  # chat-completions says 404


RESPONSES = Protocol(
    name="openai-responses",
    keys=("Authorization", "api-key"),  # Azure's is the second
    read=read,
    render=render,
    stream=stream,
    refuse=_refuse,
    relayed=relayed,
    limit_headers=limit_headers,
    answers="output",
    usage="usage",
    nearest={
        "legacy_function_call": "",  # this protocol is younger than tools
        "finish_stop": "",  # "completed" says no more
    },
)
