"""The gateway as it is in a pod, as a program. Its service account lies in the folder that is its argument.

It imports the gateway and nothing else: its memory is measured.
"""

import sys
from pathlib import Path

from roundhouse_gateway import api_access, cli

if __name__ == "__main__":
    api_access.SERVICE_ACCOUNT = Path(sys.argv.pop())  # type: ignore[misc]
    cli.main()
