"""CMU PocketSphinx as a speech engine: its wheel's English model or fetched ones, with times of words.

An utterance is decoded as a whole, because its features are normalised over all of it: fed in small pieces,
short phrases come out wrong ("ten of clubs" as "i've been up close"). It is at most 30 s long and takes a
seventh of that; where a cancellation cannot wait so long, the SDK ends the process. A session's utterance is
therefore decoded twice: in pieces while it is spoken, for what it seems to say, and as a whole at its end.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from pocketsphinx import Decoder, Vad, get_model_path
from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    Isolation,
    ModelError,
    ModelSpec,
    RealtimeSpeech,
    Segment,
    SpeechOptions,
    Utterance,
    Window,
    Word,
)
from roundhouse_engine.realtime_speech import Detector
from roundhouse_engine.vad import cut

_RATE: Final = 16_000
_FRAMES_PER_SECOND: Final = 100

# `word(2)` is a word's second pronunciation; <s>, </s>, <sil> and [NOISE] are no words.
_PRONUNCIATION: Final = re.compile(r"\(\d+\)$")
_PRONUNCIATIONS: Final = re.compile(r"\(\d+\)(?= |$)")
_NO_WORD: Final = re.compile(r"[<\[+]")


@dataclass(frozen=True, slots=True)
class Parts:
    """The three files or folders of a model."""

    acoustic: Path
    language: Path
    dictionary: Path


def find_parts(root: Path) -> Parts:
    """Those of a model as CMU Sphinx publishes them; raises ModelError for what is missing.

    The acoustic model is the folder with `mdef`. Of several language models the largest is taken, because
    the small ones are of phones.
    """
    files = sorted((path for path in root.rglob("*") if path.is_file()), key=lambda path: path.as_posix())
    acoustic = next((path.parent for path in files if path.name == "mdef"), None)
    language = max(
        (path for path in files if path.name.endswith((".lm", ".lm.bin", ".lm.dmp"))),
        key=lambda path: path.stat().st_size,
        default=None,
    )
    dictionary = next((path for path in files if path.suffix in (".dict", ".dic")), None)
    found = {"mdef": acoustic, "*.lm, *.lm.bin or *.lm.dmp": language, "*.dict or *.dic": dictionary}
    if acoustic is None or language is None or dictionary is None:
        missing = ", ".join(name for name, path in found.items() if path is None)
        raise ModelError(f"{str(root)!r} holds no CMU Sphinx model: {missing} is missing.")
    return Parts(acoustic, language, dictionary)


class PocketSphinx(RealtimeSpeech):
    isolation = Isolation.PROCESS  # the library holds the interpreter's lock while it decodes
    sessions = 0  # each is a process with the model in it, which not every pod has the memory for
    early = True
    sample_rate = _RATE
    languages: ClassVar[frozenset[str] | None] = frozenset({"en"})
    word_timestamps = True

    @override
    @classmethod
    def accept(cls, model: ModelSpec) -> None:
        if (model.source["type"] == "Builtin") != (model.path is None):
            raise ModelError(
                f"{model.name!r} has the source {model.source['type']!r} and the path {model.path!r}: this "
                'engine serves the English model that it brings along, {"type": "Builtin"} without a path, '
                "or one that lies at a path."
            )

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        parts = find_parts(Path(model.path if model.path is not None else get_model_path("en-us")))
        self._decoder = Decoder(
            hmm=str(parts.acoustic),
            lm=str(parts.language),
            dict=str(parts.dictionary),
            # A second pass over the utterance takes a fifth more time and finds no more words.
            fwdflat=False,
            loglevel="ERROR",
        )
        if (rate := self._decoder.config["samprate"]) != _RATE:
            raise ModelError(
                f"{model.name!r} is made for sound of {rate} samples a second; this engine has {_RATE}."
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
            yield from self.segments(window)

    @override
    def detector(self) -> Detector:
        ears = Vad(Vad.LOOSE, _RATE)
        return lambda frame: bool(ears.is_speech(frame))

    @override
    def utterance(self, options: SpeechOptions, *, interim: bool) -> Utterance:
        return Spoken(self, self._decoder if interim else None)

    def segments(self, window: Window) -> Iterator[Segment]:
        if words := self._decode(window):
            text = " " + " ".join(word.text for word in words)
            yield Segment(words[0].start, words[-1].end, text, words)

    def _decode(self, window: Window) -> tuple[Word, ...]:
        self._decoder.reinit_feat()  # else the last utterance's loudness colours this one
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(window.samples, full_utt=True)
        finally:
            self._decoder.end_utt()  # else none can be begun any more
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


class Spoken(Utterance):
    """An utterance that is spoken just now; `decoder` None: nobody wants to know before its end."""

    def __init__(self, engine: PocketSphinx, decoder: Decoder | None) -> None:
        self._engine = engine
        self._decoder = decoder
        if decoder is not None:
            decoder.start_utt()

    @override
    def feed(self, samples: bytes, cancellation: Cancellation) -> str | None:
        if self._decoder is None:
            return None
        self._decoder.process_raw(samples)
        guess = self._decoder.hyp()
        return None if guess is None else _PRONUNCIATIONS.sub("", guess.hypstr)

    @override
    def finish(self, window: Window, cancellation: Cancellation) -> Iterable[Segment]:
        self.drop()
        return self._engine.segments(window)

    @override
    def drop(self) -> None:
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.end_utt()
