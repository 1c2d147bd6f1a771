"""Rows out of JSONL and Parquet files, and the columns of them that are kept."""

from batchcall.input.arrow_values import REFUSALS, bytes_of, cleaned, fitted_array
from batchcall.input.kept_columns import KeptColumns, KeptRow, LeftOut
from batchcall.input.open_input import Input, open_input
from batchcall.input.unreadable import UNREADABLE
from batchcall.input.values import Batch, Mark

__all__ = [
    "REFUSALS",
    "UNREADABLE",
    "Batch",
    "Input",
    "KeptColumns",
    "KeptRow",
    "LeftOut",
    "Mark",
    "bytes_of",
    "cleaned",
    "fitted_array",
    "open_input",
]
