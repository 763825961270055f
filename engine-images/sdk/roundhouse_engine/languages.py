"""Names of languages: the English name that OpenAI's answers carry, and the code that everything else speaks.

The table is Whisper's (100 languages); where it knows no ISO-639-1 code it uses the ISO-639-3 one.
"""

from types import MappingProxyType
from typing import Final

_TABLE: Final = """
af afrikaans|am amharic|ar arabic|as assamese|az azerbaijani|ba bashkir|be belarusian|bg bulgarian
bn bengali|bo tibetan|br breton|bs bosnian|ca catalan|cs czech|cy welsh|da danish|de german|el greek
en english|es spanish|et estonian|eu basque|fa persian|fi finnish|fo faroese|fr french|gl galician
gu gujarati|ha hausa|haw hawaiian|he hebrew|hi hindi|hr croatian|ht haitian creole|hu hungarian
hy armenian|id indonesian|is icelandic|it italian|ja japanese|jw javanese|ka georgian|kk kazakh|km khmer
kn kannada|ko korean|la latin|lb luxembourgish|ln lingala|lo lao|lt lithuanian|lv latvian|mg malagasy
mi maori|mk macedonian|ml malayalam|mn mongolian|mr marathi|ms malay|mt maltese|my myanmar|ne nepali
nl dutch|nn nynorsk|no norwegian|oc occitan|pa punjabi|pl polish|ps pashto|pt portuguese|ro romanian
ru russian|sa sanskrit|sd sindhi|si sinhala|sk slovak|sl slovenian|sn shona|so somali|sq albanian
sr serbian|su sundanese|sv swedish|sw swahili|ta tamil|te telugu|tg tajik|th thai|tk turkmen|tl tagalog
tr turkish|tt tatar|uk ukrainian|ur urdu|uz uzbek|vi vietnamese|yi yiddish|yo yoruba|yue cantonese
zh chinese
"""

NAMES: Final = MappingProxyType(
    {
        code: name
        for code, _, name in (entry.partition(" ") for entry in _TABLE.strip().replace("\n", "|").split("|"))
    }
)
"""Code to English name, lower case, as Whisper and OpenAI write it."""

_OTHERS: Final = """
aa ab ae ak an av ay bi ce ch co cr cu cv dv dz ee eo ff fj fy ga gd gn gv ho hz ia ie ig ii ik io iu jv ki
kj kl kr ks ku kv kw ky lg li lu mh na nb nd ng nr nv ny oj om or os pi qu rm rn rw sc se sg sm ss st tn to
ts tw ty ug ve vo wa wo xh za zu
"""
"""What else ISO 639-1 has."""

_PAIRS: Final = """
af afr am amh ar ara as asm az aze ba bak be bel bg bul bn ben bo bod br bre bs bos ca cat cs ces cy cym
da dan de deu el ell en eng es spa et est eu eus fa fas fi fin fo fao fr fra gl glg gu guj ha hau he heb
hi hin hr hrv ht hat hu hun hy hye id ind is isl it ita ja jpn jw jav ka kat kk kaz km khm kn kan ko kor
la lat lb ltz ln lin lo lao lt lit lv lav mg mlg mi mri mk mkd ml mal mn mon mr mar ms msa mt mlt my mya
ne nep nl nld nn nno no nor oc oci pa pan pl pol ps pus pt por ro ron ru rus sa san sd snd si sin sk slk
sl slv sn sna so som sq sqi sr srp su sun sv swe sw swa ta tam te tel tg tgk th tha tk tuk tl tgl tr tur
tt tat uk ukr ur urd uz uzb vi vie yi yid yo yor zh zho
"""
_BY_TURNS: Final = _PAIRS.split()
THREE_LETTERS: Final = MappingProxyType(dict(zip(_BY_TURNS[::2], _BY_TURNS[1::2], strict=True)))
"""ISO 639-3 by the code that is spoken here."""

_SHORTER: Final = MappingProxyType(
    {three: two for two, three in THREE_LETTERS.items()}
    | {"cmn": "zh", "fil": "tl", "in": "id", "iw": "he", "jv": "jw", "nb": "no", "nob": "no"}
)
"""Of other codes of the same languages, which ISO or clients use and Whisper does not."""

_CODES: Final = MappingProxyType({name: code for code, name in NAMES.items()})

UNSPACED: Final = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})
"""Languages that put no space between words, so that segments are joined without one."""


def english_name(code: str) -> str:
    """The English name of a language code; the code itself where the table does not know it."""
    return NAMES.get(code, code)


def language_code(value: str) -> str | None:
    """The code of what a client sent: `en`, `EN`, `en-US`, `en_GB`, `eng`, `English`; None: no language."""
    text = value.strip().lower()
    if text in _CODES:
        return _CODES[text]
    code = short_code(text)
    return code if code in NAMES else None


def is_code(code: str) -> bool:
    """Whether models name a language so: by ISO 639-1, or by three letters where that has none."""
    short = code in NAMES or code in _OTHERS.split()
    return short or (len(code) == 3 and code.isascii() and code.islower() and short_code(code) == code)


def short_code(code: str) -> str:
    """The code that models name, of `eng`, `EN` or `en-GB`; a code that has no shorter one stays."""
    primary = code.strip().lower().replace("_", "-").partition("-")[0]
    return _SHORTER.get(primary, primary)
