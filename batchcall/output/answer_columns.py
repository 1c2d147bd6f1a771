"""Raw answers as Arrow columns, and back: all that is needed to read how a row ended again at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

import pyarrow as pa
from msgspec.structs import asdict

from batchcall.base import NO_USAGE, Attempt, Failure, HttpResponse, Usage
from batchcall.input import fitted_array
from batchcall.output.journal_records import FAILURE_KINDS

_TEXT = pa.string()

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
        ("failure_usage", _TEXT),  # JSON object; null: nothing was billed, as far as the endpoint says
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
    columns = zip(*map(_values, attempts), strict=True) if attempts else [()] * len(ANSWERS_SCHEMA)
    arrays = [fitted_array(column, field.type) for field, column in zip(ANSWERS_SCHEMA, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=ANSWERS_SCHEMA)


def _values(attempt: Attempt) -> tuple[Any, ...]:
    """An attempt's values, in the order of their columns."""
    # It has one of the two: a response or a failure of the transport. The columns of the other are null.
    response, failure = attempt.response, attempt.failure
    of_response: tuple[Any, ...] = (None,) * 4
    if response is not None:
        of_response = response.status, _headers_text(response.headers), response.body, response.is_cut
    of_failure: tuple[Any, ...] = (None,) * 6
    if failure is not None:
        usage = None if failure.usage == NO_USAGE else json.dumps(asdict(failure.usage))
        told = failure.message, failure.code, failure.http_status, failure.retry_after_s
        of_failure = failure.kind.label, *told, usage
    return (
        attempt.row,
        attempt.number,
        attempt.request_hash,
        *of_response,
        *of_failure,
        attempt.sent_at_s,
        attempt.latency_s,
        attempt.wait_s,
        attempt.endpoint,
        attempt.protocol,
        attempt.model,
    )


def _headers_text(headers: Mapping[str, str]) -> str:
    """As `json.dumps` writes them, which makes an encoder for each call."""
    # Its quotation marks, as they escape halves of surrogate pairs, which headers with odd bytes are decoded to.
    return f"{{{', '.join([f'{quoted(name)}: {quoted(text)}' for name, text in headers.items()])}}}"


def read_answers(batch: pa.RecordBatch) -> list[Attempt]:
    """The attempts of a batch of an answers file, in its order."""
    attempts = []
    for row in batch.to_pylist():
        response = failure = None
        if row["http_status"] is not None:
            response = HttpResponse(row["http_status"], json.loads(row["headers"]), row["body"], is_cut=row["is_cut"])
        if row["failure"] is not None:
            failure = Failure(
                kind=FAILURE_KINDS[row["failure"]],
                message=row["failure_message"],
                http_status=row["failure_http_status"],
                code=row["failure_code"],
                retry_after_s=row["failure_retry_after_s"],
                usage=NO_USAGE if row["failure_usage"] is None else Usage(**json.loads(row["failure_usage"])),
            )
        attempts.append(
            Attempt(
                row=row["row"],
                number=row["number"],
                request_hash=row["request_hash"],
                response=response,
                failure=failure,
                sent_at_s=row["sent_at_s"],
                latency_s=row["latency_s"],
                wait_s=row["wait_s"],
                endpoint=row["endpoint"],
                protocol=row.get("protocol"),
                model=row.get("model"),
            )
        )
    return attempts
