"""What a job file may say, key by key, and what the program makes of it. To add a key, add a field here.

A field is a key of the file if its type is annotated with a description. That completes a message, "it must be …" or
"is missing (…)": so it says what is right, in lower case. Behind it stands what JSON Schema says of the written value,
where the type of the field does not say it; `name` is the key's name in the file, where the field has another one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from batchcall.job.file_schema import either, schema_of, table_of

# The limits hold for the file, and not for run.json: that has the forms of the program, such as 0 for "auto", and a
# version with narrower limits reads it too. So they are not written as `msgspec.Meta`.

PROTOCOLS = ("openai-chat", "openai-responses", "anthropic", "gemini")

_TEXT = {"type": "string"}
_PATH = {"minLength": 1, "pattern": r"^[^\u0000]*$"}
_URL = r"^(sandbox|https?://[^/\s].*)$"
_AUTH = r"^(bearer|api-key|x-api-key|x-goog-api-key|none|header:[A-Za-z0-9!#$%&'*+.^_`|~-]+)$"
_DURATION = r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d)\s*)+$"
_SHARE = r"^\s*(100(\.0+)?|\d{1,2}(\.\d+)?)\s*%\s*$"


def _duration(**of_number: Any) -> dict[str, Any]:
    return either("string", {"pattern": _DURATION}, {"type": "number", "maximum": 86_400, **of_number})


class FileTable(msgspec.Struct, forbid_unknown_fields=True):
    file: Annotated[str, "a path from the job file's folder", _PATH]


_FILE = schema_of(FileTable, "a file to read it from")
_TEMPLATE = either("object", _FILE, {"type": ["string"]})
_CONTENT = either("object", _FILE, {"type": ["string", "array"]})

# The pace of [limits] and of an [endpoint].
Rate = Annotated[float | None, "of each account; 0 or left out: found while running", {"minimum": 0}]
Concurrency = Annotated[
    int | None,
    'the most requests in flight, or "auto"',
    either("string", {"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 10_000}),
]


class InputSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: Annotated[str, "file, directory, glob or URI; .parquet .jsonl .jsonl.gz .jsonl.zst", _PATH]
    id: Annotated[
        str | None, "a column of unique values, as the output writes them; a row without one is a bad_row"
    ] = None


class EndpointSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[str, 'an http or https URL up to "/v1", or "sandbox" for the embedded endpoint', {"pattern": _URL}]
    protocol: Annotated[str, "the protocol that it speaks", {"enum": list(PROTOCOLS)}] = "openai-chat"
    api_key: Annotated[
        str | None,
        '"env:NAME" or "file:PATH", never the key itself; a list of them shares the requests, each at its own pace',
        either("array", {"items": _TEXT, "minItems": 1, "uniqueItems": True}, _TEXT),
    ] = None  # a list becomes several endpoints
    model: Annotated[str | None, "the model's name at this endpoint, if it is not request.model", {"minLength": 1}] = (
        None
    )
    requests_per_minute: Rate = None  # None: as in [limits]
    tokens_per_minute: Rate = None
    concurrency: Concurrency = None  # 0: "auto"
    auth: Annotated[
        str | None, "bearer, api-key, x-api-key, x-goog-api-key, none or header:NAME", {"pattern": _AUTH}
    ] = None  # None: see `auth_of`
    headers: Annotated[
        dict[str, str], "more HTTP headers, each a name and a string", {"additionalProperties": _TEXT}
    ] = {}
    ca_file: Annotated[str | None, "a PEM file with your own certificate authority", _PATH] = None
    trust_env: Annotated[bool, "use the proxy that the environment variables name"] = False
    allow_http_key: Annotated[bool, "send the key over plain http to another host, such as a gateway in a cluster"] = (
        False
    )


class MessageTable(msgspec.Struct):
    role: Annotated[str, "system, user, assistant, tool …"]
    content: Annotated[Any, "a string, { file = … } or a list of parts", _CONTENT] = None


class ColumnsTable(msgspec.Struct, forbid_unknown_fields=True):
    messages: Annotated[str, "the name of a column"] = ""
    tools: Annotated[str, "the name of a column"] = ""
    tool_choice: Annotated[str, "the name of a column"] = ""


class RequestSection(msgspec.Struct, frozen=True, kw_only=True):
    """`parameters` is every other key of [request], passed through to the body as written."""

    model: Annotated[str | None, "the model's name", {"minLength": 1}] = None
    # Texts here: files are read on load.
    system: Annotated[str | None, "a system message, Jinja over the row's columns", _TEMPLATE] = None
    prompt: Annotated[str | None, "a user message, Jinja over the row's columns", _TEMPLATE] = None
    messages: Annotated[
        list[dict[str, Any]] | None,
        "messages with templates, instead of prompt",
        {"items": schema_of(MessageTable, "a role and a content; both may be templates"), "minItems": 1},
    ] = None
    columns: Annotated[
        dict[str, str] | None,
        "parts of the request that come from columns of the row",
        table_of(ColumnsTable),
    ] = None
    # None: the tool if there is one; "required" where there are several.
    tool_choice: Annotated[Any, "auto, required, none, or a tool's name", {"type": ["string", "object"]}] = None
    parameters: dict[str, Any] = {}


class ToolTable(msgspec.Struct, forbid_unknown_fields=True):
    file: Annotated[str | None, "an OpenAI tool object as JSON, or a list of them", _PATH] = None
    python: Annotated[str | None, '"module:PydanticModel"', {"pattern": r"^[\w.]+:\w+$"}] = None
    name: Annotated[str | None, "letters, digits, _ and -, at most 64"] = None
    description: Annotated[str | None, "what the function is for"] = None
    parameters: Annotated[dict[str, Any] | None, "JSON Schema of the arguments, or { file = … }"] = None
    strict: Annotated[bool | None, "let the endpoint enforce the schema"] = None


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A tool, resolved: its whole OpenAI tool object as it will be sent."""

    written: dict[str, Any]  # {"type": "function", "function": {"name", "description", "parameters", "strict"}}
    origin: str  # "receipt.json" or "tool.0", for messages

    @property
    def name(self) -> str:
        name: str = self.written["function"]["name"]
        return name


class LimitsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    requests_per_minute: Rate = None
    tokens_per_minute: Rate = None
    concurrency: Concurrency = None  # None: "auto"
    timeout_s: Annotated[
        float,
        'the time allowed for one attempt, such as "60s", or a number of seconds',
        {"name": "timeout", **_duration(exclusiveMinimum=0)},
    ] = 60.0
    attempts: Annotated[int, "the most requests for one row", {"minimum": 1, "maximum": 100}] = 6
    max_cost: Annotated[float | None, "the most that the whole output may cost, in USD", {"exclusiveMinimum": 0}] = None
    max_tokens_total: Annotated[int | None, "the most tokens for the whole output", {"minimum": 1}] = None
    max_failed_rows: Annotated[
        int | None,
        'how many rows may fail: a number or a share like "2%", up to "100%"',
        {"name": "max_failed", **either("string", {"pattern": _SHARE}, {"type": "integer", "minimum": 0})},
    ] = None
    max_failed_share: float | None = None  # of `max_failed = "2%"`: 0.02

    @property
    def tolerates_all(self) -> bool:
        """Rows may fail as they like."""
        return self.max_failed_share is not None and self.max_failed_share >= 1


class ValidateSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    repair: Annotated[bool, "repair arguments; every repair is recorded"] = True
    coerce: Annotated[bool, 'convert values where nothing is lost, such as "5" to 5'] = False
    reask: Annotated[int, "how often to ask again with the validator's message", {"minimum": 0, "maximum": 5}] = 0
    # Of the strings in a tool's schema; "off": not checked at all.
    formats: Annotated[
        Literal["lenient", "strict", "off"], "lenient: what the usual libraries accept; strict: the RFCs"
    ] = "lenient"


class OutputSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: Annotated[Path, "a folder on this machine", _PATH]
    keep: Annotated[
        list[str] | None,
        "columns of the input to carry over; default: all",
        {"items": _TEXT, "uniqueItems": True},
    ] = None
    response: Annotated[bool, "keep raw answers, for revalidate"] = True
    part_rows: Annotated[int, "the rows of one part", {"minimum": 1, "maximum": 10_000_000}] = 10_000
    allow_network: Annotated[bool, "write to a network file system, although its locks and syncs may fail"] = False
    mode: Annotated[
        str | None,
        "the permissions of the parts as in chmod, such as 0640; default: by the umask",
        {"pattern": "^0?[46][0-7]{2}$"},
    ] = None

    @property
    def parts_mode(self) -> int | None:
        return None if self.mode is None else int(self.mode, 8)


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: Annotated[float, "USD per million tokens", {"minimum": 0}]
    completion: Annotated[float, "USD per million tokens", {"minimum": 0}]
    cached: Annotated[float | None, "USD per million tokens", {"minimum": 0}] = None  # None: as prompt


class SandboxSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the embedded endpoint does to a job whose url is "sandbox"."""

    latency: Annotated[
        float, 'the median time to answer, such as "200ms", or a number of seconds', _duration(minimum=0)
    ] = 0.0  # the tail is heavy
    requests_per_minute: Annotated[int | None, "answers 429 above this", {"minimum": 1}] = None
    tokens_per_minute: Annotated[int | None, "answers 429 above this", {"minimum": 1}] = None
    faults: Annotated[
        dict[str, float],
        "the share of answers, 0 to 1, for each name of a fault",
        {"additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}},
    ] = {}
    seed: Annotated[int, "another number gives other answers"] = 0


_ENDPOINT = schema_of(EndpointSection, "where the model is")
_TOOL = schema_of(ToolTable, "a function the model may call")
_PRICE = schema_of(Price, "USD per million tokens")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job file, complete and consistent: every path absolute, every file read, every duration in seconds."""

    file: Path
    input: Annotated[InputSection, "the rows"]
    endpoints: Annotated[
        list[EndpointSection],
        "where the model is",
        {"name": "endpoint", **either("array", {"items": _ENDPOINT, "minItems": 1}, _ENDPOINT)},
    ]
    request: Annotated[RequestSection, "what to ask; other keys go into the request body as written"] = RequestSection()
    tools: Annotated[list[ToolSpec], "the functions that the model may call", {"name": "tool", "items": _TOOL}] = []
    limits: Annotated[LimitsSection, "limits of speed, attempts, cost and failures"] = LimitsSection()
    validate: Annotated[ValidateSection, "how answers are read and checked"] = ValidateSection()
    output: Annotated[OutputSection, "where results go"]
    prices: Annotated[
        dict[str, Price], '[prices."model"], USD per million tokens', {"additionalProperties": _PRICE}
    ] = {}
    sandbox: Annotated[SandboxSection, "how the embedded endpoint behaves"] = SandboxSection()
    warnings: list[str] = []  # what is allowed and yet looks like a mistake

    @property
    def is_free(self) -> bool:
        """All requests go to the embedded endpoint: no money is spent, whatever the prices."""
        return all(endpoint.url == "sandbox" for endpoint in self.endpoints)


SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "batchcall job",
    **schema_of(Job, "a batchcall job file"),
    "additionalProperties": False,
}
