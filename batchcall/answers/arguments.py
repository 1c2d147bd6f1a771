"""From a reply to checked arguments: which tool was called, what with, and why not where it is not valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from batchcall.answers.repair import (
    NotJson,
    has_duplicate_keys,
    match_tool,
    read_json,
    repair_arguments,
    without_copies,
)
from batchcall.base import Json, RawCall, Reply, Status, Tool, ToolCall, Usage
from batchcall.requests import sent_name
from batchcall.schemas import (
    CompiledTool,
    Effort,
    FieldType,
    Formats,
    SchemaError,
    StructOf,
    TooMuchWork,
    compile_tool,
    shortened,
)

_SHOWN_NAMES = 5
_SHOWN_TEXT = 200  # characters of the model's own words in an error
_CUT_OFF = "the answer was cut off by its token limit"


class ToolResult(msgspec.Struct, frozen=True):
    """What a reply came to."""

    status: Status
    error: str | None  # one sentence for a person, which the model is shown when it is asked again; None when ok
    tool: str | None  # the function called first, by its tool's name where there is such a tool
    arguments: Json  # of the first call, None unless they are valid
    calls: tuple[ToolCall, ...]  # all of them, each with its own error
    repairs: tuple[str, ...]  # what was repaired in any call, in order; not what was repaired to read the reply itself


# Finish reasons that decide, whatever else came, in the words of all vendors. In lower case, since relays change it.
# What is in no row decides nothing: "stop", "tool_calls", "end_turn", and what nobody has met yet.
_ENDINGS: Mapping[str, Status] = {
    # Cut off: "length" is OpenAI's word, "max_tokens" that of Anthropic and Gemini, the next two are from the Responses
    # API, "model_length" is Mistral's, the two behind it are Anthropic's. The source of "continuation" is not recorded.
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "incomplete", "model_length"), Status.TRUNCATED),
    **dict.fromkeys(("model_context_window_exceeded", "pause_turn", "continuation"), Status.TRUNCATED),
    # Filtered: "content_filter" is the word of OpenAI and Azure, "content_filtered" Bedrock's, "sensitive" Zhipu's. The
    # source of "escalation" is not recorded. The words of the next two rows are Gemini's, which names the filter.
    **dict.fromkeys(("content_filter", "content_filtered", "sensitive", "escalation"), Status.FILTERED),
    **dict.fromkeys(("safety", "recitation", "blocklist", "prohibited_content", "spii", "language"), Status.FILTERED),
    **dict.fromkeys(("image_safety", "image_prohibited_content", "image_recitation", "model_armor"), Status.FILTERED),
    "refusal": Status.REFUSED,  # Anthropic
    **dict.fromkeys(("malformed_function_call", "malformed_response"), Status.BAD_JSON),  # Gemini, with the next
    "unexpected_tool_call": Status.UNKNOWN_TOOL,
}


class Toolbox(msgspec.Struct, frozen=True):
    """The tools of a request, ready to read replies to it."""

    tools: Mapping[str, CompiledTool]  # by the name that strict endpoints know it by
    arguments_type: FieldType | None  # of the `arguments` column; None: JSON text
    rewrites: tuple[str, ...]  # "tool: path: what" of each change to a schema as it was written
    left_out: tuple[str, ...]  # those of them that leave something out of the check

    @classmethod
    def of(cls, tools: Sequence[Tool], *, formats: Formats = "lenient") -> Toolbox:
        """Compile tools. Raises SchemaError, which names the tool and the place in its schema."""
        compiled: dict[str, CompiledTool] = {}
        for tool in tools:
            called = sent_name(tool)
            if called in compiled:
                raise SchemaError("", "two tools have this name", tool=tool.name)
            compiled[called] = compile_tool(tool, formats=formats)
        # Several tools would share no columns, and a free object has none.
        only = next(iter(compiled.values())) if len(compiled) == 1 else None
        arguments_type = only.type if only is not None and isinstance(only.type, StructOf) else None
        return cls(
            compiled,
            arguments_type,
            tuple(f"{tool.name}: {rewrite}" for tool in compiled.values() for rewrite in tool.schema.rewrites),
            tuple(f"{tool.name}: {one}" for tool in compiled.values() for one in tool.schema.left_out),
        )

    def read(self, reply: Reply, *, repair: bool, coerce: bool, max_tokens: int | None) -> ToolResult:
        """What a reply came to. Never raises. `max_tokens` is the request's cap on the answer, None without one.

        The first call decides: its arguments fill the typed column, so its status is the row's. That a later call is
        wrong stands with that call.
        """
        # An answer that was cut off never passes for complete, even where it can be read: a server that constrains the
        # grammar closes the brackets of a list it did not finish.
        # Google's chat completions give Gemini's reason behind that of OpenAI: "content_filter: PROHIBITED_CONTENT",
        # "function_call_filter: MALFORMED_FUNCTION_CALL".
        reason = (reply.finish_reason or "").lower()
        ending = _ENDINGS.get(reason)
        if ending is None and ": " in reason:
            general, _, own = reason.partition(": ")
            ending = _ENDINGS.get(general) or _ENDINGS.get(own)
        if ending is not None or reply.refusal:
            return self._ended_early(reply, ending or Status.REFUSED)
        used = _tokens_used(reply.usage)
        is_full = max_tokens is not None and used is not None and used >= max_tokens

        if not reply.calls:
            if not self.tools and reply.content:  # the text is what was asked for
                return ToolResult(Status.OK, None, None, None, (), ())
            if is_full:
                return ToolResult(Status.TRUNCATED, _CUT_OFF, None, None, (), ())
            error = "the model neither called a function nor wrote any text"
            if reply.content:
                error = f"the model answered in text instead of calling a function: {_quoted(reply.content)}"
            return ToolResult(Status.NO_CALL, error, None, None, (), ())

        effort = Effort()  # of all calls together
        calls = reply.calls if len(reply.calls) == 1 else without_copies(reply.calls, effort)
        read = [self._read_call(call, repair=repair, coerce=coerce, is_full=is_full, effort=effort) for call in calls]
        first = read[0]
        if len(reply.calls) == 1:
            return first
        again = ("repeated_call",) if len(calls) < len(reply.calls) else ()
        repairs = tuple(dict.fromkeys((*again, *(step for one in read for step in one.repairs))))
        return replace(first, calls=_calls_of(read), repairs=repairs)

    # What one call comes to, in the order of the checks:
    #
    # 1. No tool has its name, in another spelling either: unknown_tool.
    # 2. The arguments are not JSON: bad_json. They are not an object, or do not pass the schema: invalid_arguments.
    #    Where the protocol has JSON in a string, an object is bad_json too: it passes only as a repair on record.
    # 3. The ladder of repairs is tried for whatever 2 refuses. What helps must pass the schema.
    # 4. An answer that used up its token limit is truncated where it cannot be read or says nothing: vLLM closes one
    #    that was cut behind the function's name as "{}", with finish_reason "tool_calls". It is never bad_json: asking
    #    the model again with "your JSON is wrong" would not help.
    def _read_call(self, call: RawCall, *, repair: bool, coerce: bool, is_full: bool, effort: Effort) -> ToolResult:
        """`is_full`: the answer used up its token limit, so what cannot be read was cut off."""
        # By its name as sent, or by its own: which of them went out depends on the endpoint.
        tool = self.tools.get(call.name) or next((one for one in self.tools.values() if one.name == call.name), None)
        steps: tuple[str, ...] = ()
        if tool is None and repair:
            meant = match_tool(call.name, {sent: one.name for sent, one in self.tools.items()})
            tool, steps = (self.tools[meant], ("tool_name",)) if meant is not None else (None, ())
        if tool is None:
            names = ", ".join([one.name for one in self.tools.values()][:_SHOWN_NAMES]) or "it has none"
            more = ", …" if len(self.tools) > _SHOWN_NAMES else ""
            unknown = f"{_quoted(call.name)} is not one of the tools of the request: {names}{more}"
            return _failed(call, Status.UNKNOWN_TOOL, unknown, call.name)

        try:
            value = read_json(call.arguments)
        except NotJson as reason:
            if is_full:
                return _failed(call, Status.TRUNCATED, _CUT_OFF, tool.name)
            status, error = Status.BAD_JSON, f"the arguments are not JSON: {reason}"
            if not call.arguments.strip():
                error = "the arguments are empty"
        else:
            if is_full and _says_nothing(value, tool):
                return _failed(call, Status.TRUNCATED, _CUT_OFF, tool.name)
            if not isinstance(value, dict):
                kind = _KINDS.get(type(value), "a number")
                status, error = Status.INVALID_ARGUMENTS, f"the arguments must be an object, not {kind}"
            elif (fault := _fault(value, tool, call, effort)) is not None:
                status, error = Status.INVALID_ARGUMENTS, fault
            elif not call.is_object:
                steps += ("duplicate_key",) if has_duplicate_keys(call.arguments, value, effort) else ()
                return _passed(call, tool.name, value, steps)
            else:
                status, error = Status.BAD_JSON, "the arguments came as an object, not as a string"

        repaired = repair_arguments(call, tool, repair=repair, coerce=coerce, effort=effort)
        if repaired is None:
            return _failed(call, status, error, tool.name)
        if is_full and _says_nothing(repaired.arguments, tool):
            return _failed(call, Status.TRUNCATED, _CUT_OFF, tool.name)
        return _passed(call, tool.name, repaired.arguments, steps + repaired.steps)

    def _ended_early(self, reply: Reply, status: Status) -> ToolResult:
        """The result of an answer that did not come to its end: its calls as far as they came, not repaired."""
        is_full, effort = status is Status.TRUNCATED, Effort()
        read = [
            self._read_call(call, repair=False, coerce=False, is_full=is_full, effort=effort) for call in reply.calls
        ]
        tool = read[0].tool if read else None
        if status is Status.REFUSED:
            error = f"the model refused: {_quoted(reply.refusal or reply.content or 'no reason given')}"
        else:
            reason = reply.finish_reason or ""
            error = f"{_REASON_WORDS.get(reason, _ENDING_WORDS[status])} (finish_reason {_quoted(reason)})"
        return ToolResult(status, error, tool, None, _calls_of(read), ())


def _tokens_used(usage: Usage) -> int | None:
    """The tokens of the whole answer: some (xAI) count those of its reasoning beside the others, not among them."""
    prompt, completion, reasoning = usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens
    if completion is None and prompt is not None and usage.total_tokens is not None:
        return usage.total_tokens - prompt
    if prompt is None or completion is None or reasoning is None:
        return completion
    return completion + reasoning if usage.total_tokens == prompt + completion + reasoning else completion


def _says_nothing(value: Json, tool: CompiledTool) -> bool:
    """Whether arguments hold no member although the tool takes some."""
    if value not in ({}, [], None) and not (isinstance(value, str) and value.strip() in ("", "{}", "null")):
        return False
    return any(part and name not in _WORDS_OF_NONE for name, part in tool.schema.document.items())


_WORDS_OF_NONE = frozenset({"$schema", "description", "strict", "title", "type"})  # in the schema of no arguments


def _fault(value: Json, tool: CompiledTool, call: RawCall, effort: Effort) -> str | None:
    """What is wrong with arguments. The verdict comes first: that a value fits costs no explanation."""
    try:
        if tool.schema.is_valid(value, effort=effort, length=len(call.arguments)):
            return None
        return tool.schema.explain(value, effort=effort)
    except TooMuchWork:
        return "the arguments could not be checked: with this schema that would take too long"


def _passed(call: RawCall, tool: str, arguments: Json, repairs: tuple[str, ...]) -> ToolResult:
    shown = ToolCall(call.id, call.name, call.arguments, None)
    return ToolResult(Status.OK, None, tool, arguments, (shown,), repairs)


def _failed(call: RawCall, status: Status, error: str, tool: str) -> ToolResult:
    shown = ToolCall(call.id, call.name, call.arguments, error)
    return ToolResult(status, error, tool, None, (shown,), ())


def _calls_of(read: list[ToolResult]) -> tuple[ToolCall, ...]:
    return tuple([call for one in read for call in one.calls])


_KINDS: Mapping[type, str] = {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}
_ENDING_WORDS: Mapping[Status, str] = {
    Status.TRUNCATED: _CUT_OFF,
    Status.FILTERED: "a content filter ended the answer",
    Status.BAD_JSON: "the model's call was malformed",
    Status.UNKNOWN_TOOL: "the model called a function that is not one of the tools of the request",
}
_REASON_WORDS: Mapping[str, str] = {  # where those of the status would mislead
    "pause_turn": "the endpoint paused the answer in the middle of it",
    "model_context_window_exceeded": "the answer was cut off by the model's context window",
}


def _quoted(text: str) -> str:
    return shortened(text[: _SHOWN_TEXT + 1], _SHOWN_TEXT)
