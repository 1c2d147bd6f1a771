"""The spine of a run, from the job file to its summary.

Names are imported when they are first used: the process that rereads answers starts without an HTTP client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchcall.pipeline.context import RunOptions, new_loop
    from batchcall.pipeline.descriptors import room_for
    from batchcall.pipeline.finish import tolerated
    from batchcall.pipeline.forecast import forecast_of
    from batchcall.pipeline.job_or_folder import job_at, output_at, places
    from batchcall.pipeline.open_engine import Say
    from batchcall.pipeline.progress_feed import Show
    from batchcall.pipeline.request_maker import RequestMaker, answer_parser_of, make_request_maker, model_of
    from batchcall.pipeline.reread import ReadingChild
    from batchcall.pipeline.resume import (
        REVALIDATED,
        is_correction,
        is_free,
        job_notes,
        layout_fingerprint,
        marks_of,
        read_with,
        refuse_foreign_folder,
        unfit_without_record,
        validation_note,
        wanted_by_part,
        why_refused,
    )
    from batchcall.pipeline.run import StopSwitch, prepare, refuse_network, run_job
    from batchcall.pipeline.unpublished import Unpublished, skimming, unpublished_answers
    from batchcall.pipeline.warnings import doubts

__all__ = [
    "REVALIDATED",
    "ReadingChild",
    "RequestMaker",
    "RunOptions",
    "Say",
    "Show",
    "StopSwitch",
    "Unpublished",
    "answer_parser_of",
    "doubts",
    "forecast_of",
    "is_correction",
    "is_free",
    "job_at",
    "job_notes",
    "layout_fingerprint",
    "make_request_maker",
    "marks_of",
    "model_of",
    "new_loop",
    "output_at",
    "places",
    "prepare",
    "read_with",
    "refuse_foreign_folder",
    "refuse_network",
    "room_for",
    "run_job",
    "skimming",
    "tolerated",
    "unfit_without_record",
    "unpublished_answers",
    "validation_note",
    "wanted_by_part",
    "why_refused",
]

_HOMES = {
    "context": "RunOptions new_loop",
    "descriptors": "room_for",
    "finish": "tolerated",
    "forecast": "forecast_of",
    "job_or_folder": "job_at output_at places",
    "progress_feed": "Show",
    "request_maker": "RequestMaker answer_parser_of make_request_maker model_of",
    "reread": "ReadingChild",
    "resume": "REVALIDATED is_correction is_free job_notes layout_fingerprint marks_of read_with refuse_foreign_folder"
    " unfit_without_record validation_note wanted_by_part why_refused",
    "open_engine": "Say",
    "run": "StopSwitch prepare refuse_network run_job",
    "unpublished": "Unpublished skimming unpublished_answers",
    "warnings": "doubts",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
