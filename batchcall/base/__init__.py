"""The values that travel between the rooms, the errors that end a run, and what every room may need.

What `--help` does not need is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchcall.base.collector import fewer_collections
from batchcall.base.counted import counted
from batchcall.base.errors import (
    BatchcallError,
    DamagedRecordError,
    EndpointError,
    ExitCode,
    InputError,
    JobError,
    LockedError,
    OutputError,
    ResumeError,
)
from batchcall.base.late_regex import late_regex
from batchcall.base.secret import Secret
from batchcall.base.terminal import printable
from batchcall.base.version import VERSION

if TYPE_CHECKING:
    from batchcall.base.did_you_mean import close_to
    from batchcall.base.nesting import is_deeper
    from batchcall.base.records import (
        NO_USAGE,
        Attempt,
        Bill,
        Failure,
        FailureKind,
        HttpRequest,
        HttpResponse,
        Json,
        Money,
        Outcome,
        Quota,
        RateLimits,
        RawCall,
        Reply,
        Request,
        Row,
        Scope,
        Shape,
        Status,
        Tool,
        ToolCall,
        Usage,
    )
    from batchcall.base.redaction import Redactor

__all__ = [
    "NO_USAGE",
    "VERSION",
    "Attempt",
    "BatchcallError",
    "Bill",
    "DamagedRecordError",
    "EndpointError",
    "ExitCode",
    "Failure",
    "FailureKind",
    "HttpRequest",
    "HttpResponse",
    "InputError",
    "JobError",
    "Json",
    "LockedError",
    "Money",
    "Outcome",
    "OutputError",
    "Quota",
    "RateLimits",
    "RawCall",
    "Redactor",
    "Reply",
    "Request",
    "ResumeError",
    "Row",
    "Scope",
    "Secret",
    "Shape",
    "Status",
    "Tool",
    "ToolCall",
    "Usage",
    "close_to",
    "counted",
    "fewer_collections",
    "is_deeper",
    "late_regex",
    "printable",
]

# Of all other names that are not here yet: records.
_HOMES = {"Redactor": "redaction", "close_to": "did_you_mean", "is_deeper": "nesting"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'records')}"), name)
