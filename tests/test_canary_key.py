"""A key that endpoints echo in every form is nowhere afterwards: in no file, on no stream, in no log."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet
import pytest

from batchcall.job_schema import PROTOCOLS
from batchcall.sandbox.process import Settings
from killing import endpoint_process
from running import batchcall, edit, results, write_job

CANARY = 'canary-K3y+of/the"job\\Zz9=end'  # with all that base64, URLs and JSON write in ways of their own
IN_JSON = json.dumps(CANARY)[1:-1]
FORMS = {
    "plain": CANARY,
    "url": quote(CANARY, safe=""),
    "url, lower case": quote(CANARY, safe="").lower(),
    "json": IN_JSON,
    "json in json": json.dumps(IN_JSON)[1:-1],
    "json of JavaScript": IN_JSON.replace("/", "\\/"),
    "base64": base64.b64encode(CANARY.encode()).decode().rstrip("="),
    "base64 for URLs": base64.urlsafe_b64encode(CANARY.encode()).decode().rstrip("="),
    "the middle of it": 'K3y+of/the"',
    "the middle of it in a URL": "K3y%2Bof%2Fthe",
}


def found_in(said: bytes) -> list[str]:
    return [name for name, form in FORMS.items() if form.encode() in said]


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file as it is, and what is in the columns of those that are compressed."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()
            if path.suffix == ".parquet":
                yield path, as_bytes(pyarrow.parquet.read_table(path).to_pylist())


def as_bytes(value: object) -> bytes:
    """All texts and bytes in it, one after the other, as they are."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):
        return b"\n".join(as_bytes(inner) for entry in value.items() for inner in entry)
    if isinstance(value, list):
        return b"\n".join(map(as_bytes, value))
    return b""


def test_the_search_finds_what_it_should(tmp_path: Path) -> None:
    for form in FORMS.values():
        assert found_in(b"x" + form.encode() + b"x")
    assert found_in(base64.b64encode(CANARY.encode()))
    assert found_in(as_bytes([{"a": [CANARY.encode()]}]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_key_that_is_echoed_is_in_no_file_and_on_no_stream(tmp_path: Path, protocol: str) -> None:
    faults = {"echoes_key": 0.4, "server_error": 0.1, "invalid_schema_arguments": 0.2}
    said: list[bytes] = []

    def say(*words: str | Path) -> int:
        run = batchcall(*words, CANARY_KEY=CANARY)
        said.extend((run.stdout.encode(), run.stderr.encode()))
        return run.returncode

    with endpoint_process(Settings(api_key=CANARY, faults=faults)) as endpoint:
        job = write_job(
            tmp_path,
            url=endpoint.url,
            rows=25,
            endpoint=f'protocol = "{protocol}"\napi_key = "env:CANARY_KEY"',
            more="[validate]\nreask = 1",
        )
        codes = [say("check", job), say("run", job, "--limit", "15"), say("run", job, "--log-format", "json")]
        codes += [say("run", job, "--retry-failed", "--log-format", "json")]
    with endpoint_process(Settings(faults={"echoes_bad_key": 1.0})) as refusing:
        edit(job, endpoint.url, refusing.url)
        refused = [say("run", job, "--retry-failed"), say("run", job, "--retry-failed", "--log-format", "json")]
    out = tmp_path / "out"
    codes += [say("status", out), say("status", out, "--json"), say("verify", out), say("revalidate", job)]

    assert codes[:4] == [0, 1, 1, 1]
    assert refused == [4, 4]
    assert {row["status"] for row in results(out)} >= {"ok", "request_rejected"}
    assert any("***" in (row["error"] or "") for row in results(out))  # it was there to be taken out
    hits = {f"stream {number}": found_in(text) for number, text in enumerate(said)}
    for path, content in contents(tmp_path):
        hits[str(path)] = hits.get(str(path), []) + found_in(content)
    assert {place: forms for place, forms in hits.items() if forms} == {}
    assert sum(path.suffix == ".parquet" for path in out.rglob("*")) >= 4  # parts and answers were looked into
