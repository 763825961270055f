"""`python -m tests.bench.engines.libraries.pocketsphinx PATH`: decodes a file of 16 kHz mono samples."""

import sys
from pathlib import Path

from tests.bench.engines.libraries import answer


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

    answer({"call": call})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
