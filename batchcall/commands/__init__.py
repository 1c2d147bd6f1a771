"""One public function for each command."""

from batchcall.commands.check import CheckReport, check_job
from batchcall.commands.init import write_starter
from batchcall.commands.revalidate import Revalidation, revalidate_job
from batchcall.commands.status import OutputStatus, read_status
from batchcall.commands.verify import Proof, verify_output

__all__ = [
    "CheckReport",
    "OutputStatus",
    "Proof",
    "Revalidation",
    "check_job",
    "read_status",
    "revalidate_job",
    "verify_output",
    "write_starter",
]
