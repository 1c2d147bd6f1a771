"""The vendors' OpenAPI documents as judges of what is sent and answered, one place for all tests that ask them.

They are not part of the project: they lie in `shared/` beside the repository where it is developed, or under the
folder that BATCHCALL_SHARED names, and what asks them is skipped elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
import pytest

SHARED = Path(os.environ.get("BATCHCALL_SHARED") or Path(__file__).resolve().parents[2] / "shared")
DOCUMENTS = SHARED / "data" / "vendor-openapi"
documented = pytest.mark.skipif(not DOCUMENTS.exists(), reason=f"the vendors' documents are not here: {DOCUMENTS}")


class Described(NamedTuple):
    """Where a protocol's request is described."""

    document: str
    schema: str


REQUESTS: Mapping[str, Described] = {
    "openai-chat": Described("openai", "CreateChatCompletionRequest"),
    "openai-responses": Described("openai", "CreateResponse"),
    "anthropic": Described("anthropic", "CreateMessageParams"),
    "gemini": Described("gemini", "GenerateContentRequest"),
}


BODIES_SENT: dict[str, set[bytes]] = {protocol: set() for protocol in REQUESTS}  # by the tests so far, and right


class Addition(NamedTuple):
    """What an API has got since its document was written."""

    schema: str  # of the document
    properties: Mapping[str, Any]  # that are added to it; "|" instead: another form that it may have
    source: str


_SDK = "anthropic 2 (PyPI), types/"
_CACHE = {"cache_control": {"type": "object", "properties": {"type": {"const": "ephemeral"}}, "required": ["type"]}}


def _typed(kind: str, *required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **properties},
        "required": ["type", *required],
        "additionalProperties": False,
    }


_URL_SOURCE = _typed("url", "url", url={"type": "string"})
_DOCUMENT = _typed(
    "document",
    "source",
    source={
        "anyOf": [
            _URL_SOURCE,
            _typed("base64", "media_type", "data", media_type={"const": "application/pdf"}, data={"type": "string"}),
            _typed("text", "media_type", "data", media_type={"const": "text/plain"}, data={"type": "string"}),
            _typed("file", "file_id", file_id={"type": "string"}),
        ]
    },
    title={"type": "string"},
    citations={"type": "object"},
    **_CACHE,
)

# The document of Anthropic is of November 2024. The others have all that is sent in tests.
ADDITIONS: Mapping[str, tuple[Addition, ...]] = {
    "anthropic": (
        Addition("CreateMessageParams", {"thinking": {"type": "object"}}, _SDK + "thinking_config_param.py"),
        Addition("CreateMessageParams", {"output_config": {"type": "object"}}, _SDK + "output_config_param.py"),
        Addition("CreateMessageParams", {"service_tier": {"type": "string"}}, _SDK + "message_create_params.py"),
        Addition("CreateMessageParams", _CACHE, _SDK + "message_create_params.py"),
        Addition("Tool", {**_CACHE, "strict": {"type": "boolean"}}, _SDK + "tool_param.py"),
        Addition("Tool", {"|": _typed("web_search_20250305", name={})}, _SDK + "web_search_tool_20250305_param.py"),
        Addition("ToolChoice", {"|": _typed("none")}, _SDK + "tool_choice_none_param.py"),
        Addition("RequestTextBlock", _CACHE, _SDK + "text_block_param.py"),
        Addition("RequestTextBlock", {"|": _DOCUMENT}, _SDK + "document_block_param.py"),
        Addition("RequestImageBlock", _CACHE, _SDK + "image_block_param.py"),
        Addition("Base64ImageSource", {"|": _URL_SOURCE}, _SDK + "url_image_source_param.py"),
    ),
}  # fmt: skip


def faults_of(protocol: str, body: Any) -> list[str]:
    """What the vendor's document has against a request; nothing where it is not at hand."""
    if not DOCUMENTS.exists():
        return []
    described = REQUESTS[protocol]
    unknown = sorted(set(body) - _properties(*described)) if isinstance(body, dict) else []
    return [
        *(f"{name}: not in the document" for name in unknown),
        *faults_by(*described, body),
    ]


def faults_by(document: str, schema: str, value: Any) -> list[str]:
    """What a schema of a document has against a value."""
    return [f"{error.instance_path}: {error.message}"[:500] for error in validator(document, schema).iter_errors(value)]


@cache
def validator(document: str, schema: str) -> Any:
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": _schemas(document)}},
        validate_formats=False,
    )


@cache
def _properties(document: str, schema: str) -> frozenset[str]:
    """All names that a body may have, those of schemas that it takes in included."""
    schemas, names, waiting = _schemas(document), set(), [{"$ref": f"#/components/schemas/{schema}"}]
    while waiting:
        one: dict[str, Any] = waiting.pop()
        if "$ref" in one:
            waiting.append(schemas[one["$ref"].rpartition("/")[2]])
        names.update(one.get("properties", ()))
        waiting.extend(one.get("allOf", ()))
    return frozenset(names)


@cache
def _schemas(document: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((DOCUMENTS / f"{document}.json").read_bytes())
    schemas: dict[str, Any] = _as_json_schema(whole["components"]["schemas"])
    for addition in ADDITIONS.get(document, ()):
        schema = schemas[addition.schema]
        if "|" in addition.properties:
            schemas[addition.schema] = {"anyOf": [schema, addition.properties["|"]]}
        else:
            _described_in(schema)["properties"].update(addition.properties)
    return schemas


def _described_in(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, where other forms were added beside it."""
    while "properties" not in schema:
        schema = schema["anyOf"][0]
    return schema


def _as_json_schema(node: Any) -> Any:
    """OpenAPI as JSON Schema: `nullable` says null, and oneOf is anyOf, as many a message is right in two of its forms
    and a discriminator, which JSON Schema does not know, decides which is meant."""
    if isinstance(node, list):
        return [_as_json_schema(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    told = {name: _as_json_schema(inner) for name, inner in node.items() if name not in ("nullable", "oneOf")}
    if isinstance(node.get("oneOf"), list):
        told["anyOf"] = [*_as_json_schema(node["oneOf"]), *told.get("anyOf", [])]
    elif "oneOf" in node:  # a property of that name
        told["oneOf"] = _as_json_schema(node["oneOf"])
    if node.get("nullable") is True:
        return {"anyOf": [told, {"type": "null"}]}
    if "nullable" in node and node["nullable"] is not False:
        told["nullable"] = _as_json_schema(node["nullable"])
    return told
