"""`python -m tests.bench.engines.libraries.pocketsphinx PATH`: decodes a file of 16 kHz mono samples.

As a whole, or while it is spoken: then it says after how many seconds there was a word. A step is the longest
utterance that the engine decodes at once.
"""

import sys
import time
from pathlib import Path

from tests.bench.engines.libraries import answer
from tests.bench.engines.speech import WINDOW_SECONDS, pieces, speech


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

    window = speech(WINDOW_SECONDS)

    def call() -> str:
        return decode(samples)

    def step() -> str:
        return decode(window)

    def decode(samples: bytes) -> str:
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

    answer({"call": call, "step": step, "live": live})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
