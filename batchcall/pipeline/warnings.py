"""What templates and input look like when something else was meant. Each is a warning, before anything is sent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from batchcall.input import Input
from batchcall.job import Job
from batchcall.pipeline.request_maker import RequestMaker

_LOOKED_AT_ROWS = 10_000
_LOOKED_AT_CHARACTERS = 32 << 20


def doubts(job: Job, maker: RequestMaker, source: Input) -> list[str]:
    """Warnings about a job over its input. Reads the first rows of the input. Raises InputError."""
    found = []
    # Some jobs want text. They say so, or shape the answer in another way.
    says_so = job.request.tool_choice == "none" or job.request.parameters.keys() & _SHAPE_ANSWERS
    if not job.tools and maker.builder.shape is not None and not says_so:
        found.append(
            "there is no [[tool]]: answers are text, in the column `content`. Give a [[tool]] for typed arguments;"
            ' request.tool_choice = "none" confirms that text is wanted'
        )
    if maker.builder.columns == frozenset():
        found.append("no template uses a column, so every row makes the same request; a column is written {{ text }}")
    # Columns in the marks of other template languages are sent as they stand.
    marks = {
        f"{template.key}: {mark[0]} is sent as written; a column is written {{{{ {mark['name'].strip()} }}}}": None
        for template in maker.builder.templates
        for pattern in _MARKS
        for mark in pattern.finditer(template.uses.text)
        if mark["name"].strip() in source.columns
    }
    return [*found, *marks, *_empty_columns(maker, source)]


_SHAPE_ANSWERS = frozenset(
    {
        *("format", "generationConfig", "generation_config", "guided_choice", "guided_json", "guided_regex", "grammar"),
        *("json_schema", "output_config", "output_format", "response_format", "structured_outputs", "text"),
    }
)


_MARKS = (
    # {text}, {text!r}, {text:>10}, ${text}: f-strings, str.format, shells. Not {text: string}, which describes JSON.
    re.compile(r"(?<!\{)\$?\{(?P<name>[^{}:!\n]+)(?:![rsa])?(?::[^\sA-Za-z{}]*[A-Za-z%]?)?\}(?!\})"),
    re.compile(r"%\((?P<name>[^()\n]+)\)[#0 +-]*\d*(?:\.\d+)?[a-zA-Z]"),  # %(text)s
)


def _empty_columns(maker: RequestMaker, source: Input) -> Iterator[str]:
    """Columns that a template shows and that hold nothing: such rows are sent and paid for."""
    uses = [template.uses for template in maker.builder.templates]
    shown = {(name,) for one in uses for name in one.required} | {path for one in uses for path in one.members}
    paths = {".".join(path): path for path in sorted(shown) if path[0] in source.columns}
    if not paths:
        return
    rows, characters = 0, 0
    nulls, empties = Counter[str](), Counter[str]()
    for batch in source.batches(sorted({path[0] for path in paths.values()})):
        looked_at = [row.values for row in batch.rows[: _LOOKED_AT_ROWS - rows]]
        rows += len(looked_at)
        for name, path in paths.items():
            values: list[Any] = looked_at
            for part in path:  # "-": not there, which is neither null nor empty
                values = [value.get(part, "-") if type(value) is dict else "-" for value in values]
            texts = [value for value in values if type(value) is str]
            nulls[name] += sum(value is None for value in values)
            characters += sum(map(len, texts))
            empties[name] += len(texts) - sum(map(bool, map(str.strip, texts)))
        if rows >= _LOOKED_AT_ROWS or characters > _LOOKED_AT_CHARACTERS:
            of = f"the first {rows:,} rows"
            break
    else:
        of = f"{rows:,} rows"
    for what, counted in (("null", nulls), ("empty", empties)):
        for name in paths:
            if counted[name]:
                yield f"column {name} is {what} in {counted[name]:,} of {of}; they are sent like the others"
