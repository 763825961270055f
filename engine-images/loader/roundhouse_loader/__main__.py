"""`python -m roundhouse_loader [sweep]`: fetch or remove the weights, say how it ended, exit 0 or 1."""

import os
import signal
import sys


def _leave(*_: object) -> None:
    # Partial files are sound at any moment, so there is nothing to bring to an end.
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    # First of all: the kernel does not end the first process of a container by a signal that it ignores.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)

    from roundhouse_loader.cli import main

    os._exit(main(os.environ, sys.argv[1:]))
