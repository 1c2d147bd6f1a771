"""Every oddity that an endpoint was seen to answer is a file in its protocol's folder: what came, and what it means."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from batchcall.base.records import NO_USAGE, Failure, HttpResponse, RawCall, Reply, Usage
from batchcall.dialects import DIALECTS

FOLDERS = {name: Path(__file__).parent / name.replace("-", "_") for name in DIALECTS}
CASES = [(protocol, path) for protocol, folder in FOLDERS.items() for path in sorted(folder.glob("*.json"))]
LEAST = {"openai-chat": 300, "openai-responses": 150, "anthropic": 130, "gemini": 150}
NOW_S = 1714564800.0  # 2024-05-01 12:00:00 UTC


@pytest.mark.parametrize(("protocol", "path"), [pytest.param(*case, id=f"{case[0]}-{case[1].stem}") for case in CASES])
def test_an_answer_means_what_its_golden_file_says(protocol: str, path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))

    answer = DIALECTS[protocol].decode(response_of(case["response"]), now_s=NOW_S)

    (expected,) = case["expect"].items()
    check = {"reply": check_reply, "failure": check_failure}[expected[0]]
    check(answer, expected[1], case)


@pytest.mark.parametrize("protocol", LEAST)
def test_there_is_a_file_for_every_oddity_we_know(protocol: str) -> None:
    assert sum(one == protocol for one, _ in CASES) >= LEAST[protocol]


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
