"""`python -m flows`: the command line `dcd` without its script."""

from flows.cli import app

app(prog_name="dcd")
