"""The job file: read, checked once with all faults together, typed."""

from batchcall.job.endpoint import (
    auth_of,
    endpoint_names,
    exposed_keys,
    masked_headers,
    request_url,
    resolve_key,
    takes_any_name,
)
from batchcall.job.model import (
    as_job,
    changed_keys,
    is_batch_file,
    job_schema,
    load_job,
    masked,
    pace_of,
    rehearsed,
    request_identity,
    resolve_tool_choice,
    speakers,
    spoken_by,
    stored_job,
)
from batchcall.job.reading import job_files_in, parse_duration
from batchcall.job.sections import EndpointSection, Job, LimitsSection

__all__ = [
    "EndpointSection",
    "Job",
    "LimitsSection",
    "as_job",
    "auth_of",
    "changed_keys",
    "endpoint_names",
    "exposed_keys",
    "is_batch_file",
    "job_files_in",
    "job_schema",
    "load_job",
    "masked",
    "masked_headers",
    "pace_of",
    "parse_duration",
    "rehearsed",
    "request_identity",
    "request_url",
    "resolve_key",
    "resolve_tool_choice",
    "speakers",
    "spoken_by",
    "stored_job",
    "takes_any_name",
]
