"""Tables in a temporary SQLite file: bounded memory, any order. Built at each start, so they never disagree with the
files of the output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


@contextlib.contextmanager
def new_tables(script: str) -> Iterator[sqlite3.Connection]:
    """The tables that a script makes, to be filled in the block; where that fails, they are closed."""
    import sqlite3

    # Nothing of them has to survive, so SQLite never syncs, and to fill them is one transaction.
    tables = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # "": a file without a name
    try:
        tables.executescript(f"PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; {script}; BEGIN")
        yield tables
        tables.execute("COMMIT")
    except BaseException:
        tables.close()
        raise
