"""From a template and a row to a request that names no vendor. Pure."""

from batchcall.requests.prompt import RowError, TemplateError
from batchcall.requests.requests import (
    RequestBuilder,
    RequestHash,
    Sent,
    make_builder,
    sent_to,
    template_faults,
    tools_of,
)
from batchcall.requests.row_parts import sent_name

__all__ = [
    "RequestBuilder",
    "RequestHash",
    "RowError",
    "Sent",
    "TemplateError",
    "make_builder",
    "sent_name",
    "sent_to",
    "template_faults",
    "tools_of",
]
