"""From the bytes of an answer to the outcome of a row. Pure."""

from batchcall.answers.arguments import Toolbox
from batchcall.answers.read import (
    WORTH_REASKING,
    AnswerParser,
    Ended,
    ParsedAttempt,
    Prepared,
    bad_row,
    size_of,
    unread,
)

__all__ = [
    "WORTH_REASKING",
    "AnswerParser",
    "Ended",
    "ParsedAttempt",
    "Prepared",
    "Toolbox",
    "bad_row",
    "size_of",
    "unread",
]
