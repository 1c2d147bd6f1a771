"""Raw answers as Arrow columns, and back: all that is needed to read how a row ended again at any time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any

import pyarrow as pa

from batchcall.base import NO_USAGE, Attempt, Failure, HttpResponse, Usage
from batchcall.input import fitted_array
from batchcall.output.journal_records import ATTEMPT_KEYS, FAILURE_KINDS

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


# A row has one of the two: a response or a failure of the transport. The columns of the other are null.
_OF_RESPONSE: Mapping[str, Callable[[HttpResponse], Any]] = {
    "http_status": attrgetter("status"),
    # The standard library's writer escapes halves of surrogate pairs, which headers with odd bytes are decoded to.
    "headers": lambda response: json.dumps(dict(response.headers)),
    "body": attrgetter("body"),
    "is_cut": attrgetter("is_cut"),
}
_OF_FAILURE: Mapping[str, Callable[[Failure], Any]] = {
    "failure": attrgetter("kind.label"),
    "failure_message": attrgetter("message"),
    "failure_code": attrgetter("code"),
    "failure_http_status": attrgetter("http_status"),
    "failure_retry_after_s": attrgetter("retry_after_s"),
    "failure_usage": lambda failure: None if failure.usage == NO_USAGE else json.dumps(asdict(failure.usage)),
}


def answers_batch(attempts: Sequence[Attempt]) -> pa.RecordBatch:
    """Raw answers as Arrow, in the order given; `read_answers` gives the same attempts back."""
    responses, failures = [one.response for one in attempts], [one.failure for one in attempts]
    columns: dict[str, list[Any]] = {
        **{name: [getattr(attempt, name) for attempt in attempts] for name in ATTEMPT_KEYS},
        **{name: [None if one is None else get(one) for one in responses] for name, get in _OF_RESPONSE.items()},
        **{name: [None if one is None else get(one) for one in failures] for name, get in _OF_FAILURE.items()},
    }
    arrays = [fitted_array(columns[field.name], field.type) for field in ANSWERS_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=ANSWERS_SCHEMA)


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
        plain = {name: row[name] for name in ATTEMPT_KEYS if name in row}
        attempts.append(Attempt(**plain, response=response, failure=failure))
    return attempts
