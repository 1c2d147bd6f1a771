"""What a run says: progress, summaries, advice."""

from batchcall.report.advice import Bounds, advice_text
from batchcall.report.progress import open_progress
from batchcall.report.snapshot import EndpointUse, Snapshot, Summary
from batchcall.report.text import (
    duration_text,
    failures_text,
    free_text,
    left_out_text,
    members_left_out_text,
    money_text,
    summary_text,
    table,
    tokens_text,
)

__all__ = [
    "Bounds",
    "EndpointUse",
    "Snapshot",
    "Summary",
    "advice_text",
    "duration_text",
    "failures_text",
    "free_text",
    "left_out_text",
    "members_left_out_text",
    "money_text",
    "open_progress",
    "summary_text",
    "table",
    "tokens_text",
]
