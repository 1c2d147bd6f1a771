"""Every oddity that an endpoint was seen to answer is a file in its protocol's folder: what came, and what it means."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from batchcall.dialects import DIALECTS
from batchcall.records import NO_USAGE, Failure, HttpResponse, RawCall, Reply, Usage

FOLDERS = {"openai_chat": ("openai-chat", 250), "gemini": ("gemini", 100)}  # the protocol, and files at least
CASES = sorted(path for folder in FOLDERS for path in (Path(__file__).parent / folder).glob("*.json"))
NOW_S = 1714564800.0  # 2024-05-01 12:00:00 UTC


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_answer_means_what_its_golden_file_says(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))

    protocol, _ = FOLDERS[path.parent.name]
    answer = DIALECTS[protocol].decode(response_of(case["response"]), now_s=NOW_S)

    (expected,) = case["expect"].items()
    check = {"reply": check_reply, "failure": check_failure}[expected[0]]
    check(answer, expected[1], case)


@pytest.mark.parametrize("folder", FOLDERS)
def test_there_is_a_file_for_every_oddity_we_know(folder: str) -> None:
    assert sum(path.parent.name == folder for path in CASES) >= FOLDERS[folder][1]


def response_of(written: dict[str, Any]) -> HttpResponse:
    if "body_base64" in written:
        body = base64.b64decode(written["body_base64"])
    elif isinstance(written["body"], str):
        body = written["body"].encode()
    else:
        body = orjson.dumps(written["body"]) if fits_orjson(written["body"]) else json.dumps(written["body"]).encode()
    return HttpResponse(written["status"], written.get("headers", {}), body)


def fits_orjson(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def check_reply(answer: Reply | Failure, expected: dict[str, Any], case: dict[str, Any]) -> None:
    fields = dict(expected)
    fields["calls"] = tuple(RawCall(**call) for call in fields.get("calls", ()))
    fields["usage"] = Usage(**fields["usage"]) if "usage" in fields else NO_USAGE
    fields["repairs"] = tuple(fields.get("repairs", ()))

    assert answer == Reply(**fields), case["name"]


def check_failure(answer: Reply | Failure, expected: dict[str, Any], case: dict[str, Any]) -> None:
    assert isinstance(answer, Failure), case["name"]
    assert answer.kind.label == expected["kind"], answer
    assert answer.http_status == case["response"]["status"]
    assert answer.code == expected.get("code")
    assert answer.retry_after_s == pytest.approx(expected.get("retry_after_s"))
    assert answer.usage == (Usage(**expected["usage"]) if "usage" in expected else NO_USAGE)
    assert expected.get("says", "") in answer.message
    assert answer.message.startswith(("HTTP ", "the endpoint asks to wait "))
    assert len(answer.message) <= 300
    assert answer.message.isprintable()
