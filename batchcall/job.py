"""The job file, typed and checked once, all faults together. Reads nothing but the job file and the files it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


class InputSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str  # file, directory, glob or URI; relative paths are resolved against the job file's folder on load
    id: str | None = None  # column that names a row


class EndpointSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str  # "sandbox" starts the embedded endpoint
    protocol: str = "openai-chat"
    api_key: str | None = None  # "env:NAME" or "file:PATH", never the key itself
    auth: str | None = None  # bearer | x-api-key | x-goog-api-key | none | header:NAME; None: by protocol
    headers: dict[str, str] = {}
    ca_file: str | None = None  # own certificate authority, PEM
    trust_env: bool = False  # take a proxy from the environment


class RequestSection(msgspec.Struct, frozen=True, kw_only=True):
    """`parameters` is every other key of [request], passed through to the body as written."""

    model: str | None = None
    system: str | None = None  # template text; `{ file = … }` is resolved on load
    prompt: str | None = None  # template text
    messages: list[dict[str, Any]] | None = None  # role/content templates
    columns: dict[str, str] | None = None  # messages, tools, tool_choice: names of columns
    tool_choice: Any = None  # None: the tool if there is one; "required" where there are several
    parameters: dict[str, Any] = {}


class LimitsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None  # None: "auto"
    timeout_s: float = 60.0  # `timeout = "60s"` in the file; one attempt
    attempts: int = 6
    max_cost: float | None = None  # USD
    max_tokens_total: int | None = None
    max_failed_rows: int | None = None  # `max_failed = 20` in the file
    max_failed_share: float | None = None  # `max_failed = "2%"` in the file: 0.02


class ValidateSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    repair: bool = True
    coerce: bool = False
    reask: int = 0


class OutputSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: Path
    keep: list[str] | None = None  # None: all columns of the input
    response: bool = True
    part_rows: int = 10_000


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens. `[prices."gpt-4o-mini"]` in the file."""

    prompt: float
    completion: float
    cached: float | None = None  # None: as prompt


class SandboxSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the embedded endpoint does to a job whose url is "sandbox"."""

    latency: float = 0.0  # seconds, median; the tail is heavy
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    faults: dict[str, float] = {}  # share of requests per fault name, 0 to 1
    seed: int = 0


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A tool, resolved: its whole OpenAI tool object as it will be sent."""

    written: dict[str, Any]  # {"type": "function", "function": {"name", "description", "parameters", "strict"}}
    origin: str  # "receipt.json" or "[[tool]] 1", for messages


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job file, complete and consistent: every path absolute, every file read, every duration in seconds."""

    file: Path
    input: InputSection
    endpoints: list[EndpointSection]
    request: RequestSection
    tools: list[ToolSpec] = []
    limits: LimitsSection = LimitsSection()
    validate: ValidateSection = ValidateSection()
    output: OutputSection
    prices: dict[str, Price] = {}
    sandbox: SandboxSection = SandboxSection()


def load_job(path: Path, *, overrides: tuple[str, ...] = ()) -> Job:
    """Read and check a job file. `overrides` are "key.path=value" as after `--set`, values in TOML.

    Raises JobError with one sentence per fault, all faults at once.
    """
    raise NotImplementedError


def job_schema() -> dict[str, Any]:
    """JSON Schema of the job file, for editors (`batchcall schema`)."""
    raise NotImplementedError
