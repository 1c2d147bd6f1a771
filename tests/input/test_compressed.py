"""Compressed input: padding is passed over, whatever else stands behind the data is an error, a cut one too."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pyarrow as pa
import pytest

from batchcall.base.errors import InputError
from batchcall.input.compressed import decompressed
from batchcall.input.open_input import open_input

ONE, TWO = b'{"a": 1}\n', b'{"a": 2}\n'


def zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


def streamed(content: bytes) -> bytes:
    """One frame of several blocks that does not say how long it is."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
        stream.flush()
        stream.write(content)
    return bytes(sink.getvalue())


PACKED = {".jsonl.gz": gzip.compress, ".jsonl.zst": zstd}
SKIPPED = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"


def rows_in(folder: Path, ending: str, content: bytes) -> list[int]:
    path = folder / f"rows{ending}"
    path.write_bytes(content)
    source = open_input(str(path))
    found = [row.values["a"] for batch in source.batches(["a"]) for row in batch.rows]
    assert source.count_rows() == len(found)
    return found


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("zeros", [1, 2, 3, 4, 7, 512, 65_535, 65_536, 200_000])
def test_zeros_behind_the_data_and_between_are_passed_over(tmp_path: Path, ending: str, zeros: int) -> None:
    pack, padding = PACKED[ending], bytes(zeros)

    assert rows_in(tmp_path, ending, pack(ONE) + padding) == [1]
    assert rows_in(tmp_path, ending, pack(ONE) + padding + pack(TWO) + padding) == [1, 2]


@pytest.mark.parametrize("ending", PACKED)
def test_several_members_are_read_as_one_and_an_empty_one_ends_nothing(tmp_path: Path, ending: str) -> None:
    pack = PACKED[ending]

    assert rows_in(tmp_path, ending, pack(b"") + pack(ONE) + pack(b"") + pack(TWO) + pack(b"")) == [1, 2]
    assert rows_in(tmp_path, ending, pack(ONE[:4]) + pack(ONE[4:] + TWO)) == [1, 2]  # a line over two members


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("lines", [1, 30_000, 100_000])  # a few bytes that stand for many come out piece by piece
def test_of_several_members_each_comes_once_however_well_it_is_compressed(pack: object, lines: int) -> None:
    packed = pack(ONE * lines)  # type: ignore[operator]
    expected = ONE * lines * 3

    with decompressed(pa.BufferReader(packed * 3), "gzip" if pack is gzip.compress else "zstd") as stream:
        pieces = [stream.read(1 << 16) for _ in range(len(expected) // 100 + 4)]  # bounded: a fault may be without end

    assert b"".join(pieces) == expected


@pytest.mark.parametrize("place", range(3))
def test_skippable_frames_of_zstd_are_skipped(tmp_path: Path, place: int) -> None:
    pieces = [zstd(ONE), zstd(TWO)]
    pieces.insert(place, SKIPPED + bytes(5) + SKIPPED)

    assert rows_in(tmp_path, ".jsonl.zst", b"".join(pieces)) == [1, 2]


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize(
    "garbage", [b"j", b"junk behind", b"\n", b"PAR1", bytes(9) + b"junk", ONE, b"\x1f", b"\x28\xb5"]
)
def test_what_is_not_padding_is_an_error_that_says_where(tmp_path: Path, ending: str, garbage: bytes) -> None:
    name, packed = ending.rpartition(".")[2].replace("gz", "gzip").replace("zst", "zstd"), PACKED[ending](ONE)
    at = len(packed) + len(garbage) - len(garbage.lstrip(b"\0")) + 1

    with pytest.raises(InputError) as refused:
        rows_in(tmp_path, ending, packed + garbage)

    assert f"something that is not {name} follows the end of its data, from byte {at} on" in str(refused.value)
    assert "restore the file" in refused.value.hint


@pytest.mark.parametrize("ending", PACKED)
def test_rows_before_a_fault_that_lies_far_behind_arrive(tmp_path: Path, ending: str) -> None:
    dice = random.Random(3)
    lines = b"".join(b'{"a": %d, "b": "%x"}\n' % (number, dice.getrandbits(300)) for number in range(15_000))
    (tmp_path / f"rows{ending}").write_bytes(PACKED[ending](lines) + b"junk")
    batches = open_input(str(tmp_path / f"rows{ending}")).batches(["a"])
    arrived: list[int] = []

    with pytest.raises(InputError, match="follows the end of its data"):
        arrived.extend(batch.rows[-1].index for batch in batches)

    assert arrived[-1] > 10_000


@pytest.mark.parametrize("ending", PACKED)
def test_data_that_is_cut_anywhere_is_an_error(tmp_path: Path, ending: str) -> None:
    packed = PACKED[ending](ONE * 50)
    for length in range(1, len(packed)):
        with pytest.raises(InputError, match=r"cannot be read from line \d+ on"):
            rows_in(tmp_path, ending, packed[:length])
        if length > 20 and packed[length:].strip(b"\0"):  # zeros do not make it whole
            with pytest.raises(InputError):
                rows_in(tmp_path, ending, packed[:length] + bytes(64))


def test_a_skippable_frame_that_is_cut_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ends too early"):
        rows_in(tmp_path, ".jsonl.zst", zstd(ONE) + SKIPPED[:-1])


@pytest.mark.parametrize("ending", PACKED)
def test_zeros_alone_are_not_a_compressed_file(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InputError, match="it is not compressed with"):
        rows_in(tmp_path, ending, bytes(100))


@pytest.mark.parametrize("size", [0, 1, 100, 131_072, 131_073, 1_000_000])
@pytest.mark.parametrize("pack", [gzip.compress, zstd, streamed])
def test_every_shape_of_data_comes_out_whole_however_it_is_read(pack: object, size: int) -> None:
    content = random.Random(size).randbytes(size // 2) + b"x" * (size - size // 2)
    packed = pack(content)  # type: ignore[operator]
    expected = content * 2 if pack is streamed else content
    name = "gzip" if pack is gzip.compress else "zstd"
    with decompressed(pa.BufferReader(packed + bytes(3)), name) as stream:
        assert b"".join(iter(lambda: stream.read(1 << 16), b"")) == expected
    with decompressed(pa.BufferReader(packed + bytes(3)), name) as stream:
        assert b"".join(stream.read(3) for _ in range(100)) == expected[:300]
