"""Command line of the local cluster: `python -m tests.cluster.local --help`."""

from .cli import main

main()
