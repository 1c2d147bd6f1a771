"""The output folder: parts, journals, raw answers, run.json."""

from batchcall.disk import OWN_FOLDER
from batchcall.output.columns import USAGE_COLUMNS, Layout, add_left_out
from batchcall.output.earlier_answers import Bought, EarlierAnswers
from batchcall.output.generations import has_earlier
from batchcall.output.journal import Recovered, add_attempts, journal_name, journals_in, read_journals
from batchcall.output.output import (
    LOCK,
    SUCCESS,
    Earlier,
    OpenPart,
    Output,
    as_output_error,
    as_read_error,
    clear_remains,
    look_at_parts,
    make_folders,
    output_error,
    why_unwritable,
)
from batchcall.output.parts import (
    Match,
    Totals,
    Wanted,
    fits,
    kept_schema_of,
    matches,
    open_part,
    read_batches,
    read_raw,
    read_rows,
    read_totals,
    stored_answers,
    write_part,
)
from batchcall.output.results import no_output, read, read_failed, read_table
from batchcall.output.runfile import InputEntry, RunEntry, RunFile, read_runfile, write_runfile
from batchcall.output.stamps import AnswerCount, bought_from, has_bought
from batchcall.output.stored import by_row
from batchcall.output.waiting import Waiting

__all__ = [
    "LOCK",
    "OWN_FOLDER",
    "SUCCESS",
    "USAGE_COLUMNS",
    "AnswerCount",
    "Bought",
    "Earlier",
    "EarlierAnswers",
    "InputEntry",
    "Layout",
    "Match",
    "OpenPart",
    "Output",
    "Recovered",
    "RunEntry",
    "RunFile",
    "Totals",
    "Waiting",
    "Wanted",
    "add_attempts",
    "add_left_out",
    "as_output_error",
    "as_read_error",
    "bought_from",
    "by_row",
    "clear_remains",
    "fits",
    "has_bought",
    "has_earlier",
    "journal_name",
    "journals_in",
    "kept_schema_of",
    "look_at_parts",
    "make_folders",
    "matches",
    "no_output",
    "open_part",
    "output_error",
    "read",
    "read_batches",
    "read_failed",
    "read_journals",
    "read_raw",
    "read_rows",
    "read_runfile",
    "read_table",
    "read_totals",
    "stored_answers",
    "why_unwritable",
    "write_part",
    "write_runfile",
]
