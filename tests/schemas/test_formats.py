"""Formats: lenient is what the usual libraries write and accept, strict is the RFCs, off is nothing at all."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import uuid
from typing import Annotated, Any, Generic, Literal, TypeVar

import pydantic
import pytest

from batchcall.base.records import Tool
from batchcall.schemas.schema import Formats, compile_schema, compile_tool


def accepts(name: str, text: str, formats: Formats = "lenient") -> bool:
    return compile_schema({"properties": {"x": {"type": "string", "format": name}}}, formats=formats).is_valid(
        {"x": text}
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date-time", "2031-02-03T04:05:06"),
        ("date-time", "2031-02-03T04:05:06.1234567"),
        ("date-time", "2031-02-03T04:05"),
        ("date-time", "0000-02-03"),  # a year without a meaning in Python
        ("date-time", "2031-02-03 04:05:06"),
        ("date-time", "2031-02-03 04:05:06 UTC"),
        ("date-time", "2031-02-03T04:05:06+0200"),
        ("date-time", "2031-02-03T04:05:06+02:00[Europe/Berlin]"),
        ("date-time", "2031-02-03"),
        ("time", "04:05:06"),
        ("time", "04:05"),
        ("duration", "-P1DT2H"),
        ("duration", "PT0.25S"),
        ("duration", "P1Y2M3W4DT5H"),
        ("duration", "1.02:03:04.5000000"),
        ("duration", "3 days, 4:05:06"),
        ("email", "jörg@bücher.example"),
        ("hostname", "db_1.internal"),
        ("hostname", "bücher.example."),
        ("uuid", "0123456789abcdef0123456789ABCDEF"),
        ("uuid", "{01234567-89ab-cdef-0123-456789abcdef}"),
        ("uuid", "urn:uuid:01234567-89ab-cdef-0123-456789abcdef"),
        ("uri", "https://bücher.example/straße?q=ü#ß"),
        ("uri", "https://shelf.example/a|b?x[]={y}"),
        ("uri-reference", "/größe/ä"),
        ("ipv6", "fe80::1%eth0"),
    ],
)
def test_what_the_usual_libraries_write_is_valid_unless_formats_are_strict(name: str, text: str) -> None:
    assert accepts(name, text)
    assert not accepts(name, text, "strict")
    assert accepts(name, text, "off")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date-time", "yesterday"),
        ("date-time", "2031-13-45T00:00:00"),
        ("date-time", "2031-02-30T00:00:00"),
        ("date-time", "2031-02-03T25:00:00"),
        ("date-time", "2031-02-03T04:05:06+99:00"),
        ("date-time", "2031-02-03T04:05:06 in the morning"),
        ("date-time", "03/02/2031 04:05"),
        ("date-time", "1927850706"),
        ("date-time", ""),
        ("date", "2031-13-45"),
        ("date", "2031-02-30"),
        ("date", "2031-2-3"),
        ("date", "2031-02-03T04:05:06"),
        ("time", "noon"),
        ("time", "24:61"),
        ("time", "4pm"),
        ("duration", "a while"),
        ("duration", "P"),
        ("duration", "PT"),
        ("duration", "5"),
        ("email", "ada"),
        ("email", "ada@"),
        ("email", "@engine.example"),
        ("email", "ada at engine.example"),
        ("email", "a@b@c"),
        ("email", "a b@c.example"),
        ("hostname", ""),
        ("hostname", "a b"),
        ("hostname", "a..b"),
        ("hostname", "-a.example"),
        ("hostname", "https://a.example"),
        ("uuid", "01234567"),
        ("uuid", "g1234567-89ab-cdef-0123-456789abcdef"),
        ("uuid", "the usual one"),
        ("uri", "shelf.example/page"),
        ("uri", "https://a b.example"),
        ("uri", "https://a.example:port/"),
        ("uri", "not a uri"),
        ("ipv4", "300.1.1.1"),
        ("ipv4", "1.2.3"),
        ("ipv6", "1.2.3.4"),
        ("ipv6", "::g"),
    ],
)
def test_what_is_clearly_not_that_thing_is_refused_by_lenient_and_strict(name: str, text: str) -> None:
    assert not accepts(name, text)
    assert not accepts(name, text, "strict")
    assert accepts(name, text, "off")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date-time", "1998-12-31T23:59:60Z"),
        ("date-time", "2031-02-03t04:05:06z"),
        ("time", "04:05:06.789+02:00"),
        ("email", "me@localhost"),
        ("idn-email", "用户@例子.example"),
        ("duration", "P4W"),
        ("email", '"joe bloggs"@shelf.example'),
        ("email", "a@[127.0.0.1]"),
        ("email", "a@[IPv6:::1]"),
        ("hostname", "xn--4gbwdl.xn--wgbh1c"),
        ("uri", "tel:+1-816-555-1212"),
        ("uri", "http://[::1]:80/"),
        ("iri-reference", "#ƒrägmênt"),
    ],
)
def test_lenient_takes_all_that_strict_takes(name: str, text: str) -> None:
    assert accepts(name, text, "strict")
    assert accepts(name, text)


@pytest.mark.parametrize(
    ("name", "longest"),
    [
        ("email", "a" * 990 + "@b.example"),
        ("hostname", "a." * 126 + "a"),
        ("hostname", "a" * 63),
        ("hostname", "_" + "a" * 62),
        ("duration", "P" + "0" * 18 + "Y" + "0" * 18 + "M" + "0" * 18 + "W" + "0" * 18 + "DT" + "0" * 18 + "H1S"),
        ("ipv6", "fe80::1%" + "e" * 92),
        ("time", "04:05:06." + "1" * 12),
        ("uuid", "urn:uuid:01234567-89ab-cdef-0123-456789abcdef"),
    ],
)
def test_a_format_has_a_longest_text(name: str, longest: str) -> None:
    longer = longest.replace("0", "00", 1) if name == "duration" else longest[:1] + longest
    if name == "time":
        longer = longest + "1"

    assert accepts(name, longest)
    assert not accepts(name, longer)


@pytest.mark.parametrize("name", ["date-time", "email", "uri", "duration", "uuid", "hostname", "time", "ipv6"])
def test_a_text_of_megabytes_is_no_work(name: str) -> None:
    for text in ("1" * 3_000_000, "a@" * 1_000_000, "P1D" * 1_000_000, "http://" + "ü" * 2_000_000 + " "):
        assert not accepts(name, text)


class Color(enum.Enum):
    RED = "red"


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    tail: float


Unpublished = TypeVar("Held")


class Box(pydantic.BaseModel, Generic[Unpublished]):
    content: Unpublished | None = None


class Tree(pydantic.BaseModel):
    name: str
    children: list[Tree] = []


class Everything(pydantic.BaseModel):
    price: decimal.Decimal
    bounded: Annotated[decimal.Decimal, pydantic.Field(max_digits=9, decimal_places=2)]
    key: uuid.UUID
    at: datetime.datetime
    aware: pydantic.AwareDatetime
    naive: pydantic.NaiveDatetime
    day: datetime.date
    clock: datetime.time
    took: datetime.timedelta
    site: pydantic.AnyUrl
    page: pydantic.HttpUrl
    host4: ipaddress.IPv4Address
    host6: ipaddress.IPv6Address
    net: ipaddress.IPv4Network
    file: pathlib.PurePath
    raw: bytes
    code: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Z]{3}-\d+$")]
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    box: Box[int]
    tree: Tree
    pair: tuple[int, str]
    tags: set[str]
    by_name: dict[str, float]
    color: Color
    maybe: int | None
    mixed: int | str | list[bool]
    json_text: pydantic.Json[list[int]]


VALUE = Everything.model_validate(
    {
        "price": "12.50", "bounded": "-3.25", "key": uuid.UUID(int=7), "at": datetime.datetime(2031, 2, 3, 4, 5, 6),
        "aware": datetime.datetime(2031, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        "naive": datetime.datetime(2031, 2, 3, 4, 5, 6, 789), "day": datetime.date(2031, 2, 3),
        "clock": datetime.time(4, 5, 6), "took": datetime.timedelta(days=-1, seconds=3.5),
        "site": "https://bücher.example/ä", "page": "http://shelf.example", "host4": "10.0.0.1", "host6": "::1",
        "net": "10.0.0.0/8", "file": "a/b.txt", "raw": b"abc", "code": "ABC-1", "pet": {"kind": "dog", "tail": 2.5},
        "box": {"content": 3}, "tree": {"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]},
        "pair": (1, "x"), "tags": {"a", "b"}, "by_name": {"x": 1.5}, "color": "red", "maybe": None,
        "mixed": [True, False], "json_text": "[1, 2]",
    }
)  # fmt: skip


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_what_pydantic_writes_of_every_type_is_valid_by_its_own_schema(mode: Literal["validation"]) -> None:
    compiled = compile_tool(Tool("record", Everything.model_json_schema(mode=mode), {}))

    written = json.loads(VALUE.model_dump_json(round_trip=mode == "validation"))

    assert compiled.schema.is_valid(written), compiled.schema.explain(written)
    for name in ("key", "at", "day", "clock", "took", "site", "host4", "code", "pet", "tree"):
        assert not compiled.schema.is_valid({**written, name: "no such thing"}), name


@dataclasses.dataclass
class Part:
    name: str
    made: datetime.datetime
    size: float | None = None


# As Zod 4's z.toJSONSchema, TypeBox, .NET's JsonSchemaExporter and victools' generator for Java write them.
OTHERS: Any = [
    (
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "mail": {
                    "type": "string",
                    "format": "email",
                    "pattern": r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+"
                    r"[A-Za-z]{2,}$",
                },
                "at": {
                    "type": "string",
                    "format": "date-time",
                    "pattern": r"^(?:(?:\d\d[2468][048]|\d\d[13579][26]|\d\d0[48]|[02468][048]00|[13579][26]00)-02-29|"
                    r"\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|"
                    r"(?:02)-(?:0[1-9]|1\d|2[0-8])))T(?:(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?:Z))$",
                },
                "id": {"type": "string", "format": "uuid"},
                "site": {"type": "string", "format": "uri"},
                "net": {"type": "string", "format": "cidrv4"},
                "b64": {"type": "string", "format": "base64", "contentEncoding": "base64"},
                "n": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991},
                "either": {"anyOf": [{"type": "string", "const": "a"}, {"type": "number", "exclusiveMinimum": 0}]},
                "map": {
                    "type": "object",
                    "propertyNames": {"type": "string"},
                    "additionalProperties": {"type": "boolean"},
                },
            },
            "required": ["mail"],
            "additionalProperties": False,
        },
        {
            "mail": "ada@engine.example", "at": "2031-02-03T04:05:06.789Z", "id": str(uuid.UUID(int=5, version=4)),
            "site": "https://bücher.example", "net": "10.0.0.0/8", "b64": "YQ==", "n": 3, "either": 0.5,
            "map": {"x": True},
        },
        {"mail": 5},
    ),
    (
        {
            "type": "object",
            "properties": {
                "count": {"type": ["string", "integer"], "pattern": r"^-?(?:0|[1-9]\d*)$"},
                "when": {"type": "string", "format": "date-time"},
                "span": {"type": "string", "pattern": r"^-?(\d+\.)?\d{2}:\d{2}:\d{2}(\.\d{1,7})?$"},
                "id": {"type": ["string", "null"], "format": "uuid"},
                "node": {"type": ["object", "null"], "properties": {"next": {"$ref": "#/properties/node"}}},
            },
            "required": ["count"],
        },
        {
            "count": "-12", "when": "2031-02-03T04:05:06.1234567", "span": "1.02:03:04.5000000", "id": None,
            "node": {"next": {"next": None}},
        },
        {"count": "12a"},
    ),
    (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "Part",
            "definitions": {"Size": {"type": "integer", "format": "int32"}},
            "type": "object",
            "properties": {
                "made": {"type": "string", "format": "date-time"},
                "on": {"type": "string", "format": "date"},
                "took": {"type": "string", "format": "duration"},
                "size": {"$ref": "#/definitions/Size"},
                "sizes": {"type": "array", "items": {"$ref": "#/definitions/Size"}},
            },
        },
        {
            "made": "2031-02-03T04:05:06.789+02:00[Europe/Berlin]", "on": "2031-02-03", "took": "PT8H6M12.345S",
            "size": 1, "sizes": [1, 2],
        },
        {"size": "small"},
    ),
    (
        pydantic.TypeAdapter(Part).json_schema(),
        {"name": "bolt", "made": "2031-02-03T04:05:06", "size": None},
        {"name": "bolt", "made": "some day"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), OTHERS)
def test_what_other_libraries_write_is_valid_by_their_schemas(schema: Any, good: Any, bad: Any) -> None:
    compiled = compile_tool(Tool("record", schema, {}))

    assert compiled.schema.is_valid(good), compiled.schema.explain(good)
    assert not compiled.schema.is_valid(bad)
