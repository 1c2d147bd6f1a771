"""Asking again: the model's own answer and what was wrong with it, as turns of the conversation.

In the chat-completions form, which is the form of `Request.messages`; each dialect puts it into its own.
"""

from __future__ import annotations

import re

import orjson

from batchcall.base import Json, Reply, Request


def follow_up(request: Request, reply: Reply, problem: str, *, as_text: bool = False) -> Request:
    """The request again, with the model's answer and `problem` behind it: as the result of each of its calls, else as
    the user's next words. `as_text`: never as a call, where an endpoint wants more of one than we keep."""
    turn = [] if as_text or not reply.calls else _quoted_calls(reply, problem, position=len(request.messages))
    if not turn:
        calls = [f"{call.name}({call.arguments})" for call in reply.calls]
        said = "\n".join(filter(None, [reply.content or reply.refusal, *calls]))
        turn = [{"role": "assistant", "content": said}] if said else []
        turn.append({"role": "user", "content": f"{problem}\n{_CALL_AGAIN}"})
    return Request(request.shape, [*request.messages, *turn])


def _quoted_calls(reply: Reply, problem: str, *, position: int) -> list[Json]:
    """The model's calls and the answer of a tool to each; empty where a call cannot be quoted as one.

    Many servers parse the arguments that they are sent back, and fail on those that are not JSON.
    """
    for call in reply.calls:
        if not _TOOL_NAME.fullmatch(call.name):  # "functions.f" would be refused in a message
            return []
        try:
            if call.arguments.strip() and not isinstance(orjson.loads(call.arguments), dict):
                return []
        except ValueError:
            return []
    # A call's own id, or one made of its place where it has none or another call has the same: each result has to name
    # one call. The place and not a random id, since the same row must make the same request on every run.
    ids: list[str] = []
    for number, call in enumerate(reply.calls):
        ids.append(call.id if call.id and call.id not in ids else f"call_{position}_{number}")
    calls: list[Json] = [
        {"id": id_, "type": "function", "function": {"name": call.name, "arguments": call.arguments.strip() or "{}"}}
        for id_, call in zip(ids, reply.calls, strict=True)
    ]
    said: Json = {"role": "assistant", "content": reply.content, "tool_calls": calls}
    answers: list[Json] = [{"role": "tool", "tool_call_id": id_, "content": f"{problem}\n{_CALL_AGAIN}"} for id_ in ids]
    return [said, *answers]


_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CALL_AGAIN = "Call the function again, with arguments that satisfy its schema."
