"""Asking again: the model's own answer and what was wrong with it, as turns of the conversation.

In the chat-completions form, which is the form of `Request.messages`; each dialect puts it into its own.
"""

from __future__ import annotations

import re

import orjson

from batchcall.base import Json, RawCall, Reply, Request


def follow_up(request: Request, reply: Reply, problem: str, *, as_text: bool = False) -> Request:
    """The request again, with the model's answer and `problem` behind it: as the result of each of its calls, else as
    the user's next words. `as_text`: never as a call, where an endpoint wants more of one than we keep."""
    turn = [] if as_text else _quoted_calls(reply, problem, position=len(request.messages))
    turn = turn or _quoted_text(reply, problem)
    return Request(request.shape, [*request.messages, *turn])


def _quoted_calls(reply: Reply, problem: str, *, position: int) -> list[Json]:
    """The model's calls and the answer of a tool to each; empty where a call cannot be quoted as one.

    Many servers parse the arguments that they are sent back, and fail on those that are not JSON.
    """
    if not reply.calls or not all(_is_quotable(call) for call in reply.calls):
        return []
    ids: list[str] = []  # its own, or one made of its place where a call has none or another call has the same
    for number, call in enumerate(reply.calls):
        ids.append(call.id if call.id and call.id not in ids else f"call_{position}_{number}")
    calls: list[Json] = [
        {"id": id_, "type": "function", "function": {"name": call.name, "arguments": call.arguments.strip() or "{}"}}
        for id_, call in zip(ids, reply.calls, strict=True)
    ]
    said: Json = {"role": "assistant", "content": reply.content, "tool_calls": calls}
    answers: list[Json] = [{"role": "tool", "tool_call_id": id_, "content": f"{problem}\n{_CALL_AGAIN}"} for id_ in ids]
    return [said, *answers]


def _quoted_text(reply: Reply, problem: str) -> list[Json]:
    calls = [f"{call.name}({call.arguments})" for call in reply.calls]
    said = "\n".join(filter(None, [reply.content or reply.refusal, *calls]))
    quoted: list[Json] = [{"role": "assistant", "content": said}] if said else []
    return [*quoted, {"role": "user", "content": f"{problem}\n{_CALL_AGAIN}"}]


_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CALL_AGAIN = "Call the function again, with arguments that satisfy its schema."


def _is_quotable(call: RawCall) -> bool:
    if not _TOOL_NAME.fullmatch(call.name):  # "functions.f" would be refused in a message
        return False
    try:
        return not call.arguments.strip() or isinstance(orjson.loads(call.arguments), dict)
    except ValueError:
        return False
