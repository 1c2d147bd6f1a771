"""Flags → one public call → print. Adds no behaviour; the only click. Imports what a command needs when it runs."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from batchcall.base import VERSION, BatchcallError, ExitCode, JobError, fewer_collections, printable

if TYPE_CHECKING:
    from batchcall.job import Job


# Every command takes the job file, its folder or the output folder, whichever is at hand.
_JOB = click.argument("job", metavar="JOB.toml", type=click.Path(path_type=Path))
_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


_AS_JSON = "batchcall.as_json"  # whether stderr is to have lines of JSON, whatever else is wrong with the command
_SHOWN_BY_CLICK = {"-h", "--help", "--version"}


class _Commands(click.Group):
    """Every fault of the user's or the machine's ends here, as one message and an exit code. No traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        sys.meta_path.insert(0, _NoPandas)
        try:
            with fewer_collections():
                return super().main(*args, **extra)
        except OSError as error:  # `--help`, which click itself prints
            if not _SHOWN_BY_CLICK.intersection(sys.argv):
                raise
            _leave_unwritten(error, "", ExitCode.OK)
        finally:
            sys.meta_path.remove(_NoPandas)

    # Looked for before click parses: an error of the command line itself must be a line of JSON as well.
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_AS_JSON] = "--log-format=json" in args or ("--log-format", "json") in pairwise(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        _open_standard_streams()
        _give_memory_back()
        try:
            return super().invoke(ctx)
        except BatchcallError as error:
            _leave(error, as_json=ctx.meta[_AS_JSON])
        except KeyboardInterrupt:
            stopped = BatchcallError("stopped by SIGINT")
            stopped.exit_code = ExitCode.INTERRUPTED
            _leave(stopped, as_json=ctx.meta[_AS_JSON])
        except click.UsageError as error:  # it quotes what was given, which `*` may have taken from anywhere
            if ctx.meta[_AS_JSON]:
                _leave(JobError(error.format_message()), as_json=True)
            raise click.UsageError(printable(error.format_message()), error.ctx) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="batchcall")
def main() -> None:
    """Send every row of a table to a language model and get validated, typed data back.

    Start with `batchcall init`, then `batchcall check JOB.toml` and `batchcall run JOB.toml`. Where a command takes
    JOB.toml or DIR, it takes the job file, the folder it is in, or its output folder.

    \b
    Exit codes: 0 finished · 1 finished, more rows failed than tolerated · 2 the command or the job
    file is wrong · 3 stopped early, resumable · 4 the endpoint will not serve this job · 5 another
    run holds the output · 130/143 stopped by SIGINT/SIGTERM after draining
    """


def _open_standard_streams() -> None:
    """A daemon may start us with stdin, stdout or stderr closed; a socket must not take their place."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stderr is None:  # Python found it closed
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
    if isinstance(sys.stdout, io.TextIOWrapper):  # a letter that its encoding lacks must not cost the rest of the text
        sys.stdout.reconfigure(errors="replace")  # by "?": an escape of Python's is not JSON


class _NoPandas:
    """Pyarrow imports numpy, and pandas with its first array, wherever these are installed: a third of what a short run
    costs, for what no command uses. To pyarrow they are as if not installed; the module of a tool, and whatever else
    asks for them, imports them as usual, and so does all that runs in Python without a command.

    A None in `sys.modules` would not do: pyarrow's compiled code takes it for the module.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name in ("numpy", "pandas") and _importer().partition(".")[0] in ("pyarrow", "batchcall"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _importer() -> str:
    """The module that imports something now; where compiled code does, the one that has called it."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "") if frame is not None else ""


def _give_memory_back() -> None:
    """Freed memory goes back to the system: pyarrow's own allocator keeps it, and so does the C library, which raises
    the size from which blocks are given back as large ones are freed. `scripts/bench memory` shows it: 200 answers of
    1 MB take 220 MB, else 300 to 440. Only here, where the process is ours."""
    import ctypes

    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not every C library has it
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, 128 * 1024)


os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # before pyarrow is imported
_M_MMAP_THRESHOLD = -3  # malloc.h


_INPUT = click.option("--input", "input_path", metavar="PATH", help="Read this instead of input.path.")
_OUTPUT = click.option("--output", metavar="DIR", help="Write here instead of output.path.")
_SET = click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Change a key of the job file; repeatable."
)


def _overrides(command: Any) -> Any:
    for option in (_INPUT, _OUTPUT, _SET):
        command = option(command)
    return command


def _of_the_job(command: Any) -> Any:
    """For commands that take the job's output, and are given the job."""
    output = click.option("--output", metavar="DIR", help="With a job file: the output, instead of output.path.")
    return output(_SET(command))


def _workers(ctx: click.Context, option: click.Parameter, given: str) -> int | str:
    if given == "auto":
        return given
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= _MOST_WORKERS:
        raise click.BadParameter(f"{given!r} is neither auto nor a number from 1 to {_MOST_WORKERS}")
    return int(given)


_MOST_WORKERS = 256


@main.command()
@_JOB
@_overrides
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Do only the first N rows; those already done count."
)
@click.option("--retry-failed", is_flag=True, help="Send failed rows again.")
@click.option(
    "--on-change",
    type=click.Choice(["fail", "rerun", "keep"]),
    default="fail",
    show_default=True,
    help="When the prompt, tools, model or parameters have changed: refuse, send all such rows again, or keep their"
    " results and use the new job for the rest.",
)
@click.option("--rehearse", is_flag=True, help="Use the embedded endpoint, and a separate output folder.")
@click.option("--deadline", metavar="DURATION", help="Stop after this long: 90s, 30m, 2h.")
@click.option(
    "--max-outage",
    metavar="DURATION",
    help="Wait this long for an endpoint that is down, then stop: 10m, 1h. Default: 30m; 30s where it never worked.",
)
@click.option(
    "--grace",
    metavar="DURATION",
    help="After a signal or the deadline, wait this long for answers in flight: 25s, 0s. Default: the longest timeout.",
)
@click.option(
    "--workers",
    metavar="N|auto",
    default="1",
    show_default=True,
    callback=_workers,
    help="Do the rows in N processes; auto: as many as the cores allow, once one of them is not enough.",
)
@click.option("--quiet", is_flag=True, help="Print only errors on stderr.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of progress, notes and the summary.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON; progress and notes stay text.")
def run(
    job: Path,
    input_path: str | None,
    output: str | None,
    settings: tuple[str, ...],
    deadline: str | None,
    max_outage: str | None,
    grace: str | None,
    quiet: bool,
    log_format: str,
    as_json: bool,
    **choices: Any,  # of `RunOptions`, under the same names
) -> None:
    """Do what is left of a job. To continue after any stop, run the same command again."""
    import signal

    from batchcall.api import STOPPING_SIGNALS, InterruptedRun
    from batchcall.api import run as run_now
    from batchcall.job import parse_duration
    from batchcall.pipeline import RunOptions
    from batchcall.report import open_progress, summary_text

    options = RunOptions(
        **choices,
        deadline_s=None if deadline is None else parse_duration(deadline, key="--deadline"),
        grace_s=None if grace is None else parse_duration(grace, key="--grace", may_be_zero=True),
        max_outage_s=None if max_outage is None else parse_duration(max_outage, key="--max-outage"),
    )
    loaded = _load(job, input_path, output, settings)
    try:
        with open_progress(quiet=quiet, log_format=log_format) as progress:
            for warning in loaded.warnings:
                progress.say(warning)
            summary = run_now(loaded, options, show=progress.show, say=progress.say)
    except InterruptedRun as error:
        _say_error(error, as_json=log_format == "json")
        os._exit(error.exit_code)  # a thread may be reading the input still, in code that does not bear an orderly end
    # Everything is done except the report. A late signal would take it away, and change an exit code that is decided.
    for number in STOPPING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    is_json = as_json or log_format == "json"
    _end_with(summary.as_json() if is_json else summary_text(summary), summary.exit_code)


@main.command()
@_JOB
@_overrides
@_JSON
def check(job: Path, input_path: str | None, output: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Check a job offline; show its first request and its cost.

    Exit codes: 0 `run` would start · 1 `run` would refuse, or no row makes a request · 2 the job file or its input is
    wrong
    """
    from batchcall.commands import check_job

    report = check_job(_load(job, input_path, output, settings))
    _end_with(report.as_json() if as_json else report.as_text(), report.exit_code)


@main.command()
@_FOLDER
@_of_the_job
@_JSON
def status(folder: Path, output: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Show rows done, failures, tokens, cost and what is left. Exits 0, whatever that is."""
    from batchcall.commands import read_status

    folder, job = _folder(folder, output, settings)
    found = read_status(folder, job=job)
    _print(found.as_json() if as_json else found.as_text())


@main.command()
@_FOLDER
@_of_the_job
@_JSON
def verify(folder: Path, output: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Prove that an output is complete and undamaged.

    Every input row must be there once, in order and readable, and the totals as recorded. Sends and changes nothing.

    Exit codes: 0 proven · 1 not proven: a run is under way, rows are missing or something is damaged
    """
    from batchcall.commands import verify_output

    folder, job = _folder(folder, output, settings)
    proof = verify_output(folder, job=job)
    code = ExitCode.OK if proof.is_proven else ExitCode.ROWS_FAILED
    _end_with(proof.as_json() if as_json else proof.as_text(), code)


@main.command()
@_JOB
@_overrides
def revalidate(job: Path, input_path: str | None, output: str | None, settings: tuple[str, ...]) -> None:
    """Apply a changed tool schema to the stored answers. Sends nothing. Exits 0 or 1 as `run` does."""
    from batchcall.commands import revalidate_job

    result = revalidate_job(_load(job, input_path, output, settings))
    _end_with(result.as_text(), result.exit_code)


@main.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes any free one.",
)
@click.option(
    "--latency",
    "latency_s",
    type=float,
    default=0.0,
    show_default=True,
    help="Median seconds to answer; some answers take much longer.",
)
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="Answer 429 above this.")
@click.option("--tokens-per-minute", type=click.IntRange(min=1), help="Answer 429 above this.")
@click.option(
    "--fault",
    "faults",
    metavar="NAME=SHARE",
    multiple=True,
    help="Share of answers with this fault, 0 to 1; repeatable.",
)
@click.option("--faults", "list_faults", is_flag=True, help="List the faults and exit.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another number gives other answers.")
@click.option(
    "--api-key",
    metavar="KEY",
    help="Refuse requests with any other key. Use a test key: the process list shows it.",
)
def sandbox(faults: tuple[str, ...], list_faults: bool, **settings: Any) -> None:
    """Serve the embedded endpoint on this machine until Ctrl-C.

    \b
    It answers POST to
      /v1/chat/completions                        OpenAI
      /v1/responses                               OpenAI
      /v1/messages                                Anthropic
      /v1beta/models/MODEL:generateContent        Gemini, and :streamGenerateContent
      /openai/deployments/NAME/chat/completions   Azure
    and GET /sandbox/ledger reports what it billed.
    """
    from batchcall.sandbox import Settings, describe_faults, parse_faults, serve

    if list_faults:
        _print(describe_faults())
        return
    serve(Settings(faults=parse_faults(faults), **settings))


@main.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=".")
def init(folder: Path) -> None:
    """Write a small job to start from into DIR, by default here."""
    from batchcall.commands import write_starter

    written = write_starter(folder)
    next_steps = f"next: batchcall check {written[0]}, then batchcall run {written[0]}"
    _print("\n".join([*(f"wrote {path}" for path in written), next_steps]))


@main.command()
def schema() -> None:
    """Print the JSON Schema of the job file, for editors."""
    from batchcall.job import job_schema

    _print(_json(job_schema(), indent=True))


def _load(job: Path, input_path: str | None, output: str | None, settings: tuple[str, ...]) -> Job:
    """The job with what the command line changes. Paths of the command line start from where the person stands."""
    from batchcall.job import load_job
    from batchcall.pipeline import job_at, places

    # Where the output folder is given instead of the job file, the command goes on there and with the input that it
    # had, unless the command line names others.
    found = job_at(job)
    is_named = {setting.partition("=")[0].strip() for setting in settings}
    if input_path is None and "input.path" not in is_named:
        input_path = found.input
    if output is None and found.output is not None:
        output = str(found.output)
    return load_job(found.job, overrides=(*settings, *places(input_path, output)))


def _folder(path: Path, output: str | None, settings: tuple[str, ...]) -> tuple[Path, Job | None]:
    from batchcall.pipeline import output_at, places

    return output_at(path, overrides=(*settings, *places(None, output)))


def _json(value: Any, *, indent: bool = False) -> str:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0).decode()


def _say(text: str) -> None:
    """To stderr; where that is full or gone, only the exit code is left."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            click.echo(printable(text), err=True)


def _print(result: str | dict[str, Any], code: ExitCode = ExitCode.OK) -> None:
    """To stdout, as text or a line of JSON. Where that takes nothing, as a full disk, the result goes to stderr in the
    same form and the command ends: with `code`, and with 3 where that says that all is well.

    A reader that has gone away (`| head -1`) has what it wanted, and a caller that closed stdout wants nothing there.
    """
    text = result if isinstance(result, str) else _json(result)
    if sys.stdout is None:  # it was closed before we began
        _say(text)
        return
    try:
        click.echo(printable(text))
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    except (OSError, ValueError) as error:
        _leave_unwritten(error, result, code)


def _end_with(result: str | dict[str, Any], code: ExitCode) -> NoReturn:
    _print(result, code)
    _exit(code)


def _leave_unwritten(error: Exception, result: str | dict[str, Any], code: ExitCode) -> NoReturn:
    # A caller that reads the exit code alone must not take this for success. A code that reports a failure stays.
    _drop_stdout()
    hint = "this was to be written there:" if result else ""
    why = BatchcallError(f"stdout cannot be written: {getattr(error, 'strerror', None) or error}", hint=hint)
    why.exit_code = code or ExitCode.STOPPED_EARLY
    _say_error(why, as_json=isinstance(result, dict))
    if isinstance(result, dict):
        code_left_with = {"exit_code": why.exit_code} if "exit_code" in result else {}
        result = _json({"event": "result", **result, **code_left_with})
    if result:
        _say(result)
    _exit(why.exit_code)


def _drop_stdout() -> None:
    """Point stdout at nothing: Python flushes its buffer at exit, and would fail there."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _leave(error: BatchcallError, *, as_json: bool) -> NoReturn:
    _say_error(error, as_json=as_json)
    _exit(error.exit_code)


def _say_error(error: BatchcallError, *, as_json: bool) -> None:
    faults = error.faults if isinstance(error, JobError) else ()
    if as_json:
        texts = {"error": printable(str(error)), "faults": [*map(printable, faults)], "hint": printable(error.hint)}
        _say(_json({"event": "error", **texts, "exit_code": int(error.exit_code)}))
    else:
        _say(f"error: {error}")
        for fault in faults:
            _say(f"  - {fault}")
        if error.hint:
            _say(f"  hint: {error.hint}")


def _exit(code: ExitCode) -> NoReturn:
    raise SystemExit(int(code))
