"""Words of strangers, made fit for a status: secrets masked, in one line, cut to a length.

What a container wrote last may hold anything, and a status is read by more people than a log. Masked is
what looks like a secret by its own form or by the name before it; better a word too much than one too few.
"""

from __future__ import annotations

import re
from typing import Final

DETAIL_BYTES: Final = 256
MASK: Final = "***"

_VALUE: Final = r"""(?:"[^"]*(?:"|$)|'[^']*(?:'|$)|[^\s|,;&"']+)"""
_NAMED: Final = (
    r"api[-_ ]?key|access[-_ ]?key(?:[-_ ]?id)?|private[-_ ]?key|token|secret|password|passwd|pwd|passphrase"
    r"|credential|authorization|signature|\bsig\b"
)
_SHAPED: Final = (
    r"(?:hf_|sk-|[rs]k_(?:live|test)_|rh_|gh[opsu]_|github_pat_|glpat-|xox[abprs]-|npm_|pypi-|dapi|gsk_|AIza)"
)
"""How keys of some begin."""
_ANSWERED: Final = re.compile(
    r"\b(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|WS) /\S*(?: HTTP/[\d.]+\"?)? [123]\d\d\b"
)
"""A line of an access log about a request that went well: a failed one may be the cause."""
_PATTERNS: Final = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"), MASK),
    (re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^\s/|]*@"), rf"\1{MASK}@"),
    (
        re.compile(
            rf"(?i)((?:{_NAMED})[\w-]*[\"']?\s*(?:=>|[=:])\s*)[\"']?(?:(?:bearer|basic|token|digest)\s+)?{_VALUE}"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(rf"(?i)\b(bearer\s+){_VALUE}"), rf"\1{MASK}"),
    # What comes behind an option, as a program prints that was started with it; `--token-limit 8` is none.
    (
        re.compile(rf"(?i)((?<![\w-])--?(?:[\w-]*[-_])?(?:{_NAMED})\s+)(?!-){_VALUE}"),
        rf"\1{MASK}",
    ),
    (re.compile(rf"(?i)((?:{_NAMED})\s+(?:provided|given|used):\s+){_VALUE}"), rf"\1{MASK}"),
    # Not behind `secret` or `token`, where the name of a Secret stands in the words of the kubelet.
    (
        re.compile(r"""(?i)((?:api[-_ ]?key|access[-_ ]?key|passw(?:or)?d)\s+)(?:"[^"]+"|'[^']+')"""),
        rf"\1{MASK}",
    ),
    (re.compile(rf"(?<![A-Za-z0-9]){_SHAPED}[A-Za-z0-9_.-]{{6,}}"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{12,}"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])eyJ[\w-]{8,}(?:\.[\w-]+){0,2}"), MASK),
)


def masked(text: str) -> str:
    """`text` without what looks like a secret; masked twice is the same as once."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def last_words(text: str) -> str:
    """The last lines of a log as one of at most `DETAIL_BYTES` bytes: as many as there is room for.

    A line that has no room keeps its beginning and its end, where that is half of the room at least. Lines of
    requests that were answered well explain nothing, and are left out.
    """
    said = " | ".join(line for line in text.split("\n") if not _ANSWERED.search(line))
    whole = masked(said.strip(" |"))
    if len(whole.encode()) <= DETAIL_BYTES:
        return whole
    room, kept = DETAIL_BYTES, list[str]()
    for line in reversed(whole.split(" | ")):
        if (size := len(line.encode()) + len(" | ") * bool(kept)) > room:
            if room >= DETAIL_BYTES // 2:
                kept.append(_shortened(line, room - len(" | ") * bool(kept)))
            break
        kept.append(line)
        room -= size
    words = " | ".join(reversed(kept))
    return words if "…" in words else f"…{words}"


def _shortened(line: str, room: int) -> str:
    """What is missing stands at the beginning of a message as often as at its end. In bytes."""
    mark, encoded = "…", line.encode()
    begin = (room - len(mark.encode())) // 2
    end = room - len(mark.encode()) - begin
    return encoded[:begin].decode(errors="ignore") + mark + encoded[-end:].decode(errors="ignore")
