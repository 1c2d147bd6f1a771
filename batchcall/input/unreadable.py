"""What reading damaged bytes may raise: all of it is the file's fault, and is translated where it is born."""

from __future__ import annotations

import pyarrow as pa

# A name that is not UTF-8, a place out of bounds, a size beyond all memory, a key of the footer that is gone.
UNREADABLE: tuple[type[Exception], ...] = (
    OSError,
    pa.ArrowException,
    ValueError,
    OverflowError,
    MemoryError,
    LookupError,
    TypeError,
)
