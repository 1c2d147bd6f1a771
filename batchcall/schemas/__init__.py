"""JSON Schemas: compiled to validators, bounded in work, and turned into column types. Pure."""

from batchcall.schemas.field_types import (
    FieldType,
    ListOf,
    MemberFinder,
    Scalar,
    StructOf,
    converter,
    is_plain,
    json_text,
    json_text_as_it_is,
    member_finder,
    restorer,
    shortened,
    without_surrogates,
)
from batchcall.schemas.lint import Findings, lint_tools
from batchcall.schemas.schema import (
    CompiledSchema,
    CompiledTool,
    Formats,
    SchemaError,
    compile_schema,
    compile_tool,
    pattern_matcher,
)
from batchcall.schemas.walk import Place, resolve, walk, within
from batchcall.schemas.work import Effort, TooMuchWork, pattern_cost

__all__ = [
    "CompiledSchema",
    "CompiledTool",
    "Effort",
    "FieldType",
    "Findings",
    "Formats",
    "ListOf",
    "MemberFinder",
    "Place",
    "Scalar",
    "SchemaError",
    "StructOf",
    "TooMuchWork",
    "compile_schema",
    "compile_tool",
    "converter",
    "is_plain",
    "json_text",
    "json_text_as_it_is",
    "lint_tools",
    "member_finder",
    "pattern_cost",
    "pattern_matcher",
    "resolve",
    "restorer",
    "shortened",
    "walk",
    "within",
    "without_surrogates",
]
