"""`python -m flows`: the command line `dcd` without its script."""

from flows.cli.app import main

main()
