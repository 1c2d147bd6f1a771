"""Values that conform to a JSON Schema, drawn from a digest and, where a field can be filled from it, from the text."""

from __future__ import annotations

import random
import re
from typing import Any

Schema = Any  # a JSON Schema: an object or a boolean

_DEEPEST = 8  # below it a recursive schema is given its smallest values
_ALIASES = {
    "dict": "object", "hashmap": "object", "map": "object", "float": "number", "double": "number", "long": "integer",
    "int": "integer", "short": "integer", "byte": "integer", "char": "string", "str": "string", "text": "string",
    "list": "array", "tuple": "array", "arraylist": "array", "set": "array", "bool": "boolean",
}  # fmt: skip


class Source:
    """Where values come from: dice that are the same for the same request, and the request's own text."""

    def __init__(self, digest: bytes, text: str) -> None:
        self.dice = random.Random(digest)
        self.text = text
        self.words = re.findall(r"[^\W_][\w'-]*", text)[:400] or ["word"]
        self.numbers = [float(found) for found in re.findall(r"(?<![\w.])-?\d{1,9}(?:\.\d{1,6})?(?![\w.])", text)[:50]]

    def labelled(self, name: str) -> str | None:
        """What stands behind `Name:` in the text, None where nothing does."""
        label = r"[\s_-]*".join(map(re.escape, re.split(r"[_\s-]+", name)))
        found = re.search(rf"(?im)^[ \t>*-]*{label}[ \t]*:[ \t]*(\S.*?)[ \t]*$", self.text)
        return found[1] if found else None
