"""The official JSON-Schema-Test-Suite: every schema compiles or is refused, and every verdict is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchcall.base.records import Tool
from batchcall.schemas.field_types import converter, field_type
from batchcall.schemas.lint import lint_tools
from batchcall.schemas.schema import compile_schema
from batchcall.schemas.walk import SchemaError

SUITE = Path(__file__).resolve().parents[3] / "shared/data/json-schema-test-suite"
DRAFTS = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
# Formats are checked here in every draft; there, 2020-12 takes them for a remark.
FORMATS_AS_REMARKS = {("draft2020-12", "format.json")}
# References elsewhere and meta-schemas of one's own are refused, so these files have schemas that do not compile.
MAY_REFER_ELSEWHERE = {
    "anchor.json", "definitions.json", "defs.json", "dynamicRef.json", "recursiveRef.json", "ref.json",
    "refRemote.json", "unevaluatedItems.json", "unevaluatedProperties.json", "vocabulary.json",
    "cross-draft.json", "format-assertion.json", "id.json", "unknownKeyword.json",
}  # fmt: skip

pytestmark = pytest.mark.skipif(not SUITE.is_dir(), reason="the JSON-Schema-Test-Suite is not beside the repository")


def files(draft: str) -> list[Path]:
    return sorted((SUITE / draft).rglob("*.json"))


def groups(path: Path, draft: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Schemas that are objects, with their tests. A tool's schema is never just true or false."""
    written = json.loads(path.read_text(encoding="utf-8"))
    return [
        ({"$schema": DRAFTS[draft], **one["schema"]}, one["tests"])
        for one in written
        if isinstance(one["schema"], dict)
    ]


@pytest.mark.parametrize("draft", DRAFTS)
def test_verdicts_are_those_of_the_official_suite(draft: str) -> None:
    checked, wrong = 0, []

    for path in files(draft):
        for schema, tests in groups(path, draft):
            try:
                is_valid = compile_schema(schema, formats="strict").is_valid
            except SchemaError:
                continue
            checked += len(tests)
            wrong += [(path.name, test["description"]) for test in tests if is_valid(test["data"]) != test["valid"]]

    assert checked > 1_600
    assert {(draft, name) for name, _ in wrong} <= FORMATS_AS_REMARKS


@pytest.mark.parametrize("draft", DRAFTS)
def test_only_schemas_that_refer_elsewhere_are_refused(draft: str) -> None:
    refused = set()

    for path in files(draft):
        for schema, _ in groups(path, draft):
            try:
                compile_schema(schema, formats="strict")
            except SchemaError:
                refused.add(path.name)

    assert refused <= MAY_REFER_ELSEWHERE


@pytest.mark.parametrize("draft", DRAFTS)
def test_the_type_of_a_column_fits_every_valid_value(draft: str) -> None:
    left_out: list[str] = []

    for path in files(draft):
        for schema, tests in groups(path, draft):
            try:
                compiled = compile_schema(schema, formats="strict")
            except SchemaError:
                continue
            convert = converter(field_type(compiled.document))
            for test in tests:
                if compiled.is_valid(test["data"]):
                    convert(test["data"], left_out)

    # Two things are left out on purpose: numbers that 64 bits cannot hold, and what a schema of properties without a
    # type accepts beside objects.
    assert {note.rsplit(" does not fit ", 1)[1] for note in left_out} <= {
        "int64; it is in `calls`",
        "float64; it is in `calls`",
        "object; it is in `calls`",
    }


@pytest.mark.parametrize("draft", DRAFTS)
def test_no_schema_that_a_value_satisfies_is_called_impossible(draft: str) -> None:
    looked_at, wrong = 0, []

    for path in files(draft):
        for schema, tests in groups(path, draft):
            valid = [test["data"] for test in tests if test["valid"]]
            if any(isinstance(value, dict) for value in valid):
                looked_at += 1
                wrong += lint_tools([Tool(path.name, schema, {})]).faults
            if valid and "$ref" not in json.dumps(schema):  # it may be anything as a part of the arguments
                looked_at += 1
                around = {"properties": {"value": schema}, "required": ["value"]}
                wrong += lint_tools([Tool(path.name, around, {})]).faults

    assert looked_at > 300
    assert wrong == []
