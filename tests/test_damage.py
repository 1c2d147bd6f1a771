"""What a damaged or unfit output does: it is named, fixed where that costs nothing, and never passed off as sound."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import batchcall.disk.mounts
from batchcall import ExitCode, OutputError, ResumeError, RunOptions, run_job, verify_output
from batchcall.commands.status import read_status
from batchcall.disk.mounts import holder_of_path, network_file_system
from batchcall.input.open_input import Input
from batchcall.sandbox.process import SandboxProcess
from running import batchcall as command
from running import edit, results, write_job


async def finished(folder: Path, endpoint: SandboxProcess, **how: str) -> tuple[Path, Path]:
    """A job that has run, and its output."""
    job = write_job(folder, url=endpoint.url, **how)  # type: ignore[arg-type]
    await run_job(job)
    return job, folder / "out"


REBUILT = "Move the file away and run the job again: its rows are rebuilt from the stored answers at no cost"


def flip_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(content)


async def test_a_part_that_cannot_be_read_is_rebuilt_from_its_answers_for_nothing(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = await finished(tmp_path, endpoint)
    before = results(out)
    (out / "part-000001.parquet").write_bytes(b"PAR1 not any more")
    notes: list[str] = []

    summary = await run_job(job, say=notes.append)

    assert (summary.exit_code, summary.requests) == (ExitCode.OK, 0)
    assert "part-000001.parquet" in notes[0]
    assert results(out) == before
    assert (out / "_batchcall" / "damaged" / "part-000001.aside").read_bytes() == b"PAR1 not any more"
    assert verify_output(out).faults == []


async def test_a_part_that_cannot_be_read_and_has_no_answers_stored_is_not_bought_again_in_silence(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = await finished(tmp_path, endpoint, output="response = false")
    (out / "part-000001.parquet").write_bytes(b"PAR1 not any more")
    before = (await endpoint.ledger())["requests"]

    with pytest.raises(OutputError, match="part-000001") as refused:
        await run_job(job)

    assert "move the file away" in refused.value.hint
    assert (await endpoint.ledger())["requests"] == before


async def test_any_bit_of_a_part_that_flips_is_seen_by_verify_or_changes_nothing(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    _, out = await finished(tmp_path, endpoint)
    part = out / "part-000000.parquet"
    sound, before = part.read_bytes(), results(out)
    dice, seen = random.Random(5), 0
    for place in dice.sample(range(len(sound)), 150):
        flip_bit(part, place)
        proof = verify_output(out)
        seen += not proof.is_proven
        assert not proof.is_proven or results(out) == before, f"byte {place}"
        part.write_bytes(sound)

    assert seen >= 75


async def test_what_verify_advises_of_a_damaged_part_leads_back_to_a_proven_output(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = await finished(tmp_path, endpoint)
    before = results(out)
    flip_bit(out / "part-000001.parquet", 400)

    told = command("verify", out)
    assert told.returncode == 1
    assert "part-000001.parquet" in told.stdout
    assert "ove the" in told.stdout  # move the part, or the file, away
    (out / "part-000001.parquet").rename(tmp_path / "away")

    summary = await run_job(job)
    assert (summary.exit_code, summary.requests) == (ExitCode.OK, 0)
    assert results(out) == before
    assert verify_output(out).faults == []


async def test_bytes_that_flip_anywhere_in_a_part_are_fixed_by_the_one_thing_that_verify_says_to_do(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = await finished(tmp_path, endpoint)
    part = out / "part-000001.parquet"
    sound, before = part.read_bytes(), results(out)
    dice, followed = random.Random(7), 0
    for place in (100, 500, 2000, *dice.sample(range(len(sound) - 1), 25)):
        for byte in (place, place + 1):
            flip_bit(part, byte)
        proof = verify_output(out)
        if proof.is_proven:
            part.write_bytes(sound)
            continue
        (fault,) = proof.faults
        assert "part-000001.parquet" in fault
        assert fault.endswith(REBUILT), f"byte {place}: {fault}"

        part.rename(tmp_path / "away")
        summary = await run_job(job)

        assert (summary.exit_code, summary.requests) == (ExitCode.OK, 0), f"byte {place}"
        assert verify_output(out).faults == []
        assert results(out) == before
        assert (out / "_SUCCESS").exists()
        sound, followed = part.read_bytes(), followed + 1

    assert followed >= 10


async def test_verify_says_of_a_damaged_part_without_answers_that_its_rows_will_be_paid_again(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = await finished(tmp_path, endpoint, output="response = false")
    part = out / "part-000001.parquet"
    flip_bit(part, 400)

    (fault,) = verify_output(out).faults
    part.unlink()
    summary = await run_job(job)

    assert "Move the file away" in fault
    assert "paid for again" in fault
    assert summary.requests == 10
    assert verify_output(out).faults == []


async def test_parts_that_verify_names_for_their_columns_or_their_rows_are_fixed_by_moving_them_away(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = await finished(tmp_path, endpoint)
    before = results(out)
    odd, strange = out / "part-000001.parquet", out / "part-000007.parquet"
    table = pq.read_table(odd)
    pq.write_table(table.rename_columns(["ID" if name == "id" else name for name in table.column_names]), odd)
    (out / "part-000000.parquet").rename(strange)

    for fault in verify_output(out).faults:
        for name in re.findall(r"part-\d+\.parquet", fault):
            (out / name).unlink(missing_ok=True)
    summary = await run_job(job)

    assert (summary.exit_code, summary.requests) == (ExitCode.OK, 0)
    assert results(out) == before
    assert verify_output(out).faults == []


async def test_a_lost_record_is_rebuilt_where_job_and_input_fit_what_is_there(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = await finished(tmp_path, endpoint)
    (out / "_batchcall" / "run.json").write_text('{"version": 1, "batch')
    notes: list[str] = []

    assert "run.json" in read_status(out).faults[0]
    assert "run.json" in verify_output(out).faults[0]
    summary = await run_job(job, say=notes.append)

    assert (summary.exit_code, summary.requests) == (ExitCode.OK, 0)
    assert any("3 parts were compared with the job and the input" in note for note in notes)
    assert verify_output(out).faults == []


async def test_a_lost_record_and_another_prompt_are_refused_and_cost_nothing(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = await finished(tmp_path, endpoint)
    (out / "_batchcall" / "run.json").unlink()
    edit(job, "Who is this?", "Who is it?")
    before = results(out)

    with pytest.raises(ResumeError, match="3 of 3 parts do not fit"):
        await run_job(job)

    assert results(out) == before
    assert (await endpoint.ledger())["requests"] == 25
    summary = await run_job(job, RunOptions(on_change="rerun"))
    assert (summary.exit_code, summary.requests) == (ExitCode.OK, 25)


async def test_status_counts_what_can_be_read_and_names_what_cannot(tmp_path: Path, endpoint: SandboxProcess) -> None:
    _, out = await finished(tmp_path, endpoint)
    (out / "part-000001.parquet").write_bytes(b"")

    told = command("status", out)

    assert told.returncode == 0, told.stderr
    assert "15 of 25 done" in told.stdout
    assert "part-000001.parquet cannot be read" in told.stdout


async def test_a_changed_job_is_refused_with_what_changed_and_what_its_rows_have_cost(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    prices = '[prices."test-model"]\nprompt = 1.0\ncompletion = 2.0'
    job, _ = await finished(tmp_path, endpoint, more=prices)
    edit(job, "Who is this?", "Who is it?")

    with pytest.raises(ResumeError) as refused:
        await run_job(job)

    assert "Who is this?" in str(refused.value)
    assert "Who is it?" in str(refused.value)
    assert "the 25 that are done took 25 requests" in refused.value.hint
    assert "tokens" in refused.value.hint
    assert "USD" in refused.value.hint


async def test_ids_found_unique_in_the_same_input_are_not_read_again(
    tmp_path: Path, endpoint: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = await finished(tmp_path, endpoint)
    edit(job, 'path = "rows.jsonl"', 'path = "rows.jsonl"\nid = "id"')
    await run_job(job)

    def read_again(source: Input, column: str) -> int:
        raise AssertionError("the whole input was read")

    monkeypatch.setattr(Input, "check_ids", read_again)

    assert (await run_job(job)).exit_code == ExitCode.OK


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/share\\040one rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2
31 30 8:2 / /mnt/share\\040one/local rw - xfs /dev/sdb1 rw
32 22 0:44 / /data rw,nosuid - fuse.sshfs me@host: rw
33 22 0:45 / /later rw - ext4 /dev/sdc1 rw
34 22 0:46 / /later rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/out", "ext4"),
        ("/mnt/share one/out", "nfs4"),
        ("/mnt/share one/local/out", "xfs"),
        ("/mnt/share onerous/out", "ext4"),
        ("/data", "fuse.sshfs"),
        ("/later/out", "cifs"),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_the_last_mount_over_it(path: str, kind: str) -> None:
    assert holder_of_path(Path(path), MOUNTS)[1] == kind


async def test_a_network_file_system_under_the_journal_is_refused_unless_the_job_allows_it(
    tmp_path: Path, endpoint: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert network_file_system(tmp_path) is None
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / {tmp_path} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(batchcall.disk.mounts, "_MOUNTS", mounts)
    job = write_job(tmp_path, url=endpoint.url)

    with pytest.raises(OutputError, match="network file system \\(nfs4 at"):
        await run_job(job)
    assert not (tmp_path / "out").exists()

    edit(job, 'path = "out"', 'path = "out"\nallow_network = true')
    assert (await run_job(job)).exit_code == ExitCode.OK


@pytest.mark.parametrize("bit", [0, 7], ids=["still good JSON", "no text any more"])
async def test_a_bit_that_flips_in_the_record_is_seen_and_buys_nothing(
    tmp_path: Path, endpoint: SandboxProcess, bit: int
) -> None:
    job, out = await finished(tmp_path, endpoint)
    before, record = results(out), out / "_batchcall" / "run.json"
    content = bytearray(record.read_bytes())
    content[content.index(b"Who is this?")] ^= 1 << bit
    record.write_bytes(content)

    faults = verify_output(out).faults
    summary = await run_job(job)

    assert "run.json" in faults[0]
    assert (summary.exit_code, summary.requests) == (ExitCode.OK, 0)
    assert results(out) == before
    assert verify_output(out).faults == []


async def test_damaged_raw_answers_of_a_sound_part_are_moved_away_and_the_output_is_proven_again(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = await finished(tmp_path, endpoint)
    before, answers = results(out), out / "_batchcall" / "answers" / "part-000001.answers"
    flip_bit(answers, 100)

    (fault,) = verify_output(out).faults
    answers.unlink()
    summary = await run_job(job)

    assert "move it away" in fault
    assert (summary.requests, results(out)) == (0, before)
    assert verify_output(out).faults == []
