"""Compressed files as a stream of bytes: several members or frames one after the other, padded with zeros or not."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa

_READ_BYTES = 1 << 16
_PIECE_BYTES = 1 << 18  # a few bytes may stand for gigabytes, so that much is decompressed at a time
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_CUT = "its compressed data ends too early"
_SKIPPABLE = b"\x2a\x4d\x18"  # behind one byte, 0x50 to 0x5f


def decompressed(raw: Any, compression: str) -> AbstractContextManager[Any]:
    """What `raw`, an open stream, holds once it is decompressed: an object with `read`. Raises OSError, there too."""
    source = _Source(raw, _READ_BYTES)
    if compression == "gzip":
        return _Pieces(_gunzipped(source), source.close)
    frames: Any = io.BufferedReader(_Pieces(_frames(source), source.close))
    stream: AbstractContextManager[Any] = pa.CompressedInputStream(pa.PythonFile(frames, mode="r"), "zstd")
    return stream


# What may follow the data of a member or frame, and what becomes of it:
#
# - another member or frame: it is read on (`cat a.gz b.gz`, parallel compressors);
# - zero bytes: they are passed over, as `gzip -d` does; tapes, `dd` and some object stores fill files up with them;
# - nothing: the end, unless the member or frame is cut short: then it is an error;
# - anything else: an error that names the byte, as rows might be missing.


class _Source(io.BufferedReader):
    """The compressed bytes, and where in the file they are."""

    offset = 0  # of the next byte that is read

    def read(self, size: int | None = -1, /) -> bytes:
        taken = super().read(size)
        self.offset += len(taken)
        return taken

    def skip(self, size: int) -> None:
        """Go on behind so many bytes. Raises OSError where there are fewer."""
        while size:
            if not (skipped := self.read(min(size, _READ_BYTES))):
                raise OSError(_CUT)
            size -= len(skipped)

    def pass_over_zeros(self) -> bool:
        """Go on to the next byte that is not padding. False at the end of the file."""
        while held := self.peek():
            zeros = len(held) - len(held.lstrip(b"\0"))
            self.read(zeros)
            if zeros < len(held):
                return True
        return False


def _refuse_foreign(start: bytes, name: str, source: _Source) -> None:
    """Raise OSError: neither the start of a file nor what stands behind its data is what the name says."""
    at = source.offset - len(start)
    if at == 0:
        raise OSError(f"it is not compressed with {name}")
    raise OSError(f"something that is not {name} follows the end of its data, from byte {at + 1:,} on")


def _gunzipped(source: _Source) -> Iterator[bytes]:
    """What the members hold, each piece as soon as it is there: no good line before a fault is lost.

    After an OSError it is over: whoever reads on gets nothing.
    """
    while start := source.read(2):
        if start != _GZIP:
            _refuse_foreign(start, "gzip", source)
        member: Any = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        member.decompress(start)
        while not member.eof:
            if not (given := source.peek()):
                raise OSError(_CUT)
            try:
                piece: bytes = member.decompress(given, _PIECE_BYTES)
            except zlib.error as error:
                raise OSError(f"its compressed data is damaged: {error}") from error
            # Behind the end both may hold the same bytes.
            source.read(len(given) - len(member.unused_data if member.eof else member.unconsumed_tail))
            if piece:
                yield piece
        if not source.pass_over_zeros():
            return


def _frames(source: _Source) -> Iterator[bytes]:
    """The bytes of the frames alone. Their blocks say how long they are, so nothing is decompressed here (RFC 8878).

    A frame that is cut short is given as it is: decompressing it raises the error.
    """
    while start := source.read(4):
        if start[1:] == _SKIPPABLE and start[0] >> 4 == 5:
            source.skip(int.from_bytes(source.read(4), "little"))
        elif start == _ZSTD:
            yield start
            yield from _frame(source)
        else:
            _refuse_foreign(start, "zstd", source)
        if not source.pass_over_zeros():
            return


def _frame(source: _Source) -> Iterator[bytes]:
    """A frame behind its magic number: header, blocks, checksum."""
    # RFC 8878, 3.1.1: the descriptor says how long the header is, which a window, a dictionary and a size make longer.
    # A block of one repeated byte holds that byte alone, whatever length it stands for.
    descriptor = source.read(1)
    flags = descriptor[0] if descriptor else 0
    is_single = flags >> 5 & 1
    size_bytes = (is_single, 2, 4, 8)[flags >> 6]
    yield descriptor + source.read(1 - is_single + (0, 1, 2, 4)[flags & 3] + size_bytes)
    is_last = False
    while not is_last and len(header := source.read(3)) == 3:
        block = int.from_bytes(header, "little")
        is_last, is_repeated = bool(block & 1), block >> 1 & 3 == 1
        yield header + source.read(1 if is_repeated else block >> 3)
    if is_last and flags >> 2 & 1:
        yield source.read(4)


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
        super().__init__()
        self._pieces = pieces
        self._close = close
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._close()
        super().close()
