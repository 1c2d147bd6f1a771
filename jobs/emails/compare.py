#!/usr/bin/env python3
"""Compares what was extracted with the e-mails' own headers.   python compare.py [OUTPUT_DIRECTORY]"""

from __future__ import annotations

import email
import email.utils
import sys
from collections import Counter
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import Any

import pyarrow.dataset

HERE = Path(__file__).resolve().parent
FIELDS = ("from.name", "from.email", "to", "subject", "date", "message_id", "is_reply", "solicited")
SOLICITED = {"personal", "mailing list", "newsletter", "notification"}


def main(output: Path) -> None:
    columns = ["status", "text", "group", "arguments"]
    rows = pyarrow.dataset.dataset(output).to_table(columns=columns).to_pylist()
    answered = [row for row in rows if row["arguments"] is not None]
    equal = count_equal(answered)
    print(f"{len(rows)} rows, {len(answered)} answered")
    for field in FIELDS:
        print(f"{field:12}{equal[field]:8} equal{equal[field] / max(1, len(answered)):8.1%}")


def count_equal(rows: list[dict[str, Any]]) -> Counter[str]:
    equal: Counter[str] = Counter()
    for row in rows:
        truth = truth_of(row["text"], row["group"])
        found = flatten(row["arguments"])
        equal.update(field for field in FIELDS if found[field] == truth[field])
    return equal


def truth_of(text: str, group: str) -> dict[str, Any]:
    message = email.message_from_string(text)
    name, address = email.utils.parseaddr(header(message, "From") or "")
    return {
        "from.name": name or None,
        "from.email": address,
        "to": [found for _, found in email.utils.getaddresses([header(message, "To") or ""])],
        "subject": header(message, "Subject"),
        "date": header(message, "Date"),
        "message_id": header(message, "Message-Id"),
        "is_reply": "In-Reply-To" in message or "References" in message,
        "solicited": "ham" in group,
    }


def header(message: Message, name: str) -> str | None:
    """Unfolded: a header goes on over lines that start with a blank."""
    value = message.get(name)
    return None if value is None else " ".join(str(value).split())


def flatten(arguments: Mapping[str, Any]) -> dict[str, Any]:
    sender = arguments["from"] or {}
    return {
        **arguments,
        "from.name": sender.get("name"),
        "from.email": sender.get("email"),
        "to": [mailbox["email"] for mailbox in arguments["to"] or []],
        "solicited": arguments["kind"] in SOLICITED,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "out" / "emails")
