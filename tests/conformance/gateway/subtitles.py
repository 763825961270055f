"""SubRip and WebVTT read as players read them: strict in structure, so that what is parsed is well-formed."""

import re
from dataclasses import dataclass
from html import unescape

_SRT_CUE = re.compile(
    r"(?P<number>\d+)\n(?P<start>\d{2,}:\d\d:\d\d,\d{3}) --> (?P<end>\d{2,}:\d\d:\d\d,\d{3})\n(?P<text>.+)"
)
_VTT_CUE = re.compile(
    r"(?P<start>(\d{2,}:)?\d\d:\d\d\.\d{3}) --> (?P<end>(\d{2,}:)?\d\d:\d\d\.\d{3})\n(?P<text>.+)"
)


@dataclass(frozen=True)
class Cue:
    start: float
    end: float
    text: str


def parse_srt(text: str) -> list[Cue]:
    found = [_SRT_CUE.fullmatch(block) for block in text.rstrip("\n").split("\n\n") if block]
    assert all(found), text
    cues = [each for each in found if each]
    assert [int(cue["number"]) for cue in cues] == list(range(1, len(cues) + 1))
    return [Cue(_seconds(cue["start"]), _seconds(cue["end"]), cue["text"]) for cue in cues]


def parse_vtt(text: str) -> list[Cue]:
    head, *blocks = text.rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    found = [_VTT_CUE.fullmatch(block) for block in blocks]
    assert all(found), text
    assert not re.search(r"<|&(?!amp;|lt;|gt;)", "".join(blocks)), "markup is escaped"
    return [Cue(_seconds(cue["start"]), _seconds(cue["end"]), unescape(cue["text"])) for cue in found if cue]


def _seconds(clock: str) -> float:
    *hours, minutes, seconds = clock.replace(",", ".").split(":")
    assert int(minutes) < 60
    assert float(seconds) < 60
    return int(hours[0] if hours else 0) * 3600 + int(minutes) * 60 + float(seconds)
