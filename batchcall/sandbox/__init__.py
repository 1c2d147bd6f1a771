"""The embedded endpoint: the vendors' protocols for rehearsals and tests, in a process of its own."""

from batchcall.sandbox.process import open_sandbox, serve
from batchcall.sandbox.settings import Settings, describe_faults, parse_faults

__all__ = ["Settings", "describe_faults", "open_sandbox", "parse_faults", "serve"]
