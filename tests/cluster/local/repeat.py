"""Runs the command in its arguments again whenever it ends, until it is told to end itself.

`kubectl port-forward` ends with the pod that it chose; the next run chooses another.
"""

import signal
import subprocess
import sys
import time

PAUSE_SECONDS = 0.5


def main() -> None:
    # It leads a process group of its own, which whoever ends it signals as a whole: the command ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        status = subprocess.run(sys.argv[1:], check=False).returncode
        print(f"ended with {status}; starting it again", flush=True)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
