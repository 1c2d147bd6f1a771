"""Rows from JSONL, plain or compressed: a line at a time in bounded memory. A bad line costs itself and no other."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import repeat
from typing import Any, NamedTuple, NoReturn

import msgspec
import pyarrow as pa

from batchcall.base import InputError, Row, is_deeper
from batchcall.input.compressed import decompressed
from batchcall.input.files import FileSet, InputFile, reason
from batchcall.input.kept_columns import KeptColumns
from batchcall.input.values import BATCH_BYTES, BATCH_ROWS, BEGINNING, Batch, Mark

SAMPLE_ROWS = 10_000
SAMPLE_BYTES = 16 * 1024 * 1024
_HELD_BYTES = BATCH_BYTES  # of lines of the sample: as much as a batch, whatever objects these become
MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 128  # deeper values break the writers of JSON further on

_BLOCK_BYTES = 256 * 1024
_REMOTE_BLOCK_BYTES = 4 * 1024 * 1024  # one request to the store each
_BOM = b"\xef\xbb\xbf"

# Starts of files that are not what their name says.
_NOT_JSONL = {
    b"\x1f\x8b": "is compressed with gzip: name it .jsonl.gz",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: name it .jsonl.zst",
    b"PAR1": "is a Parquet file: name it .parquet",
    b"\xff\xfe": "is UTF-16: convert it, e.g. `iconv -f utf-16 -t utf-8`",
    b"\xfe\xff": "is UTF-16: convert it, e.g. `iconv -f utf-16 -t utf-8`",
}


class JsonlTable:
    """JSONL files as a table. Its columns are those that a sample of its first rows has."""

    notes: tuple[str, ...] = ()

    def __init__(self, files: FileSet) -> None:
        """Reads the sample. Raises InputError when a file cannot be read, or none has a row."""
        self._files = files
        self._first_fault: str | None = None
        self._known: list[tuple[_Line, _Parsed]] = []  # the first lines, which a small input is all of: see `_parsed`
        seen: dict[tuple[str, _Kind], None] = {}  # in the order first seen
        rows = size = 0
        blocks = ((file, block) for file in files.files for block in self._blocks(file, BEGINNING))
        for file, line in ((file, line) for file, block in blocks for line in block.rows()):
            rows += 1
            size += len(line[0])
            values, fault = parsed = _parse(line)
            if size <= _HELD_BYTES:
                self._known.append((line, parsed))
            if fault is not None and self._first_fault is None:
                self._first_fault = f"{file.name}:{line[2]}: {fault}"
            for name, value in values.items():
                kind = type(value) if type(value) is not int else _width(value)
                if (name, kind) not in seen:
                    seen[name, kind] = None
            if rows >= SAMPLE_ROWS or size >= SAMPLE_BYTES:
                break
        if not rows:
            raise InputError(f"{files.shown} has no rows", hint="an input is one JSON object per line")
        kinds: dict[str, set[_Kind]] = {}
        for name, kind in seen:
            kinds.setdefault(name, set()).add(kind)
        self.schema = pa.schema([(name, _column_type(found)) for name, found in kinds.items()])

    def batches(
        self, columns: Collection[str], start: Mark, start_row: int, keep: KeptColumns | None = None
    ) -> Iterator[Batch]:
        known = self.schema.names
        wanted = _Wanted(
            (*(name for name in known if name in columns), *sorted(set(columns) - set(known))),
            set(columns) >= set(known),
            keep,
        )
        for number in range(start.file, len(self._files.files)):
            row = yield from self._batches_of(number, start, wanted, start_row)
            start = Mark(row, number + 1, 0, 1)

    def count_rows(self) -> int:
        return sum(block.count_rows() for file in self._files.files for block in self._blocks(file, BEGINNING))

    def values_of(self, column: str) -> Iterator[list[Any]] | None:
        # Of a line that has other columns too, those are passed over: that is far cheaper than to make objects of them.
        try:
            named = msgspec.defstruct("Named", [("value", Any, None)], rename={"value": column})
        except ValueError:  # a name with quotes
            return None
        blocks = (block for file in self._files.files for block in self._blocks(file, BEGINNING))
        return _values_of(column, msgspec.json.Decoder(named).decode, blocks)

    def check(self, columns: Collection[str]) -> None:
        """Rows may differ: what one lacks is missing in that row alone."""

    def why_no_columns(self) -> str:
        if self.schema or self._first_fault is None:
            return "the columns are taken from the first 10,000 rows"
        return f"no line of the sample is a JSON object; {self._first_fault}"

    def _batches_of(self, number: int, start: Mark, wanted: _Wanted, start_row: int) -> Generator[Batch, None, int]:
        """Rows of one file, from a mark in it on. Returns the position of the row behind its last."""
        file = self._files.files[number]
        row = start.row
        lines: list[_Line] = []
        mark, size = start, 0
        # What is done is counted, not parsed. A batch carries the mark of its own first line, so that the next run
        # begins there; a compressed file can be read from its start only, so all of its batches carry that.
        for block in self._blocks(file, start):
            if row < start_row and row + (skipped := block.count_rows()) <= start_row:
                row += skipped
                continue
            for line in block.rows():
                if row >= start_row:
                    text, offset, line_number, *_ = line
                    if not lines and file.format.compression is None:
                        mark = Mark(row, number, offset, line_number)
                    lines.append(line)
                    size += len(text)
                    if len(lines) == BATCH_ROWS or size >= BATCH_BYTES:
                        yield Batch(self._as_rows(row + 1 - len(lines), file.name, lines, wanted), mark)
                        lines, size = [], 0
                row += 1
        if lines:
            yield Batch(self._as_rows(row - len(lines), file.name, lines, wanted), mark)
        return row

    def _as_rows(self, first: int, file: str, lines: list[_Line], wanted: _Wanted) -> list[Row]:
        parsed = self._parsed(first, lines)
        values = [values for values, _ in parsed]
        kept = wanted.keep.of_values(values) if wanted.keep is not None else repeat(None)
        rows = enumerate(zip(wanted.of(values), lines, parsed, kept, strict=False), first)
        return [
            Row(index, chosen, f"{file}:{number}", why, of_row)
            for index, (chosen, (_, _, number, _, _), (_, why), of_row) in rows
        ]

    def _parsed(self, first: int, lines: list[_Line]) -> list[_Parsed]:
        """What each line holds. `first` is the number of the first row."""
        # An input is read several times before the first request: for its columns, for what may be wrong with it, for
        # parts that are there. The lines that were parsed for its columns are not parsed again, if they are the same.
        known = self._known[first : first + len(lines)]
        if [line for line, _ in known] == lines:
            return [parsed for _, parsed in known]
        if first >= len(self._known):  # whoever reads this far mostly needs them no more
            self._known = []
        return list(map(_parse, lines))

    def _blocks(self, file: InputFile, start: Mark) -> Iterator[_Block]:
        """The file's lines from a mark on, some hundred at a time."""
        # A bad line costs its row; a file that goes bad ends the run: a row is known by its position, and nobody knows
        # the positions of the rows behind the fault.
        number = start.line
        try:
            if not number:  # it was not noted in the mark
                number = self._number_of_line_at(file, start.offset)
            with self._opened(file, start.offset) as stream:
                for block in _blocks_of(stream, start.offset, number, self._block_bytes()):
                    number = block.number + len(block.lines)
                    if block.offset == 0:
                        for beginning, what in _NOT_JSONL.items():
                            if block.lines[0].startswith(beginning):
                                raise InputError(f"{file.name} is not JSONL: it {what}")
                    yield block
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{file.name} cannot be read from line {number:,} on: {reason(error)}",
                hint="it is not known how many rows are missing: restore the file, then run the same command again",
            ) from error

    def _opened(self, file: InputFile, offset: int) -> AbstractContextManager[Any]:
        filesystem = self._files.filesystem
        stream: AbstractContextManager[Any]
        if file.format.compression is not None:
            raw = filesystem.open_input_stream(file.path, compression=None, buffer_size=self._block_bytes())
            stream = decompressed(raw, file.format.compression)
        else:
            stream = plain = filesystem.open_input_file(file.path)
            plain.seek(offset)
        return stream

    def _block_bytes(self) -> int:
        return _REMOTE_BLOCK_BYTES if self._files.is_remote else _BLOCK_BYTES

    def _number_of_line_at(self, file: InputFile, offset: int) -> int:
        number = 1
        with self._opened(file, 0) as stream:
            while offset and (read := stream.read(min(offset, self._block_bytes()))):
                number += read.count(b"\n")
                offset -= len(read)
        return number


# A line that is not blank: its text; the offset of its first byte in the file; its number, from 1, blank lines too;
# whether it is too long, then its text is only its beginning; whether no newline follows, as the file ends with it.
# A plain tuple, as one is made of each line for each time that an input is read.
_Line = tuple[bytes, int, int, bool, bool]
# What a line holds, or why that cannot be known.
_Parsed = tuple[dict[str, Any], str | None]


class _Block(msgspec.Struct, frozen=True):
    """Consecutive lines of a file."""

    offset: int  # of the first line
    number: int  # of the first line
    lines: list[bytes]
    dropped: int = 0  # bytes missing of the first line
    is_cut: bool = False  # no newline follows the last line

    def rows(self) -> Iterator[_Line]:
        """The lines that are not blank."""
        offset, dropped, is_cut = self.offset, self.dropped, self.is_cut
        for number, text in enumerate(self.lines, self.number):
            size = len(text) + dropped
            if text[:1] == b"{" or not _is_blank(text):
                yield text, offset, number, size > MAX_LINE_BYTES, is_cut
            offset += size + 1
            dropped = 0

    def count_rows(self) -> int:
        return sum([text[:1] == b"{" or not _is_blank(text) for text in self.lines])


def _is_blank(line: bytes) -> bool:
    return not line or line.isspace() or (len(line) < 5 and line.strip() == _BOM)


def _blocks_of(stream: Any, offset: int, number: int, block_bytes: int) -> Iterator[_Block]:
    """Split a stream into lines. Of a line that is too long only the beginning is held."""
    held: list[bytes] = []  # the line that the block before did not end
    held_bytes = dropped = 0  # of that line; `dropped` is what it had beyond `held`, and still counts for the offsets
    while piece := stream.read(block_bytes):
        # As piece.split(b"\n") has them; that looks at one byte after the other, and takes thirty times as long.
        lines = [line[:-1] for line in io.BytesIO(piece + b"\n")]
        if len(lines) > 1:
            held.append(lines[0])
            held_bytes += len(lines[0])
            lines[0] = b"".join(held)
            rest = lines.pop()
            yield _Block(offset, number, lines, dropped)
            offset += dropped + sum(map(len, lines)) + len(lines)
            number += len(lines)
            held, held_bytes, dropped = [rest], len(rest), 0
        else:
            held.append(piece)
            held_bytes += len(piece)
        if held_bytes > MAX_LINE_BYTES:
            dropped += held_bytes - len(held[0])
            del held[1:]
            held_bytes = len(held[0])
    if held_bytes:
        yield _Block(offset, number, [b"".join(held)], dropped, is_cut=True)


class _Wanted(NamedTuple):
    """What is read of a line."""

    names: tuple[str, ...]  # in this order
    whole: bool  # and behind them whatever else it has
    keep: KeptColumns | None

    def of(self, parsed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        chosen = [{name: values[name] for name in self.names if name in values} for values in parsed]
        if self.whole:
            pairs = zip(chosen, parsed, strict=True)
            chosen = [some | values if len(some) < len(values) else some for some, values in pairs]
        return chosen


def _values_of(column: str, decode: Callable[[bytes], Any], blocks: Iterable[_Block]) -> Iterator[list[Any]]:
    for block in blocks:
        lines = list(block.rows())
        try:
            yield [decode(text).value for text, *_ in lines]
        except _REFUSED:
            yield [_parse(line)[0].get(column) for line in lines]


class _LineFault(Exception):
    """Why a line cannot be a row, in a sentence."""


class _NotJson(_LineFault):
    """A line whose end may be missing."""


def _parse(line: _Line) -> _Parsed:
    text, _, _, is_too_long, is_cut = line
    if is_too_long:
        return {}, f"the line is longer than {MAX_LINE_BYTES >> 20} MiB"
    try:
        return parse_line(text), None
    except _LineFault as fault:
        is_unfinished = is_cut and isinstance(fault, _NotJson)
        return {}, f"the file ends in the middle of this line: {fault}" if is_unfinished else str(fault)


def parse_line(line: bytes) -> dict[str, Any]:
    """The object that a line holds, integers exact, halves of surrogate pairs replaced by U+FFFD."""
    # msgspec goes first, for its speed: it never gets a value wrong in silence, as orjson does with integers beyond 64
    # bits, which become floats. What it refuses is read by the slow way.
    try:
        value = _decode(line)
    except _REFUSED:
        value = _parse_slowly(line)
    if type(value) is not dict:
        raise _LineFault(f"the line is {_JSON_NAMES[type(value)]}, not an object")
    # Only a nested value can be deep, and none with few brackets is.
    is_nested = not _NESTED.isdisjoint(map(type, value.values()))
    if is_nested and _brackets(line) > MAX_DEPTH and is_deeper(value, MAX_DEPTH):
        raise _LineFault(_TOO_DEEP)
    return value


_decode = msgspec.json.Decoder().decode
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NESTED = frozenset({dict, list})


def _brackets(line: bytes) -> int:
    return line.count(b"{") + line.count(b"[")


_TOO_DEEP = f"the line is nested deeper than {MAX_DEPTH} levels"
_JSON_NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _parse_slowly(line: bytes) -> Any:
    """By the standard library, which reads more lines than msgspec (those with halves of surrogate pairs), and whose
    errors say more."""
    try:
        value = _DECODER.decode(line.removeprefix(_BOM).decode())
    except UnicodeDecodeError as error:
        raise _NotJson(f"the line is not UTF-8, from byte {error.start + 1} on") from None
    except json.JSONDecodeError as error:
        raise _NotJson(f"the line is not JSON: {error.msg}, at column {error.colno}") from None
    except ValueError:
        raise _LineFault("the line has an integer of more than 4,300 digits") from None
    except RecursionError:
        raise _LineFault(_TOO_DEEP) from None
    if b"\\u" not in line:
        return value
    # Halves of surrogate pairs become U+FFFD by a way through UTF-16; whole pairs come out as they were.
    text = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
    return json.loads(text.decode("utf-16-le", "replace"))


def _refuse_constant(name: str) -> NoReturn:
    raise _LineFault(f"the line is not JSON: it contains {name}")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise _LineFault(f"the line has a number that is too large: {digits[:40]}")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


_Kind = type | str  # of a value: its type; of an integer how wide it is


def _width(value: int) -> _Kind:
    if -_FLOATS_ARE_EXACT <= value <= _FLOATS_ARE_EXACT:
        return int
    return "wide" if -(2**63) <= value < 2**63 else "big"


_FLOATS_ARE_EXACT = 2**53


def _column_type(kinds: set[_Kind]) -> pa.DataType:
    """What holds all values of a column; text holds the JSON of what fits nothing else."""
    present = kinds - {type(None)}
    for fitting, column_type in _TYPES:
        if present and present <= fitting:
            return column_type
    return pa.string()


# Floats hold integers exactly up to 2**53. So a column of floats and longer integers has no type that holds both, and
# becomes text, as does one with an integer beyond 64 bits.
_TYPES: tuple[tuple[set[_Kind], pa.DataType], ...] = (
    ({bool}, pa.bool_()),
    ({int, "wide"}, pa.int64()),
    ({int, float}, pa.float64()),
)
