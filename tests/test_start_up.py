"""What a start does not import: each module here costs as much as a part of the work of a short run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from batchcall.sandbox.process import SandboxProcess
from running import results, write_job

# After the words of the command line: the modules that its process has imported.
COMMAND = """
import json, sys
from batchcall.cli import main
try: main(sys.argv[2:], prog_name="batchcall")
except SystemExit as end: code = end.code
imported = [name for name, module in sys.modules.items() if module is not None]
open(sys.argv[1], "w").write(json.dumps(imported))
sys.exit(code)
"""

WHAT_HELP_NEEDS = """
import json, sys, urllib.parse, click
open(sys.argv[1], "w").write(json.dumps(list(sys.modules)))
"""


def imported_by(program: str, *words: str, into: Path) -> set[str]:
    subprocess.run([sys.executable, "-c", program, str(into / "imported"), *words], check=True, capture_output=True)
    return set(json.loads((into / "imported").read_text()))


def test_help_imports_click_and_little_else(tmp_path: Path) -> None:
    imported = imported_by(COMMAND, "--help", into=tmp_path)
    # What the standard library imports beneath these differs from one Python to the next (`ipaddress` is one).
    beneath = imported_by(WHAT_HELP_NEEDS, into=tmp_path)

    libraries = {"aiohttp", "jinja2", "msgspec", "orjson", "pyarrow"}
    ours = imported - beneath
    assert ours & {*libraries, "asyncio", "batchcall.base.records", "ctypes", "difflib", "ipaddress"} == set()


async def test_a_plain_run_does_not_import_what_it_does_not_use(endpoint: SandboxProcess, tmp_path: Path) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=1)

    imported = imported_by(COMMAND, "run", str(job), into=tmp_path)

    assert [row["status"] for row in results(tmp_path / "out")] == ["ok"]
    libraries = {"numpy", "pandas", "aiohttp.web", "multiprocessing.connection", "pyarrow.compute", "sqlite3", "tqdm"}
    assert imported & {*libraries, "batchcall.sandbox"} == set()


@pytest.mark.parametrize(("before", "most"), [("", 20), ("gc.set_threshold = lambda *numbers: None", 1_000)])
async def test_a_short_run_hardly_looks_for_cycles(
    endpoint: SandboxProcess, tmp_path: Path, before: str, most: int
) -> None:
    program = f"""
import gc, json, sys
{before}
import batchcall.cli
looks = lambda: sum(of["collections"] for of in gc.get_stats())
at_first = looks()
try: batchcall.cli.main(["run", sys.argv[2]])
except SystemExit: pass
open(sys.argv[1], "w").write(json.dumps([str(looks() - at_first)]))
"""
    (looks,) = imported_by(program, str(write_job(tmp_path, url=endpoint.url, rows=1)), into=tmp_path)

    assert most // 50 <= int(looks) <= most


async def test_in_python_pyarrow_finds_pandas_after_a_run(endpoint: SandboxProcess, tmp_path: Path) -> None:
    program = """
import sys, json, batchcall
batchcall.run(sys.argv[2])
import pandas, pyarrow
assert pyarrow.array(pandas.Series([1, None])).to_pylist() == [1.0, None]
frame = batchcall.read_table(sys.argv[3]).to_pandas()
assert list(frame["status"]) == ["ok"] * 3
open(sys.argv[1], "w").write(json.dumps(list(sys.modules)))
"""
    job = write_job(tmp_path, url=endpoint.url, rows=3)

    assert "pandas" in imported_by(program, str(job), str(tmp_path / "out"), into=tmp_path)


async def test_the_module_of_a_tool_may_import_what_pyarrow_does_not_find(
    endpoint: SandboxProcess, tmp_path: Path
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=1)
    (tmp_path / "shapes.py").write_text(
        "import numpy, pandas, pydantic\n\n\nclass Seen(pydantic.BaseModel):\n    n: int\n"
    )
    text = job.read_text()
    tool = text.index("[[tool]]")
    after = text.find("\n[", tool + 1)
    job.write_text(f'{text[:tool]}[[tool]]\npython = "shapes:Seen"\n{text[after:] if after > 0 else ""}')

    assert "pandas" in imported_by(COMMAND, "check", str(job), into=tmp_path)


def test_a_command_called_from_python_leaves_pandas_to_whoever_called_it(tmp_path: Path) -> None:
    program = """
import json, sys
from batchcall.cli import main
try: main(["--help"])
except SystemExit: pass
import pandas
open(sys.argv[1], "w").write(json.dumps(list(sys.modules)))
"""
    assert "pandas" in imported_by(program, into=tmp_path)
