"""`python -m batchcall` is the command `batchcall`."""

from batchcall.cli import main

main(prog_name="batchcall")
