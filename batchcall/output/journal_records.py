"""The lines of a journal, one per event of a row: `crc32hex SP json LF`. Readable with cut and jq.

A newline cannot occur inside a record, so damage costs one record and a torn tail is seen.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import orjson
from msgspec.structs import asdict

from batchcall.base import Attempt, Bill, Failure, FailureKind, HttpResponse


def sent_line(row: int, number: int, request_hash: str, sent_at_s: float, after: str | None = None) -> bytes:
    """A request is about to be sent. Without an answer behind it, it is indeterminate.

    `after` is how the request before it failed, where that one may have been billed.
    """
    record: dict[str, Any] = {"row": row, "n": number, "sent": sent_at_s, "hash": request_hash}
    if after is not None:
        record["after"] = after
    return _line(record)


def base_line(bill: Bill) -> bytes:
    """The bill of a part that stands: the first line of a journal that is begun for it."""
    return _line({"base": asdict(bill)})


def attempt_line(attempt: Attempt) -> bytes:
    return _line(attempt_record(attempt))


def lost_line(row: int, number: int) -> bytes:
    """A run died with this request in flight; it has been counted as possibly paid."""
    return _line({"row": row, "n": number, "lost": True})


def reading_line(row: int, number: int, *, is_beside: bool) -> bytes:
    """An answer is about to be read, beside the loop (then `read_line` says when that is done) or in its next step."""
    return _line({"row": row, "n": number, "reading": "beside" if is_beside else "here"})


def read_line(row: int, number: int) -> bytes:
    """An answer was read, and the run is still there."""
    return _line({"row": row, "n": number, "read": True})


def unread_line(row: int, number: int, message: str) -> bytes:
    """An answer cannot be read: a process dies of it. It is never tried again."""
    return _line({"row": row, "n": number, "unread": message})


def ended_line(row: int) -> bytes:
    """The row was given up: no more attempts are made unless the user asks for them."""
    return _line({"row": row, "ended": True})


def _line(record: Mapping[str, Any]) -> bytes:
    content = orjson.dumps(record)
    return b"%08x %b\n" % (zlib.crc32(content), content)


FAILURE_KINDS = {kind.label: kind for kind in FailureKind}


def attempt_record(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON. A body that is UTF-8 stands in it as text, so that `jq` can read it; else as base64."""
    record: dict[str, Any] = {
        "row": attempt.row,
        "n": attempt.number,
        "at": attempt.sent_at_s,
        "latency": attempt.latency_s,
        "wait": attempt.wait_s,
        "endpoint": attempt.endpoint,
        "hash": attempt.request_hash,
    }
    if attempt.protocol is not None:
        record["protocol"] = attempt.protocol
    if attempt.model is not None:
        record["model"] = attempt.model
    if (response := attempt.response) is not None:
        record["status"] = response.status
        record["headers"] = dict(response.headers)
        try:
            record["body"] = response.body.decode()
        except UnicodeDecodeError:
            record["body64"] = base64.b64encode(response.body).decode()
        if response.is_cut:
            record["cut"] = True
    if attempt.failure is not None:
        record["failure"] = attempt.failure.kind.label
        record["message"] = attempt.failure.message
    return record


def as_attempt(record: Mapping[str, Any]) -> Attempt:
    """The attempt in an `attempt_record`."""
    response = failure = None
    if "status" in record:
        body = base64.b64decode(record["body64"]) if "body64" in record else record["body"].encode()
        response = HttpResponse(record["status"], record["headers"], body, is_cut=record.get("cut", False))
    if "failure" in record:
        failure = Failure(kind=FAILURE_KINDS[record["failure"]], message=record["message"])
    return Attempt(
        row=record["row"],
        number=record["n"],
        request_hash=record["hash"],
        response=response,
        failure=failure,
        sent_at_s=record["at"],
        latency_s=record["latency"],
        wait_s=record["wait"],
        endpoint=record["endpoint"],
        protocol=record.get("protocol"),
        model=record.get("model"),
    )


def checked(line: bytes) -> dict[str, Any] | None:
    """The record of a line (without its newline), or None when its checksum or its form is wrong."""
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        record = orjson.loads(line[9:])
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
