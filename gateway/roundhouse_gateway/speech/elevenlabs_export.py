"""`additional_formats` of ElevenLabs: the transcript as a file beside the answer."""

from collections.abc import Sequence
from typing import Any, Final

from roundhouse_engine import formats
from roundhouse_gateway.speech.cues import READABLE, Limits, segments_of
from roundhouse_gateway.speech.elevenlabs_request import Export
from roundhouse_gateway.speech.heard import Segment, Word

_MEDIA_TYPES: Final = {"srt": "text/srt", "txt": "text/plain"}


def exported(
    export: Export, words: Sequence[Word], segments: Sequence[Segment], language: str
) -> dict[str, Any]:
    """One of the formats, made of the words, or of the segments where there are no words with times."""
    cues = segments_of(words, language, _limits(export)) if words else segments
    named = export.include_speakers is not False
    spoken = [_cue(each, named=named) for each in cues]
    if export.format == "srt":
        content = formats.srt(spoken, export.max_characters_per_line)
    else:
        content = "".join(_line(each, export) for each in spoken)
    return {
        "requested_format": export.format,
        "file_extension": export.format,
        "content_type": _MEDIA_TYPES[export.format],
        "is_base64_encoded": False,
        "content": content,
    }


def _limits(export: Export) -> Limits:
    return Limits(
        export.segment_on_silence_longer_than_s or READABLE.pause_seconds,
        export.max_segment_duration_s or READABLE.seconds,
        export.max_segment_chars or READABLE.characters,
    )


def _cue(segment: Segment, *, named: bool) -> formats.Segment:
    said = segment.text.strip()
    text = f"[{segment.speaker}] {said}" if named and segment.speaker else said
    return formats.Segment(segment.start, segment.end, text)


def _line(cue: formats.Segment, export: Export) -> str:
    when = "" if export.include_timestamps is False else f"[{formats.clock(cue.start, '.')}] "
    return f"{when}{cue.text}\n"
