"""Real speech for tests and the demo: a person's recording and sentences spoken by flite.

Both come from Debian packages (`pocketsphinx-testdata`, `flite`): no voice of anybody belongs in the tree.
"""

import io
import subprocess
import tempfile
import wave
from pathlib import Path

TEST_DATA = Path("/usr/share/pocketsphinx/test/data")

GO_FORWARD_WORDS = "go forward ten meters"
"""What the person says in `goforward.raw`."""

WEATHER_WORDS = "the weather will be sunny tomorrow morning"
"""A sentence that pocketsphinx understands word for word from flite's voice `slt`."""


def wav(samples: bytes, *, rate_hertz: int = 16_000) -> bytes:
    """Wrap mono signed 16-bit little-endian samples as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hertz)
        file.writeframes(samples)
    return out.getvalue()


def go_forward() -> bytes:
    """A person saying GO_FORWARD_WORDS, as a WAV file of 16 kHz mono."""
    return wav((TEST_DATA / "goforward.raw").read_bytes())


def spoken(text: str, *, voice: str = "slt") -> bytes:
    """`text` spoken by flite, as a WAV file of 16 kHz mono."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(
            ["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True, capture_output=True
        )
        return path.read_bytes()
