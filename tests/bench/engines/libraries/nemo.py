"""`python -m tests.bench.engines.libraries.nemo MODEL PATH`: hears a file of 16 kHz mono samples.

A step is one window through the encoder.
"""

import sys
from pathlib import Path

from tests.bench.engines.libraries import answer
from tests.bench.engines.speech import CLIPS, RATE, WINDOW_SECONDS


def main(model: Path, path: Path) -> None:
    import logging  # noqa: PLC0415 - imports are part of the start
    import os  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from nemo.collections.asr.models import ASRModel  # noqa: PLC0415

    logging.getLogger("nemo_logger").setLevel(logging.ERROR)
    from roundhouse_nemo.settings import read_settings  # noqa: PLC0415 - the same threads

    torch.set_num_threads(read_settings(os.environ).threads)
    (file,) = model.glob("*.nemo")
    listener = ASRModel.restore_from(str(file), map_location="cpu").eval()
    samples = np.fromfile(path, "<i2").astype(np.float32) / 32768

    def call() -> str:
        (found,) = listener.transcribe([samples], batch_size=1, timestamps=True, verbose=False)
        return str(found.text)

    clips = np.split(samples, CLIPS)

    def batch() -> list[str]:
        found = listener.transcribe(clips, batch_size=CLIPS, timestamps=True, verbose=False)
        return [str(each.text) for each in found]

    window = np.resize(samples, round(WINDOW_SECONDS * RATE))

    def step() -> None:
        signal = torch.from_numpy(window)[None]
        with torch.inference_mode():
            features, count = listener.preprocessor(
                input_signal=signal, length=torch.tensor([signal.shape[1]])
            )
            listener.encoder(audio_signal=features, length=count)

    answer({"call": call, "batch": batch, "step": step})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
