"""`python -m flows`: the command line `dcd` without its script."""

from flows.cli import main

main()
