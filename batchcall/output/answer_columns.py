"""Raw answers as Arrow columns, and back: all that is needed to read how a row ended again at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from batchcall.base import NO_USAGE, Attempt, Failure, FailureKind, HttpResponse, Usage
from batchcall.input import fitted_array

_TEXT = pa.string()
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")

ANSWERS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("number", pa.int32()),
        ("request_hash", _TEXT),
        ("http_status", pa.int32()),  # null: there was no response
        ("headers", _TEXT),  # JSON object
        ("body", pa.large_binary()),  # the bytes received; 500 of them can pass the 2 GB of a plain binary array
        ("is_cut", pa.bool_()),
        ("failure", _TEXT),  # kind; null: there was a response
        ("failure_message", _TEXT),
        ("failure_code", _TEXT),
        ("failure_http_status", pa.int32()),
        ("failure_retry_after_s", pa.float64()),
        ("failure_usage", _TEXT),  # JSON object; null: nothing was billed, as far as was said
        ("sent_at_s", pa.float64()),  # seconds since the epoch, UTC
        ("latency_s", pa.float64()),
        ("wait_s", pa.float64()),
        ("endpoint", _TEXT),
        ("protocol", _TEXT),  # null: the job's; so for the files of versions that had no pools
        ("model", _TEXT),
    ]
)


def answers_batch(attempts: Sequence[Attempt]) -> pa.RecordBatch:
    """Raw answers as Arrow, in the order given; `read_answers` gives the same attempts back."""
    rows = [_answer_row(attempt) for attempt in attempts]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in ANSWERS_SCHEMA]
    arrays = [fitted_array(column, field.type) for column, field in zip(columns, ANSWERS_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=ANSWERS_SCHEMA)


def _answer_row(attempt: Attempt) -> tuple[Any, ...]:
    """In the order of ANSWERS_SCHEMA."""
    return (
        attempt.row,
        attempt.number,
        attempt.request_hash,
        *_response_columns(attempt.response),
        *_failure_columns(attempt.failure),
        attempt.sent_at_s,
        attempt.latency_s,
        attempt.wait_s,
        attempt.endpoint,
        attempt.protocol,
        attempt.model,
    )


def _response_columns(response: HttpResponse | None) -> tuple[Any, ...]:
    if response is None:
        return (None,) * 4
    # The standard library's writer escapes halves of surrogate pairs, which headers with odd bytes are decoded to.
    return response.status, json.dumps(dict(response.headers)), response.body, response.is_cut


def _failure_columns(failure: Failure | None) -> tuple[Any, ...]:
    if failure is None:
        return (None,) * 6
    usage = None if failure.usage == NO_USAGE else json.dumps({name: getattr(failure.usage, name) for name in _USAGE})
    return failure.kind.label, failure.message, failure.code, failure.http_status, failure.retry_after_s, usage


def read_answers(batch: pa.RecordBatch) -> list[Attempt]:
    """The attempts of a batch of an answers file, in its order."""
    return [_attempt(row) for row in batch.to_pylist()]


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(
        row=row["row"],
        number=row["number"],
        request_hash=row["request_hash"],
        response=_response(row),
        failure=_failure(row),
        sent_at_s=row["sent_at_s"],
        latency_s=row["latency_s"],
        wait_s=row["wait_s"],
        endpoint=row["endpoint"],
        protocol=row.get("protocol"),
        model=row.get("model"),
    )


def _response(row: Mapping[str, Any]) -> HttpResponse | None:
    if row["http_status"] is None:
        return None
    return HttpResponse(row["http_status"], json.loads(row["headers"]), row["body"], is_cut=row["is_cut"])


def _failure(row: Mapping[str, Any]) -> Failure | None:
    if row["failure"] is None:
        return None
    return Failure(
        kind=_KINDS[row["failure"]],
        message=row["failure_message"],
        http_status=row["failure_http_status"],
        code=row["failure_code"],
        retry_after_s=row["failure_retry_after_s"],
        usage=NO_USAGE if row["failure_usage"] is None else Usage(**json.loads(row["failure_usage"])),
    )


_KINDS = {kind.label: kind for kind in FailureKind}
