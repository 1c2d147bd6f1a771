"""From a row to what is asked of the endpoint: the job's templates and tools, put together once; and how answers
are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property

from batchcall.answers import AnswerParser, Toolbox
from batchcall.base import JobError, Request, Row, Shape, Tool, Usage
from batchcall.dialects import DIALECTS
from batchcall.input import Input
from batchcall.job import Job, resolve_tool_choice, spoken_by
from batchcall.pacing import cost_of
from batchcall.requests import RequestBuilder, RequestHash, RowError, TemplateError, make_builder, tools_of
from batchcall.schemas import Findings, Formats, SchemaError, lint_tools

_TOOLBOXES_HELD = 512
_NO_TOOLS = Toolbox.of(())


class RequestMaker:
    """How a job turns rows into requests, and which tools an answer is read with."""

    def __init__(
        self,
        builder: RequestBuilder,
        protocol: str,
        *,
        job_shape: Shape,
        formats: Formats = "lenient",
    ) -> None:
        """`job_shape` holds the job's settings for all requests, or for those that have none of their own."""
        self.builder = builder
        self.make_request = builder.build  # the request of a row's values; raises RowError when these do not make one
        self.hash_of = RequestHash(protocol).of  # the identity of a request
        self.job_shape = job_shape
        self._formats = formats
        try:
            shape = builder.shape  # None: rows have tools of their own
            self._job_toolbox = None if shape is None else Toolbox.of(shape.tools, formats=formats)
        except SchemaError as error:
            raise JobError("a tool cannot be used", faults=(str(error),), hint="see JSON Schema, 2020-12") from error
        known = self._job_toolbox or _NO_TOOLS
        self.arguments_type = known.arguments_type  # None: JSON text, as there is not exactly one tool for all rows
        self.rewrites = known.rewrites  # what was changed in the job's tool schemas to understand them
        self.left_out = known.left_out  # what of them is not checked
        self._loosened_shapes = 0  # of rows' own tools, those with something that is left out of the check
        self._toolboxes: OrderedDict[Shape, Toolbox] = OrderedDict()

    def columns_of(self, source: Input) -> set[str]:
        """Columns of the input that requests are made from."""
        return set(source.columns if self.builder.columns is None else self.builder.columns)

    def row_tools_note(self) -> str | None:
        """A note on what was not checked of the rows' own tools, once for all of them; None where all was."""
        if not self._loosened_shapes:
            return None
        counted = "1 tool" if self._loosened_shapes == 1 else f"{self._loosened_shapes:,} tools"
        return f"{counted} of the rows: patterns with look-around or back-references are not checked"

    @cached_property
    def findings(self) -> Findings:
        """What is wrong with the job's tool schemas although they can be used."""
        return lint_tools(self.job_shape.tools)

    def hash_of_row(self, row: Row) -> str | None:
        """The identity of a row's request, None when none can be built from it, or no answer to it could be read."""
        if row.fault is not None:
            return None
        try:
            request = self.make_request(row.values)
            self.toolbox_of(request)
        except RowError:
            return None
        return self.hash_of(request)

    def toolbox_of(self, request: Request) -> Toolbox:
        """What reads the answers to this request. Raises RowError for a row's own tool that is not a JSON Schema."""
        if request.shape.tool_choice == "none":
            return _NO_TOOLS  # the text is what was asked for
        if self._job_toolbox is not None:
            return self._job_toolbox
        toolbox = self._toolboxes.get(request.shape)
        if toolbox is None:
            # Rows with tools of their own mostly share a few, so each is compiled once, and the latest are kept.
            try:
                toolbox = Toolbox.of(tools_of(request), formats=self._formats)
            except SchemaError as error:
                raise RowError(f"the row's tool cannot be used: {error}") from error
            except Exception as error:  # a fault of ours must not end the run: the tool is that of one row
                what = f"batchcall cannot read its schema ({type(error).__name__}), please report it"
                raise RowError(f"the row's tool cannot be used: {what}") from error
            self._toolboxes[request.shape] = toolbox
            self._loosened_shapes += bool(toolbox.left_out)
            if len(self._toolboxes) > _TOOLBOXES_HELD:
                self._toolboxes.popitem(last=False)
        return toolbox


def make_request_maker(job: Job) -> RequestMaker:
    """How a job turns rows into requests. Raises JobError for a template or a tool that cannot be used."""
    functions = [(spec.written["function"], spec.written) for spec in job.tools]
    tools = tuple(Tool(one["name"], one.get("parameters", {}), written) for one, written in functions)
    request, choice = job.request, resolve_tool_choice(job)
    try:
        builder = make_builder(
            model=request.model,
            system=request.system,
            prompt=request.prompt,
            messages=request.messages,
            columns=request.columns,
            tool_choice=choice,
            parameters=request.parameters,
            tools=tools,
        )
    except (TemplateError, ValueError) as error:
        raise JobError(f"{job.file.name} has an error", faults=(str(error),)) from error
    # The job's tools as they are sent: a name that OpenAI does not allow has another one there.
    return RequestMaker(
        builder,
        spoken_by(job),
        job_shape=builder.shape or Shape(request.model or "", tools, choice, request.parameters),
        formats=job.validate.formats,
    )


def answer_parser_of(job: Job) -> AnswerParser:
    """How the answers of this job are read and priced."""
    return AnswerParser(
        dialect=DIALECTS[job.endpoints[0].protocol],
        repair=job.validate.repair,
        coerce=job.validate.coerce,
        pricing=_pricing(job),
        dialects=DIALECTS,
        attempts=job.limits.attempts,
    )


def model_of(job: Job) -> str:
    """The model that is asked where neither the row nor the endpoint names another; empty where there is none."""
    return job.request.model or job.endpoints[0].model or ""


def _pricing(job: Job) -> Callable[[str, Usage], float | None]:
    prices = job.prices

    def cost(model: str, usage: Usage) -> float | None:
        if model not in prices:
            return None
        price = prices[model]
        return cost_of(usage, prompt=price.prompt, completion=price.completion, cached=price.cached)

    return cost
