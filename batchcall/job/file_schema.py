"""What a job file may say: its JSON Schema, for checking and for editors."""

from __future__ import annotations

from typing import Any

PROTOCOLS = ("openai-chat", "openai-responses", "anthropic", "gemini")
FORMATS = ("lenient", "strict", "off")  # how the formats of a tool's schema are checked; "off": not at all
_DURATION = r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d)\s*)+$"
_SHARE = r"^\s*(100(\.0+)?|\d{1,2}(\.\d+)?)\s*%\s*$"
_URL = r"^(sandbox|https?://[^/\s].*)$"
_AUTH = r"^(bearer|api-key|x-api-key|x-goog-api-key|none|header:[A-Za-z0-9!#$%&'*+.^_`|~-]+)$"


def _object(description: str, properties: dict[str, Any], *, required: tuple[str, ...] = ()) -> dict[str, Any]:
    section: dict[str, Any] = {
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": False,
    }
    return {**section, "required": list(required)} if required else section


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _number(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "number", "description": description, **more}


def _whole(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "description": description, **more}


def _flag(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


def _path(description: str) -> dict[str, Any]:
    return _text(description, minLength=1, pattern=r"^[^\u0000]*$")


def _either(description: str, kind: str, then: dict[str, Any], otherwise: dict[str, Any]) -> dict[str, Any]:
    """One thing for values of a JSON type, another for the rest. Not `anyOf`: its errors list what would be right in
    every branch, but not which one was meant."""
    return {"description": description, "if": {"type": kind}, "then": then, "else": otherwise}


def _template(description: str, *, otherwise: tuple[str, ...] = ("string",)) -> dict[str, Any]:
    file = _object("a file to read it from", {"file": _path("a path from the job file's folder")}, required=("file",))
    return _either(description, "object", file, {"type": list(otherwise)})


def _duration(description: str, **of_number: Any) -> dict[str, Any]:
    return _either(description, "string", {"pattern": _DURATION}, {"type": "number", "maximum": 86_400, **of_number})


_PACE = {
    "requests_per_minute": _number("of each account; 0 or left out: found while running", minimum=0),
    "tokens_per_minute": _number("of each account; 0 or left out: found while running", minimum=0),
    "concurrency": _either(
        'the most requests in flight, or "auto"',
        "string",
        {"const": "auto"},
        {"type": "integer", "minimum": 1, "maximum": 10_000},
    ),
}

_ENDPOINT = _object(
    "where the model is",
    {
        "url": _text('an http or https URL up to "/v1", or "sandbox" for the embedded endpoint', pattern=_URL),
        "protocol": _text("the protocol that it speaks", enum=list(PROTOCOLS)),
        "api_key": _either(
            '"env:NAME" or "file:PATH", never the key itself; a list of them shares the requests, each at its own pace',
            "array",
            {"items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
            {"type": "string"},
        ),
        "model": _text("the model's name at this endpoint, if it is not request.model", minLength=1),
        **_PACE,
        "auth": _text("bearer, api-key, x-api-key, x-goog-api-key, none or header:NAME", pattern=_AUTH),
        "headers": {
            "type": "object",
            "description": "more HTTP headers, each a name and a string",
            "additionalProperties": {"type": "string"},
        },
        "ca_file": _path("a PEM file with your own certificate authority"),
        "trust_env": _flag("use the proxy that the environment variables name"),
        "allow_http_key": _flag("send the key over plain http to another host, such as a gateway in a cluster"),
    },
    required=("url",),
)

_TOOL = _object(
    "a function the model may call",
    {
        "file": _path("an OpenAI tool object as JSON, or a list of them"),
        "python": _text('"module:PydanticModel"', pattern=r"^[\w.]+:\w+$"),
        "name": _text("letters, digits, _ and -, at most 64"),
        "description": _text("what the function is for"),
        "parameters": {"type": "object", "description": "JSON Schema of the arguments, or { file = … }"},
        "strict": _flag("let the endpoint enforce the schema"),
    },
)

_MESSAGE = {
    "type": "object",
    "description": "a role and a content; both may be templates",
    "properties": {
        "role": _text("system, user, assistant, tool …"),
        "content": _template("a string, { file = … } or a list of parts", otherwise=("string", "array")),
    },
    "required": ["role"],
}

# A description completes a message, "it must be …" or "is missing (…)": so each says what is right, in lower case.
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "batchcall job",
    **_object(
        "a batchcall job file",
        {
            "input": _object(
                "the rows",
                {
                    "path": _path("file, directory, glob or URI; .parquet .jsonl .jsonl.gz .jsonl.zst"),
                    "id": _text(
                        "the column that identifies a row; its values are unique; a row without one is a bad_row"
                    ),
                },
                required=("path",),
            ),
            "endpoint": _either("where the model is", "array", {"items": _ENDPOINT, "minItems": 1}, _ENDPOINT),
            "request": {
                "type": "object",
                "description": "what to ask; other keys go into the request body as written",
                "properties": {
                    "model": _text("the model's name", minLength=1),
                    "system": _template("a system message, Jinja over the row's columns"),
                    "prompt": _template("a user message, Jinja over the row's columns"),
                    "messages": {
                        "type": "array",
                        "description": "messages with templates, instead of prompt",
                        "items": _MESSAGE,
                        "minItems": 1,
                    },
                    "columns": _object(
                        "parts of the request that come from columns of the row",
                        {name: _text("the name of a column") for name in ("messages", "tools", "tool_choice")},
                    ),
                    "tool_choice": {
                        "type": ["string", "object"],
                        "description": "auto, required, none, or a tool's name",
                    },
                },
            },
            "tool": {"type": "array", "description": "the functions that the model may call", "items": _TOOL},
            "limits": _object(
                "limits of speed, attempts, cost and failures",
                {
                    **_PACE,
                    "timeout": _duration(
                        'the time allowed for one attempt, such as "60s", or a number of seconds', exclusiveMinimum=0
                    ),
                    "attempts": _whole("the most requests for one row", minimum=1, maximum=100),
                    "max_cost": _number("the most that the whole output may cost, in USD", exclusiveMinimum=0),
                    "max_tokens_total": _whole("the most tokens for the whole output", minimum=1),
                    "max_failed": _either(
                        'how many rows may fail: a number or a share like "2%", up to "100%"',
                        "string",
                        {"pattern": _SHARE},
                        {"type": "integer", "minimum": 0},
                    ),
                },
            ),
            "validate": _object(
                "how answers are read and checked",
                {
                    "repair": _flag("repair arguments; every repair is recorded"),
                    "coerce": _flag('convert values where nothing is lost, such as "5" to 5'),
                    "reask": _whole("how often to ask again with the validator's message", minimum=0, maximum=5),
                    "formats": _text("lenient: what the usual libraries accept; strict: the RFCs", enum=list(FORMATS)),
                },
            ),
            "output": _object(
                "where results go",
                {
                    "path": _path("a folder on this machine"),
                    "keep": {
                        "type": "array",
                        "description": "columns of the input to carry over; default: all",
                        "items": {"type": "string"},
                        "uniqueItems": True,
                    },
                    "response": _flag("keep raw answers, for revalidate"),
                    "part_rows": _whole("the rows of one part", minimum=1, maximum=10_000_000),
                    "allow_network": _flag("write to a network file system, although its locks and syncs may fail"),
                    "mode": {
                        "type": "string",
                        "description": "the permissions of the parts as in chmod, such as 0640; default: by the umask",
                        "pattern": "^0?[46][0-7]{2}$",
                    },
                },
                required=("path",),
            ),
            "prices": {
                "type": "object",
                "description": '[prices."model"], USD per million tokens',
                "additionalProperties": _object(
                    "USD per million tokens",
                    {name: _number("USD per million tokens", minimum=0) for name in ("prompt", "completion", "cached")},
                    required=("prompt", "completion"),
                ),
            },
            "sandbox": _object(
                "how the embedded endpoint behaves",
                {
                    "latency": _duration(
                        'the median time to answer, such as "200ms", or a number of seconds', minimum=0
                    ),
                    "requests_per_minute": _whole("answers 429 above this", minimum=1),
                    "tokens_per_minute": _whole("answers 429 above this", minimum=1),
                    "faults": {
                        "type": "object",
                        "description": "the share of answers, 0 to 1, for each name of a fault",
                        "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
                    },
                    "seed": _whole("another number gives other answers"),
                },
            ),
        },
        required=("input", "endpoint", "output"),
    ),
}


_KINDS: dict[str, type] = {"array": list, "object": dict, "string": str}


def branch_for(value: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """What a schema says of values of this one's type."""
    if "if" not in schema:
        return schema
    branch: dict[str, Any] = schema["then" if isinstance(value, _KINDS[schema["if"]["type"]]) else "else"]
    return branch


def for_editors(schema: Any) -> Any:
    """The same schema with `anyOf` for our if, then and else: editors complete keys from it, and not from those."""
    if isinstance(schema, list):
        return [for_editors(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if "if" not in schema:
        return {name: for_editors(inner) for name, inner in schema.items()}
    branches = [{**schema["if"], **schema["then"]}, schema["else"]]
    return {"description": schema["description"], "anyOf": for_editors(branches)}


# Documented keys of a body in any of the protocols. A job may use others too: the list is for finding typos.
BODY_KEYS = frozenset(
    {
        *("audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs"),
        *("max_completion_tokens", "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n"),
        *("parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options"),
        *("prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed"),
        *("service_tier", "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "tools"),
        *("top_logprobs", "top_p", "user", "verbosity", "web_search_options"),
        # openai-responses
        *("background", "context_management", "conversation", "include", "input", "instructions"),
        *("max_output_tokens", "max_tool_calls", "previous_response_id", "reasoning", "text", "truncation"),
        # anthropic
        *("cache_control", "container", "mcp_servers", "output_config", "stop_sequences", "thinking", "top_k"),
        # gemini
        *("cachedContent", "cached_content", "contents", "generationConfig", "generation_config", "labels"),
        *("safetySettings", "safety_settings", "serviceTier", "systemInstruction", "system_instruction"),
        *("toolConfig", "tool_config"),
    }
)
# Of relays and local servers, those that are near to one of the above.
KEYS_OF_SERVERS = frozenset(
    {"max_new_tokens", "min_tokens", "models", "reasoning_format", "search_options", "speed", "top_a"}
)
