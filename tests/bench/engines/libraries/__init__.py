"""Each library as anyone would call it, in a process of its own: what its engine over HTTP is held against.

A process says `ready` once its model is loaded. For each line that it reads, the name of a piece of work, it
does that and answers with the seconds that it took and what came out.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping


def answer(works: Mapping[str, Callable[[], object]]) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries say things there
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        came = works[line.strip()]()
        print(json.dumps([time.monotonic() - began, came]), file=answers, flush=True)
