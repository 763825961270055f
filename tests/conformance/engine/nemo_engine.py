"""NeMo's engine with tiny models that it makes before it loads the first: one import of NeMo for all.

`python -m tests.conformance.engine.nemo_engine FOLDER` writes them into FOLDER.
"""

import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

from typing_extensions import override

from roundhouse_engine import Cancellation, ModelSpec, serve
from roundhouse_nemo.handler import Nemo
from tests.support.recordings import GO_FORWARD_WORDS, TEST_DATA, WEATHER_WORDS, spoken

SECOND = bytes(32_000)
_making = threading.Lock()


@cache
def recordings() -> dict[str, bytes]:
    """A person's and flite's, by what they say: samples of 16 bits, 16 kHz."""
    return {
        GO_FORWARD_WORDS: (TEST_DATA / "goforward.raw").read_bytes(),
        WEATHER_WORDS: spoken(WEATHER_WORDS)[44:],
    }


def speech(*said: str) -> bytes:
    """Samples of what is said, in this order, with long pauses: each is a window of its own."""
    return SECOND * 2 + b"".join(recordings()[words] + SECOND * 3 for words in said)


class Learning(Nemo):
    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        folder = Path(sys.argv[1])
        with _making:
            if not (folder / "made").exists():
                self._make(folder)
        super().load(model, progress)

    def _make(self, folder: Path) -> None:
        import roundhouse_nemo.restore  # noqa: F401, PLC0415 - it imports NeMo without its warnings
        from tests.support.tiny_nemo import Lesson, make_models  # noqa: PLC0415

        lessons = []
        # First and after a pause a phrase is cut out a little differently.
        for order in (tuple(recordings()), tuple(reversed(recordings()))):
            windows = self.windows(iter([speech(*order)]), Cancellation())
            lessons += [Lesson(window.samples, words) for window, words in zip(windows, order, strict=True)]
        make_models(folder, lessons)
        (folder / "made").touch()


if __name__ == "__main__":
    serve(Learning)
