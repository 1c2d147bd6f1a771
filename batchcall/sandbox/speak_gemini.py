"""Google's generateContent and streamGenerateContent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from batchcall.sandbox.completion import (
    Asked,
    Body,
    Choice,
    Completion,
    Finish,
    Function,
    as_object,
    pieces,
)
from batchcall.sandbox.limits import Standing
from batchcall.sandbox.protocol import (
    JSON,
    Address,
    Answer,
    BadRequest,
    Kind,
    Protocol,
    Trouble,
    fields,
    mistyped_field,
    unknown_field,
)
from batchcall.sandbox.speak_chat import envelope

_FIELDS = fields(
    contents="array", systemInstruction="object", system_instruction="object", tools="array", toolConfig="object",
    tool_config="object", generationConfig="object", generation_config="object", safetySettings="array",
    safety_settings="array", cachedContent="string", cached_content="string", store="boolean", labels="object",
    serviceTier="string", service_tier="string", model="string",
)  # fmt: skip
_MODES = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
# What JSON Schema knows and Google's Schema does not, as of its discovery document.
_NO_SCHEMA_KEYS = (
    "$schema", "$ref", "$defs", "$id", "definitions", "oneOf", "allOf", "not", "const", "if", "then", "else",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems", "patternProperties", "examples",
)  # fmt: skip


def read(body: Any, address: Address) -> Asked:
    """The request, as strictly as Google reads it, in camelCase or snake_case as protobuf allows."""
    if not isinstance(body, dict):
        raise BadRequest("Invalid JSON payload received. Unexpected token.")
    _check_fields(body)
    contents = body.get("contents")
    if not contents:
        raise BadRequest("* GenerateContentRequest.contents: contents is not specified\n")
    _check_contents(contents)
    config = _of(body, "generationConfig") or {}
    thinking = _of(config, "thinkingConfig") or {}
    cap, count = _of(config, "maxOutputTokens"), _of(config, "candidateCount")
    _check_integer(cap, "generation_config.max_output_tokens")
    schema = _of(config, "responseJsonSchema")
    return Asked(
        model=address.model or "",
        text=_text_of(contents),
        functions=_functions(body),
        is_json=_of(config, "responseMimeType") == "application/json",
        schema=schema if schema is not None else as_json_schema(_of(config, "responseSchema")),
        count=count if isinstance(count, int) and 1 <= count <= 8 else 1,
        max_tokens=cap,
        is_thinking=bool(_of(thinking, "thinkingBudget") or _of(thinking, "thinkingLevel")),
        is_stream=address.is_stream,
        has_result=any(_of(part, "functionResponse") for part in contents[-1]["parts"]),
        body=body,
    )


def _of(message: Body, name: str) -> Any:
    """A field by its camelCase name, or as snake_case."""
    if name in message:
        return message[name]
    return message.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))


def _check_fields(body: Body) -> None:
    if (name := unknown_field(body, _FIELDS)) is not None:
        raise BadRequest(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
    if (name := mistyped_field(body, _FIELDS)) is not None:
        raise BadRequest(
            f"Invalid value at '{name}' (type: {_FIELDS[name].expected}), {orjson.dumps(body[name]).decode()}"
        )


def _check_integer(value: Any, where: str) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise BadRequest(f"Invalid value at '{where}' (TYPE_INT32), {orjson.dumps(value).decode()}")


def _check_contents(contents: list[Body]) -> None:
    calls = 0
    for place, content in enumerate(contents):
        if not isinstance(content, dict):
            raise BadRequest(f"Invalid value at 'contents[{place}]' (type.googleapis.com/Content)")
        if content.get("role", "user") not in ("user", "model", "function"):
            raise BadRequest("Please use a valid role: user, model.")
        parts = content.get("parts")
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise BadRequest(f"* GenerateContentRequest.contents[{place}].parts: contents.parts must not be empty.\n")
        if not parts or not all(parts):
            raise BadRequest(
                f"* GenerateContentRequest.contents[{place}].parts[0].data: required oneof field 'data' must have one "
                "initialized field\n"
            )
        results = sum(1 for part in parts if _of(part, "functionResponse"))
        if results != calls:
            raise BadRequest(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        calls = sum(1 for part in parts if _of(part, "functionCall"))


def _text_of(contents: list[Body]) -> str:
    """What the user said last in words, a function's response apart."""
    for content in reversed(contents):
        texts = [str(part["text"]) for part in content["parts"] if "text" in part]
        if content.get("role", "user") == "user" and texts:
            return "\n".join(texts)
    return ""


def _functions(body: Body) -> list[Function]:
    functions = []
    for place, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict):
            raise BadRequest(f"Invalid value at 'tools[{place}]' (type.googleapis.com/Tool)")
        if "function" in tool or "type" in tool:  # OpenAI's form
            name = "function" if "function" in tool else "type"
            raise BadRequest(
                f"Invalid JSON payload received. Unknown name \"{name}\" at 'tools[{place}]': Cannot find field."
            )
        for number, declared in enumerate(_of(tool, "functionDeclarations") or ()):
            functions.append(_function(declared, f"tools[{place}].function_declarations[{number}]"))
    return _allowed(functions, body)


def _function(declared: Any, where: str) -> Function:
    if not isinstance(declared, dict) or not isinstance(declared.get("name"), str):
        raise BadRequest(f"* GenerateContentRequest.{where}.name: [FIELD_INVALID] Invalid function name.\n")
    schema = _of(declared, "parametersJsonSchema")
    if schema is None:
        _check_schema(declared.get("parameters"), f"{where}.parameters")
        schema = as_json_schema(declared.get("parameters"))
    return Function(declared["name"], schema)


def _check_schema(schema: Any, where: str) -> None:
    """Google's Schema is a message, not JSON Schema: a keyword it has not refuses the whole request."""
    if not isinstance(schema, dict):
        return
    for name in _NO_SCHEMA_KEYS:
        if name in schema:
            raise BadRequest(f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field.")
    if isinstance(schema.get("type"), list):
        raise BadRequest(
            f"Invalid JSON payload received. Unknown name \"type\" at '{where}': Proto field is not repeating, cannot "
            "start list."
        )
    for place, value in enumerate(schema.get("enum") or ()):
        if not isinstance(value, str):
            raise BadRequest(f"Invalid value at '{where}.enum[{place}]' (TYPE_STRING), {orjson.dumps(value).decode()}")
    for number, (_, inner) in enumerate((schema.get("properties") or {}).items()):
        _check_schema(inner, f"{where}.properties[{number}].value")
    _check_schema(schema.get("items"), f"{where}.items")
    for number, inner in enumerate(_of(schema, "anyOf") or ()):
        _check_schema(inner, f"{where}.any_of[{number}]")


def as_json_schema(schema: Any) -> Any:
    """Google's Schema as JSON Schema: types in lower case, `nullable` a type of its own, counts that are texts read."""
    if not isinstance(schema, dict):
        return schema
    made = {key: _as_count(value) if key in _COUNTS else value for key, value in schema.items() if key != "nullable"}
    if isinstance(made.get("type"), str):
        made["type"] = made["type"].lower()
    if isinstance(made.get("properties"), dict):
        made["properties"] = {name: as_json_schema(inner) for name, inner in made["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in made:
            made[key] = as_json_schema(made[key])
    if (several := made.pop("any_of", made.get("anyOf"))) is not None:
        made["anyOf"] = [as_json_schema(inner) for inner in several]
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
    if made.get("format") == "enum":
        del made["format"]
    return made


_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")  # int64: JSON texts


def _as_count(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _allowed(functions: list[Function], body: Body) -> list[Function]:
    config = _of(_of(body, "toolConfig") or {}, "functionCallingConfig") or {}
    mode, names = config.get("mode", "AUTO"), _of(config, "allowedFunctionNames")
    if mode not in _MODES:
        raise BadRequest(
            "Invalid value at 'tool_config.function_calling_config.mode' (type.googleapis.com/google.ai."
            f'generativelanguage.v1beta.FunctionCallingConfig.Mode), "{mode}"'
        )
    if mode == "NONE":
        return []
    if not names:
        return functions
    if mode not in ("ANY", "VALIDATED"):
        raise BadRequest("Function calling config is set without function_declarations or mode ANY.")
    left = [function for function in functions if function.name in names]
    if len(left) < len(names):
        raise BadRequest("allowed_function_names should be a subset of the names of the function declarations.")
    return left


_FINISH = {
    Finish.STOP: "STOP",
    Finish.CALLS: "STOP",
    Finish.LENGTH: "MAX_TOKENS",
    Finish.REFUSAL: "SAFETY",  # Google's nearest: there is no refusal in words
}


def render(completion: Completion) -> Body:
    """The response. Thoughts are counted beside the candidates, and both in the total."""
    usage = completion.usage
    counts = {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.completion - usage.reasoning,
        "totalTokenCount": usage.total,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.prompt}],
    }
    if usage.cached:
        counts["cachedContentTokenCount"] = usage.cached
    if usage.reasoning:
        counts["thoughtsTokenCount"] = usage.reasoning
    return {
        "candidates": [_candidate(choice, place) for place, choice in enumerate(completion.choices)],
        "usageMetadata": counts,
        "modelVersion": completion.model,
        "responseId": completion.id,
    }


def _candidate(choice: Choice, place: int) -> Body:
    """What was cut off is not shown where it was a call, and of what is refused there is nothing to show."""
    parts: list[Body] = [{"text": choice.content}] if choice.content else []
    if choice.finish is not Finish.LENGTH:
        parts += [{"functionCall": {"name": call.name, "args": as_object(call.arguments)}} for call in choice.calls]
    shown = {"content": {"parts": parts, "role": "model"}} if parts else {}
    return {**shown, "finishReason": _FINISH[choice.finish], "index": place}


def _chunks(document: Body) -> list[Body]:
    """Text in pieces, calls whole; the reason and the usage come with the last of each candidate."""
    frame = {key: value for key, value in document.items() if key not in ("candidates", "usageMetadata")}
    chunks: list[Body] = []
    for candidate in document["candidates"]:
        parts = [piece for part in (candidate.get("content") or {}).get("parts") or () for piece in _pieces(part)]
        for part in parts:
            content = {"parts": [part], "role": "model"}
            chunks.append({"candidates": [{"content": content, "index": candidate["index"]}], **frame})
        ended = {"finishReason": candidate["finishReason"], "index": candidate["index"]}
        if parts:
            chunks[-1]["candidates"][0].update(ended)
        else:
            chunks.append({"candidates": [ended], **frame})
    if "usageMetadata" in document:
        chunks[-1]["usageMetadata"] = document["usageMetadata"]
    return chunks


def _pieces(part: Body) -> list[Body]:
    return [{"text": piece} for piece in pieces(part["text"])] if "text" in part else [part]


def stream(document: Body, completion: Completion) -> bytes:
    """With `alt=sse`: every chunk an event, and no last word."""
    return b"".join(b"data: %b\r\n\r\n" % orjson.dumps(chunk) for chunk in _chunks(document))


def _as_array(document: Body, completion: Completion) -> bytes:
    """Without `alt=sse`: one JSON array, an element at a time."""
    return b"[" + b"\n,\r\n".join(map(orjson.dumps, _chunks(document))) + b"\n]\n"


_REFUSALS: dict[Kind, tuple[int, str, str]] = {  # code, status, message
    Kind.RATE_LIMITED: (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in a moment."),
    Kind.QUOTA: (
        429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details.",
    ),
    Kind.BAD_KEY: (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    Kind.UNKNOWN_MODEL: (
        404, "NOT_FOUND", "models/no-such-model is not found for API version v1beta, or is not supported for "
        "generateContent. Call ListModels to see the list of available models and their supported methods.",
    ),
    Kind.OVERLOADED: (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    Kind.CONTEXT_LENGTH: (
        400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed "
        "(1048576).",
    ),
    Kind.REJECTED: (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    Kind.SERVER_ERROR: (
        500, "INTERNAL", "An internal error has occurred. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting",
    ),
}  # fmt: skip
_TYPE = "type.googleapis.com/google.rpc."
_BLOCKED = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "modelVersion": "sandbox"}


def refuse(trouble: Trouble) -> Answer:
    """The refusal in Google's words. A prompt that is blocked is an answer with status 200."""
    if trouble.kind is Kind.FILTERED:
        return Answer(200, orjson.dumps(_BLOCKED))
    code, status, message = _REFUSALS[trouble.kind]
    error: Body = {"code": code, "message": trouble.message or message, "status": status}
    if details := _details(trouble):
        error["details"] = details
    return Answer(code, orjson.dumps({"error": error}))


def _details(trouble: Trouble) -> list[Body]:
    if trouble.kind is Kind.BAD_KEY:
        reason = {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        return [{"@type": f"{_TYPE}ErrorInfo", **reason, "metadata": {"service": "generativelanguage.googleapis.com"}}]
    if trouble.kind not in (Kind.RATE_LIMITED, Kind.QUOTA):
        return []
    period = "PerDay" if trouble.kind is Kind.QUOTA else "PerMinute"
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": f"GenerateRequests{period}PerProjectPerModel-FreeTier",
        "quotaValue": "0" if trouble.kind is Kind.QUOTA else "15",
    }
    details: list[Body] = [{"@type": f"{_TYPE}QuotaFailure", "violations": [violation]}]
    if trouble.wait_s is not None:  # in the body only: Google sends no Retry-After
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{math.ceil(trouble.wait_s)}s"})
    return details


def _refuse_in_array(trouble: Trouble) -> Answer:
    answer = refuse(trouble)
    return replace(answer, body=b"[" + answer.body + b"\n]\n")


def _limit_headers(standings: Sequence[Standing], now_s: float) -> dict[str, str]:
    return {}  # Google sends none


GEMINI = Protocol(
    name="gemini",
    keys=("x-goog-api-key", "?key", "Authorization"),
    read=read,
    render=render,
    stream=stream,
    refuse=refuse,
    relayed=envelope,  # new-api answers Google's clients as it does OpenAI's
    limit_headers=_limit_headers,
    answers="candidates",
    usage="usageMetadata",
    nearest={
        "arguments_object": "double_encoded",  # `args` is an object already; a text instead is what goes wrong here
        "legacy_function_call": "",  # there is no older form
        "unprocessable": "context_length",  # 422 is unknown here; another 400 that is this request's own fault
        "overloaded_529": "overloaded",  # no such status here
        "loading_model": "overloaded",  # llama.cpp does not speak this
        "finish_stop": "",  # calls always come with STOP
    },
)
GEMINI_ARRAY = replace(
    GEMINI, name="gemini-array", stream=_as_array, stream_type=JSON["Content-Type"], refuse=_refuse_in_array
)
