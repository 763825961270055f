"""A transcript as ElevenLabs' clients read it: words with what stands between them, and files besides.

The text is the engine's own, every character of it in one of the words: punctuation that an engine leaves out
of its words belongs to the word that it touches. Measures that an engine does not tell are 0, because clients
require them.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from roundhouse_engine.languages import THREE_LETTERS, UNSPACED
from roundhouse_gateway.errors import UnsupportedValueError
from roundhouse_gateway.speech.elevenlabs_export import exported
from roundhouse_gateway.speech.elevenlabs_request import Wanted
from roundhouse_gateway.speech.heard import Heard, Segment, Word
from roundhouse_gateway.speech.render import language_of, spoken_segments

MEDIA_TYPE: Final = "application/json"
_GAP: Final = re.compile(r"(\S*)(\s*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """A word as it stands in the text, or, without `word`, the space between two."""

    text: str
    word: Word | None = None


def render(heard: Heard, wanted: Wanted, model: str, only_language: str | None) -> bytes:
    """The body of the answer. `only_language` is that of a model that knows no other."""
    request = wanted.request()
    text = heard.text.strip()
    language = heard.language_code or wanted.language or only_language or language_of(heard, request)
    pieces = _pieces(text, heard, wanted, model, language)
    speakers = _Speakers(heard) if wanted.speakers else None
    if speakers is not None and text and not speakers.told:
        raise UnsupportedValueError(f"Engine '{model}' tells no speakers.", param="diarize")
    body: dict[str, Any] = {
        "language_code": THREE_LETTERS.get(language, language),
        "language_probability": _certainty(heard, wanted, only_language),
        "text": text,
        "words": list(_words(pieces, speakers)),
    }
    if heard.duration is not None:
        body["audio_duration_secs"] = round(heard.duration, 3)
    if wanted.exports:
        words = [_spelt(piece, speakers) for piece in pieces if piece.word is not None]
        segments = () if words else _named(spoken_segments(heard, request, model), speakers)
        body["additional_formats"] = [exported(each, words, segments, language) for each in wanted.exports]
    return msgspec.json.encode(body)


def _certainty(heard: Heard, wanted: Wanted, only_language: str | None) -> float:
    """1 where nothing had to be found out, the engine's own figure, or 0 where it tells none."""
    return 1.0 if wanted.language or only_language else heard.language_probability or 0.0


def _pieces(text: str, heard: Heard, wanted: Wanted, model: str, language: str) -> list[Piece]:
    if not wanted.words:
        return [Piece(part) for part in re.split(r"(\s+)", text) if part]
    words = heard.all_words
    if text and not words:
        raise UnsupportedValueError(
            f"Engine '{model}' tells no times of words. Use 'none' instead.", param="timestamps_granularity"
        )
    return pieces_of(text, words or (), language)


def pieces_of(text: str, words: Sequence[Word], language: str) -> list[Piece]:
    """The text cut into its words and the spaces between.

    Words that are not those of the text stand for themselves, with spaces where the language has them.
    """
    spans = _spans(text, words)
    if spans is None:
        space = [] if language in UNSPACED else [Piece(" ")]
        spoken = [Piece(word.word.strip(), word) for word in words]
        return [piece for each in spoken for piece in (*space, each)][len(space) :]
    pieces: list[Piece] = []
    done = 0
    for word, (start, end) in zip(words, spans, strict=True):
        before = text[done:start]
        if pieces:
            tail, space_between, before = _split(before)
            pieces[-1] = replace(pieces[-1], text=pieces[-1].text + tail)
            pieces += [Piece(space_between)] if space_between else []
        pieces.append(Piece(before + text[start:end], word))
        done = end
    if pieces:
        pieces[-1] = replace(pieces[-1], text=pieces[-1].text + text[done:])
    return pieces


def _split(gap: str) -> tuple[str, str, str]:
    """What touches the word before, the space, and what comes before the next word."""
    found = _GAP.fullmatch(gap)
    return (found[1], found[2], found[3]) if found else ("", gap, "")


def _spans(text: str, words: Sequence[Word]) -> list[tuple[int, int]] | None:
    """Where each word stands in the text; None where the text has other words than these, or more."""
    spans = []
    cursor = 0
    for word in words:
        said = word.word.strip()
        at = text.find(said, cursor) if said else -1
        if at < 0 or _has_words(text[cursor:at]):
            return None
        cursor = at + len(said)
        spans.append((at, cursor))
    return None if _has_words(text[cursor:]) else spans


def _has_words(gap: str) -> bool:
    return any(map(str.isalnum, gap))


def _words(pieces: Sequence[Piece], speakers: "_Speakers | None") -> Iterator[dict[str, Any]]:
    timed = [piece.word for piece in pieces if piece.word is not None]
    place = 0
    for piece in pieces:
        body: dict[str, Any] = {"text": piece.text, "type": "spacing" if piece.text.isspace() else "word"}
        spoken = piece.word or (timed[place - 1] if timed else None)
        if piece.word is not None:
            body |= {"start": round(piece.word.start, 3), "end": round(piece.word.end, 3)}
            place += 1
        elif spoken is not None:
            start = round(spoken.end, 3)
            body |= {"start": start, "end": max(start, round(timed[place].start, 3))}
        if speakers is not None and spoken is not None and (speaker := speakers.of(spoken)):
            body["speaker_id"] = speaker
        yield body | {"logprob": _logprob(piece.word)}


def _logprob(word: Word | None) -> float:
    """0 where no probability is told, or what is told is none."""
    if word is None or word.probability is None or word.probability <= 0:
        return 0.0
    return round(math.log(min(word.probability, 1.0)), 4)


def _spelt(piece: Piece, speakers: "_Speakers | None") -> Word:
    """The word as it stands in the text, with its speaker where they are told apart."""
    word = piece.word or Word(piece.text, 0.0, 0.0)
    return Word(piece.text, word.start, word.end, speaker=speakers.of(word) if speakers else None)


def _named(segments: Sequence[Segment], speakers: "_Speakers | None") -> Sequence[Segment]:
    return [
        Segment(each.start, each.end, each.text, speaker=speakers.name(each.speaker) if speakers else None)
        for each in segments
    ]


class _Speakers:
    """`speaker_0`, `speaker_1`, … in the order in which they speak first, as ElevenLabs numbers them."""

    def __init__(self, heard: Heard) -> None:
        self._segments = heard.segments or ()
        self._names: dict[str, str] = {}
        spoken: tuple[Segment | Word, ...] = (*self._segments, *(heard.all_words or ()))
        for one in spoken:
            self.name(one.speaker)

    @property
    def told(self) -> bool:
        return bool(self._names)

    def name(self, label: str | None) -> str | None:
        """None where the engine could not tell."""
        return label and self._names.setdefault(label, f"speaker_{len(self._names)}")

    def of(self, word: Word) -> str | None:
        """As the engine says of the word, else of the segment around its middle."""
        if word.speaker is not None:
            return self.name(word.speaker)
        middle = (word.start + word.end) / 2
        around = (each.speaker for each in self._segments if each.start <= middle <= each.end)
        return self.name(next(around, None))
