"""NeMo's engine with tiny models that it makes before it loads the first: one import of NeMo for both.

They are kept in the cache, for the other tests of the run and for the next run. `python -m
tests.conformance.engine.nemo_engine` serves; with the argument `make` it only makes them.
"""

import fcntl
import gc
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from typing_extensions import override

from roundhouse_engine import Cancellation, ModelSpec, Segment, SpeechOptions, Window, serve, vad
from roundhouse_engine.memory import share_one_heap
from roundhouse_nemo.handler import Nemo
from tests.cluster.local.paths import cache_root
from tests.support.recordings import GO_FORWARD_WORDS, TEST_DATA, WEATHER_WORDS, spoken
from tests.support.waiting import wait_until

MAKER = Path(__file__).parents[2] / "support/tiny_nemo.py"
SECOND = bytes(32_000)
FRAME_BYTES = 960
MOST_KEPT = 4
SOMETHING_WORDS = "go somewhere and do something"
WINDOW_WORDS = "please open the window and close the door"
logger = logging.getLogger("roundhouse_engine.nemo_engine")


@cache
def recordings() -> dict[str, bytes]:
    """Two of a person's and two of flite's, by what they say: samples of 16 bits, 16 kHz."""
    return {
        GO_FORWARD_WORDS: (TEST_DATA / "goforward.raw").read_bytes(),
        SOMETHING_WORDS: (TEST_DATA / "something.raw").read_bytes(),
        WINDOW_WORDS: spoken(WINDOW_WORDS, voice="rms")[44:],
        WEATHER_WORDS: spoken(WEATHER_WORDS)[44:],
    }


def speech(*said: str) -> bytes:
    """Samples of what is said, in this order, with long pauses: each is a window of its own.

    Each begins with a frame of those by which speech is found, so that it is always cut out alike.
    """
    padded = (recordings()[words] + bytes(-len(recordings()[words]) % FRAME_BYTES) for words in said)
    return SECOND * 3 + b"".join(samples + SECOND * 3 for samples in padded)


def models_folder() -> Path:
    """Where the models lie once they are made; what another maker made of other windows lies elsewhere."""
    makers = (MAKER, Path(__file__), Path(vad.__file__))
    made_of = b"".join([*(each.read_bytes() for each in makers), *recordings().values()])
    return cache_root() / "tiny-nemo" / hashlib.sha256(made_of).hexdigest()[:16]


def made_models() -> Path:
    """Their folder, for a process that does not import NeMo."""
    if not _there():
        subprocess.run([sys.executable, "-m", __name__, "make"], check=True)
    return models_folder()


def make() -> None:
    """Make them, or wait for whoever makes some, of this checkout or another."""
    folder = models_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _there():
            return
        import roundhouse_nemo.restore  # noqa: F401, PLC0415 - it imports NeMo without its warnings
        from tests.support.tiny_nemo import Lesson, make_models  # noqa: PLC0415

        lessons = []
        # First and after a pause a phrase is cut out a little differently.
        for order in (tuple(recordings()), tuple(reversed(recordings()))):
            found = vad.EnergyDetector()
            windows = vad.cut([speech(*order)], 16_000, found, Nemo.window_seconds, Cancellation())
            lessons += [Lesson(window.samples, words) for window, words in zip(windows, order, strict=True)]
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        of_canary = [each for each in lessons if each.words in (GO_FORWARD_WORDS, WEATHER_WORDS)]
        make_models(unfinished, lessons, of_canary)
        unfinished.rename(folder)
        _there()
        keep_newest(folder.parent)


def keep_newest(parent: Path) -> None:
    """Other checkouts have theirs beside it, and may be reading them."""
    folders = [each for each in parent.iterdir() if each.is_dir()]
    for old in sorted(folders, key=lambda each: each.stat().st_mtime, reverse=True)[MOST_KEPT:]:
        shutil.rmtree(old)


def _there() -> bool:
    """Whether they are; what is used counts as new."""
    try:
        os.utime(models_folder())
    except FileNotFoundError:
        return False
    return True


OUT_OF_MEMORY = "take all memory"
LEAVES = "take a step until I have left"
AHEAD = "tdt"
"""Of a recording of this one's, windows are heard at once, as of all on a GPU."""


class Learning(Nemo):
    _leaving: Cancellation | None = None

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        if not _there():
            make()
        super().load(model, progress)
        if model.name == AHEAD:
            self._hearing.ahead = 3
        for step in ("_encode", "_decode", "_write"):
            if together := getattr(self._hearing, step, None):
                together._compute = self._told(together._compute)
        live = self._live._decoding if self._live else None
        decoders = [each.decoding for each in (self._hearing.model.decoding, live) if each is not None]
        computers = [each.decoding_computer for each in decoders if hasattr(each, "decoding_computer")]
        if any(each.cuda_graphs_mode is not None for each in computers):
            raise AssertionError("it would make CUDA graphs")
        logger.info("%s: %d transducers without CUDA graphs", model.name, len(computers))

    def _told(self, compute: Callable[[Sequence[Any]], Sequence[Any]]) -> Any:
        """A step: those of a request that tells so are logged, and end once its client has left."""

        def step(items: Sequence[Any]) -> Sequence[Any]:
            leaving = self._leaving
            if leaving is not None:
                logger.info("%s: a step for who leaves", self._hearing.name)
                wait_until(lambda: leaving.cancelled, seconds=60, what="its client leaves", every=0.02)
            return compute(items)

        return step

    @override
    def warm_up(self) -> None:
        """Says which of the model's parts computed."""
        from torch.nn.modules.module import register_module_forward_hook  # noqa: PLC0415

        called: set[object] = set()
        hook = register_module_forward_hook(lambda part, *_: called.add(part))
        super().warm_up()
        hook.remove()
        parts = self._hearing.model.named_children()
        warm = sorted(name for name, part in parts if not called.isdisjoint(part.modules()))
        logger.info("%s is warm: %s.", self._hearing.name, ", ".join(warm))

    @override
    def listen(self, window: Window, options: SpeechOptions, cancellation: Cancellation) -> Iterator[Segment]:
        self._leaving = cancellation if options.prompt == LEAVES else None
        if options.prompt == OUT_OF_MEMORY:
            import torch  # noqa: PLC0415 - there since the model was loaded

            with self._hearing.computing():
                torch.empty(1 << 50)
        return super().listen(window, options, cancellation)

    @override
    def unload(self) -> None:
        """Says whether the weights are gone then, whenever Python would have looked for garbage."""
        weights = weakref.ref(next(self._hearing.model.parameters()))
        gc.disable()
        try:
            super().unload()
            logger.info("the weights are %s", "gone" if weights() is None else "still there")
        finally:
            gc.enable()


if __name__ == "__main__":
    if sys.argv[1:] == ["make"]:
        make()
    else:
        share_one_heap()  # as users run it
        serve(Learning)
