"""CMU PocketSphinx as a speech engine: the English model of its wheel, batch, with the times of each word.

An utterance is decoded as a whole, because its features are normalised over all of it: fed in small pieces,
short phrases come out wrong ("ten of clubs" as "i've been up close"). It is at most 30 s long and takes a
seventh of that; where a cancellation cannot wait so long, the SDK ends the process.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Final

from pocketsphinx import Decoder, Vad, get_model_path
from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    Isolation,
    ModelError,
    ModelSpec,
    Segment,
    Speech,
    SpeechOptions,
    Window,
    Word,
)
from roundhouse_engine.vad import cut

_RATE: Final = 16_000
_FRAMES_PER_SECOND: Final = 100

# `word(2)` is a word's second pronunciation; <s>, </s>, <sil> and [NOISE] are no words.
_PRONUNCIATION: Final = re.compile(r"\(\d+\)$")
_NO_WORD: Final = re.compile(r"[<\[+]")


class PocketSphinx(Speech):
    isolation = Isolation.PROCESS  # the library holds the interpreter's lock while it decodes
    cancel_seconds = 1.0
    sample_rate = _RATE
    languages: ClassVar[frozenset[str] | None] = frozenset({"en"})
    word_timestamps = True

    @override
    @classmethod
    def accept(cls, model: ModelSpec) -> None:
        if model.source["type"] != "Builtin" or model.path is not None:
            raise ModelError(
                f"{model.name!r} has the source {model.source['type']!r}, but this engine serves the English "
                'model that it brings along: set the source to {"type": "Builtin"} and leave `path` out.'
            )

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        self._decoder = Decoder(
            hmm=get_model_path("en-us/en-us"),
            lm=get_model_path("en-us/en-us.lm.bin"),
            dict=get_model_path("en-us/cmudict-en-us.dict"),
            # A second pass over the utterance takes a fifth more time and finds no more words.
            fwdflat=False,
            loglevel="ERROR",
        )

    @override
    def windows(self, audio: Iterator[bytes], cancellation: Cancellation) -> Iterator[Window]:
        return cut(audio, _RATE, Vad(Vad.LOOSE, _RATE).is_speech, self.window_seconds, cancellation)

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        for window in windows:
            cancellation.check()
            if words := self._decode(window):
                text = " " + " ".join(word.text for word in words)
                yield Segment(words[0].start, words[-1].end, text, words)

    def _decode(self, window: Window) -> tuple[Word, ...]:
        self._decoder.start_utt()
        self._decoder.process_raw(window.samples, full_utt=True)
        self._decoder.end_utt()
        if self._decoder.hyp() is None:
            return ()
        return tuple(
            Word(
                _PRONUNCIATION.sub("", found.word),
                window.start + found.start_frame / _FRAMES_PER_SECOND,
                window.start + (found.end_frame + 1) / _FRAMES_PER_SECOND,
            )
            for found in self._decoder.seg()
            if not _NO_WORD.match(found.word)
        )
