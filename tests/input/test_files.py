"""Which files an input is made of, and what a person is told when it is none."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchcall.input.files
from batchcall.base.errors import InputError
from batchcall.input.open_input import Input, open_input

LINE = b'{"a": 1}\n'


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pq.write_table(pa.table({"a": [1]}), path)
        else:
            path.write_bytes(LINE)


def names_of(source: Input) -> list[str]:
    return [file.name for file in source.files]


def error_of(path: Path | str) -> InputError:
    with pytest.raises(InputError) as caught:
        open_input(str(path))
    return caught.value


def test_a_directory_is_read_in_the_order_of_names_without_hidden_and_foreign_files(tmp_path: Path) -> None:
    make(tmp_path, "b.jsonl", "a.ndjson", "B.JSONL", "_tmp.jsonl", ".b.jsonl", "notes.txt", "below/c.jsonl")

    source = open_input(str(tmp_path))

    assert names_of(source) == ["B.JSONL", "a.ndjson", "b.jsonl"]
    assert source.count_rows() == 3


@pytest.mark.parametrize("path", ["**", "**/*.parquet", "*/*.parquet", "out"])
def test_the_jobs_own_output_is_not_an_input(tmp_path: Path, path: str) -> None:
    make(tmp_path, "in/a.parquet", "out/part-000000.parquet", "out/b.parquet", "out-rehearsal/part-000000.parquet")
    make(tmp_path, "other/part-000000.parquet")
    (tmp_path / "out" / "_batchcall").mkdir()

    of_run = open_input(str(tmp_path / path), output=tmp_path / "out")
    of_rehearsal = open_input(str(tmp_path / path), output=tmp_path / "out-rehearsal")

    rows = ["b.parquet"] if path == "out" else ["in/a.parquet", "other/part-000000.parquet", "out/b.parquet"]
    assert names_of(of_run) == names_of(of_rehearsal) == rows


def test_an_input_of_nothing_but_the_jobs_own_parts_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "part-000000.parquet")

    with pytest.raises(InputError, match="contains only files that this job wrote"):
        open_input(str(tmp_path), output=tmp_path)


def test_an_output_is_an_input(tmp_path: Path) -> None:
    make(tmp_path, "part-000000.parquet", "part-000001.parquet", "_batchcall/answers/part-000000.parquet")
    (tmp_path / "_SUCCESS").touch()

    assert names_of(open_input(str(tmp_path))) == ["part-000000.parquet", "part-000001.parquet"]
    assert names_of(open_input(f"{tmp_path}/**")) == ["part-000000.parquet", "part-000001.parquet"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jsonl", ["a.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]),
        ("**", ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]),
        ("x/**/*.jsonl", ["b.jsonl", "y/c.jsonl"]),
        ("**/y/*.jsonl", ["x/y/c.jsonl"]),
        ("x/[bc].jsonl", ["b.jsonl"]),
        ("?/b.jsonl", ["x/b.jsonl"]),
        ("x/y*", ["y/c.jsonl"]),
        ("_*/d.jsonl", ["_h/d.jsonl"]),
    ],
)
def test_a_glob_names_files(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    make(tmp_path, "a.jsonl", "x/b.jsonl", "x/y/c.jsonl", "_h/d.jsonl")

    assert names_of(open_input(f"{tmp_path}/{pattern}")) == expected
    assert names_of(open_input(f"file://{tmp_path}/{pattern}".replace("?", "[xz]"))) == expected


def test_a_name_may_have_brackets_in_it(tmp_path: Path) -> None:
    make(tmp_path, "data[1].jsonl")

    assert names_of(open_input(f"{tmp_path}/data[1].jsonl")) == ["data[1].jsonl"]


def test_a_relative_path_is_read_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "x/a.jsonl")
    monkeypatch.chdir(tmp_path)

    assert names_of(open_input("x/a.jsonl")) == ["a.jsonl"]
    assert names_of(open_input("*/a.jsonl")) == ["x/a.jsonl"]


def test_a_uri_may_hold_spaces(tmp_path: Path) -> None:
    make(tmp_path, "my data/a b.jsonl")

    assert names_of(open_input(f"file://{tmp_path}/my data/a b.jsonl")) == ["a b.jsonl"]
    assert names_of(open_input(f"file://{tmp_path}/my%20data/a%20*.jsonl")) == ["a b.jsonl"]


def test_a_missing_file_is_reported_with_its_neighbours(tmp_path: Path) -> None:
    make(tmp_path, "receipts.jsonl")

    error = error_of(tmp_path / "receits.jsonl")

    assert str(error) == f"{tmp_path}/receits.jsonl does not exist"
    assert error.hint == "did you mean receipts.jsonl?"


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    assert "the folder" in error_of(tmp_path / "no" / "rows.jsonl").hint


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("rows.json", "jq -c '.[]'"),
        ("rows.csv", "duckdb"),
        ("rows.txt", "rename it to .jsonl"),
        ("rows.gz", "rename it to .jsonl.gz"),
        ("rows.xlsx", "convert it to one of these"),
    ],
)
def test_a_format_that_is_not_read_is_reported_with_a_way_out(tmp_path: Path, name: str, advice: str) -> None:
    make(tmp_path, name)

    error = error_of(tmp_path / name)

    assert ".parquet, .jsonl (.ndjson), .jsonl.gz and .jsonl.zst" in str(error)
    assert advice in error.hint


def test_a_directory_without_input_says_what_it_holds(tmp_path: Path) -> None:
    empty = error_of(tmp_path)
    make(tmp_path, "a.csv", "below/b.jsonl")
    foreign = error_of(tmp_path)

    assert "contains no input file" in str(empty)
    assert empty.hint == "the directory is empty"
    assert foreign.hint == f"it contains a.csv, below; for files in folders below write {tmp_path}/**"


def test_a_glob_that_matches_nothing_says_so(tmp_path: Path) -> None:
    make(tmp_path, "a.csv")

    assert "matches no input file" in str(error_of(tmp_path / "*.jsonl"))
    assert error_of(tmp_path / "*.csv").hint == "it matches a.csv"


def test_mixed_formats_are_an_error(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl", "b.parquet")

    assert "mixes formats: a.jsonl and b.parquet" in str(error_of(tmp_path))


def test_a_file_beside_its_compressed_copy_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl", "a.jsonl.gz")

    assert "a.jsonl and a.jsonl.gz, which look like the same rows twice" in str(error_of(tmp_path))


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bad{bucket/rows.jsonl",
        "s3:///rows.jsonl",
        "s3://%zz/rows.jsonl",
        "ftp://host/rows.jsonl",
        "https://host/rows.jsonl",
        "abfs://x",
        "file://elsewhere/rows.jsonl",
    ],
)
def test_a_uri_that_means_nothing_is_reported(uri: str) -> None:
    error = error_of(uri)

    assert str(error).startswith(f"{uri} cannot be opened: ")
    assert "s3://, gs://, abfs:// or file://" in error.hint


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:abc/canary+def@bucket/x.parquet",
        "s3://AKIA:abc@canary@bucket/x.parquet",
        "s3://bucket/x.parquet?region=eu&secret_key=canary",
        f"s3://AKIA:{'abc/' * 60}canary@bucket/x.parquet",
    ],
)
def test_credentials_in_a_uri_that_is_written_wrongly_are_not_shown_either(uri: str) -> None:
    told = str(error_of(uri))

    assert "***" in told
    assert "canary" not in told
    assert "abc" not in told


def test_credentials_in_a_uri_are_never_shown() -> None:
    error = error_of("s3://AKIA123:s3cr3t@bad{bucket/rows.jsonl")

    assert "s3cr3t" not in str(error)
    assert "s3://***@bad{bucket/rows.jsonl" in str(error)


def test_what_is_not_a_file_is_reported(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as unix:
        unix.bind(os.path.relpath(tmp_path / "rows.jsonl"))

        error = error_of(tmp_path / "rows.jsonl")

    assert "neither a file nor a directory" in str(error)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root reads everything: step down for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that others can enter."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.jsonl.gz"])
def test_a_file_that_may_not_be_read_is_reported(open_folder: Path, name: str) -> None:
    make(open_folder, name)
    (open_folder / name).chmod(0)

    with as_nobody():
        error = error_of(open_folder / name)

    assert name in str(error)
    assert "Permission denied" in str(error)


def test_a_folder_that_may_not_be_listed_is_reported(open_folder: Path) -> None:
    make(open_folder, "closed/a.jsonl")
    (open_folder / "closed").chmod(0)

    with as_nobody():
        listed = error_of(open_folder / "closed")
        within = error_of(open_folder / "closed" / "a.jsonl")
    (open_folder / "closed").chmod(0o755)

    assert "Permission denied" in str(listed)
    assert "Permission denied" in str(within)


def test_a_folder_that_links_to_itself_is_looked_into_once(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl", "x/b.jsonl", "x/y/c.jsonl")
    for place, goal in (("again", "."), ("x/up", ".."), ("x/y/top", str(tmp_path)), ("x/y/self", "self")):
        (tmp_path / place).symlink_to(goal)

    assert names_of(open_input(f"{tmp_path}/**")) == ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]
    assert names_of(open_input(f"{tmp_path}/**/*.jsonl")) == ["a.jsonl", "x/b.jsonl", "x/y/c.jsonl"]
    assert names_of(open_input(f"{tmp_path}/**/c.jsonl")) == ["x/y/c.jsonl"]


def test_a_folder_elsewhere_is_read_through_a_link(tmp_path: Path) -> None:
    make(tmp_path, "in/a.jsonl", "store/b.jsonl")
    (tmp_path / "in/more").symlink_to(tmp_path / "store")

    assert names_of(open_input(f"{tmp_path}/in/**")) == ["a.jsonl", "more/b.jsonl"]


@pytest.mark.parametrize("path", ["in", "in/*.jsonl", "in/**"])
def test_a_file_that_two_names_lead_to_is_read_once_and_that_is_noted(tmp_path: Path, path: str) -> None:
    make(tmp_path, "in/b.jsonl")
    (tmp_path / "in/a.jsonl").symlink_to("b.jsonl")

    source = open_input(f"{tmp_path}/{path}")

    assert names_of(source) == ["b.jsonl"]
    assert source.notes == ("a.jsonl is a link to b.jsonl, which is read once",)


def test_of_two_links_to_a_file_elsewhere_one_is_read(tmp_path: Path) -> None:
    make(tmp_path, "store/x.jsonl", "in/c.jsonl")
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "store/x.jsonl")

    assert names_of(open_input(f"{tmp_path}/in")) == ["a.jsonl", "c.jsonl"]


def test_a_day_that_is_linked_as_the_latest_is_read_once_in_its_own_folder(tmp_path: Path) -> None:
    make(tmp_path, "days/2026-11-29/a.jsonl")
    (tmp_path / "a_latest").symlink_to("days/2026-11-29")  # its name sorts first

    assert names_of(open_input(f"{tmp_path}/**")) == ["days/2026-11-29/a.jsonl"]


def test_a_link_to_nothing_is_noted_where_it_is_meant(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    (tmp_path / "b.jsonl").symlink_to("gone.jsonl")

    assert open_input(str(tmp_path)).notes == ("b.jsonl is a link to gone.jsonl, which does not exist: not read",)
    assert open_input(f"{tmp_path}/a*.jsonl").notes == ()
    assert open_input(f"{tmp_path}/a.jsonl").notes == ()


@pytest.mark.parametrize("name", ["two\nlines.jsonl", "[x].jsonl", "a*b.jsonl", "ü.jsonl", "~$x?.jsonl"])
def test_any_name_is_read_in_its_folder(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"in [1]/{name}")

    for path in ("in [1]", "in [1]/*.jsonl", "**", f"in [1]/{name}"):
        assert open_input(f"{tmp_path}/{path}").count_rows() == 1


@pytest.mark.parametrize(
    ("uri", "named"),
    [("s3://lake/in/**", "AWS_ENDPOINT_URL"), ("gs://lake/in", "GOOGLE_APPLICATION"), ("abfs://lake/in", "AZURE_")],
)
def test_a_store_that_is_down_is_reported_with_where_its_address_and_credentials_come_from(
    uri: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(uri: str) -> None:  # a real one tries again for six seconds
        raise OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect")

    monkeypatch.setattr(batchcall.input.files, "_located", fail)

    error = error_of(uri)

    assert "NETWORK_CONNECTION" in str(error)
    assert named in error.hint
