"""`python -m tests.bench.engines.libraries.pocketsphinx PATH`: decodes a file of 16 kHz mono samples.

As a whole, or while it is spoken: then it says after how many seconds there was a word.
"""

import sys
import time
from pathlib import Path

from tests.bench.engines.libraries import answer
from tests.bench.engines.speech import pieces


def main(path: Path) -> None:
    from pocketsphinx import Decoder, get_model_path  # noqa: PLC0415 - its import is part of the start

    samples = path.read_bytes()
    decoder = Decoder(
        hmm=get_model_path("en-us/en-us"),
        lm=get_model_path("en-us/en-us.lm.bin"),
        dict=get_model_path("en-us/cmudict-en-us.dict"),
        fwdflat=False,  # as the engine has it
        loglevel="ERROR",
    )

    def call() -> str:
        decoder.start_utt()
        decoder.process_raw(samples, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return str(found.hypstr) if found else ""

    def live() -> float:
        decoder.start_utt()
        try:
            began = time.monotonic()
            for at, piece in pieces(samples):
                time.sleep(max(began + at - time.monotonic(), 0))
                decoder.process_raw(piece)
                found = decoder.hyp()
                if found and found.hypstr:
                    return time.monotonic() - began
        finally:
            decoder.end_utt()
        raise AssertionError("nothing was heard")

    answer({"call": call, "live": live})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
