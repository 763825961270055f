"""PocketSphinx as anyone would call it: what the engine over HTTP is held against.

`python -m tests.bench.pocketsphinx PATH`: says `ready`, then decodes the file of 16 kHz mono samples for each
line that it reads, and answers with the seconds that took and the words.
"""

import json
import sys
import time
from pathlib import Path


def _serve(samples: bytes) -> None:
    from pocketsphinx import Decoder, get_model_path  # noqa: PLC0415 - its import is part of the start

    decoder = Decoder(
        hmm=get_model_path("en-us/en-us"),
        lm=get_model_path("en-us/en-us.lm.bin"),
        dict=get_model_path("en-us/cmudict-en-us.dict"),
        fwdflat=False,  # as the engine has it
        loglevel="ERROR",
    )
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.monotonic()
        decoder.start_utt()
        decoder.process_raw(samples, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        print(json.dumps([time.monotonic() - began, found.hypstr if found else ""]), flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]).read_bytes())
