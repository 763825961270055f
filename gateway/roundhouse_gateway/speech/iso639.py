"""Codes of languages with two letters and with three: ElevenLabs answers with those, engines speak these."""

from types import MappingProxyType
from typing import Final

_PAIRS: Final = """
af afr am amh ar ara as asm az aze ba bak be bel bg bul bn ben bo bod br bre bs bos ca cat cs ces cy cym
da dan de deu el ell en eng es spa et est eu eus fa fas fi fin fo fao fr fra gl glg gu guj ha hau he heb
hi hin hr hrv ht hat hu hun hy hye id ind is isl it ita ja jpn jw jav ka kat kk kaz km khm kn kan ko kor
la lat lb ltz ln lin lo lao lt lit lv lav mg mlg mi mri mk mkd ml mal mn mon mr mar ms msa mt mlt my mya
ne nep nl nld nn nno no nor oc oci pa pan pl pol ps pus pt por ro ron ru rus sa san sd snd si sin sk slk
sl slv sn sna so som sq sqi sr srp su sun sv swe sw swa ta tam te tel tg tgk th tha tk tuk tl tgl tr tur
tt tat uk ukr ur urd uz uzb vi vie yi yid yo yor zh zho
"""

_CODES: Final = _PAIRS.split()
THREE_LETTERS: Final = MappingProxyType(dict(zip(_CODES[::2], _CODES[1::2], strict=True)))
_OTHER_NAMES: Final = {"jv": "jw", "cmn": "zh", "fil": "tl", "nob": "no", "iw": "he", "in": "id"}
_TWO_LETTERS: Final = MappingProxyType({three: two for two, three in THREE_LETTERS.items()} | _OTHER_NAMES)


def engines_code(code: str) -> str:
    """The code that engines know, of `eng`, `en` or `en-GB`; what has no shorter one stays."""
    primary = code.strip().lower().replace("_", "-").partition("-")[0]
    return _TWO_LETTERS.get(primary, primary)


def three_letters(code: str) -> str:
    """`eng` of `en`; what is not known stays as it is."""
    return THREE_LETTERS.get(code, code)
