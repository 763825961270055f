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

_OTHERS: Final = MappingProxyType(
    {"cmn": "zh", "fil": "tl", "in": "id", "iw": "he", "jv": "jw", "nb": "no", "nob": "no"}
)
"""Codes of the same languages that ISO or clients use and Whisper does not."""

_CODES: Final = MappingProxyType({name: code for code, name in NAMES.items()})

UNSPACED: Final = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})
"""Languages that put no space between words, so that segments are joined without one."""


def english_name(code: str) -> str:
    """The English name of a language code; the code itself where the table does not know it."""
    return NAMES.get(code, code)


def language_code(value: str) -> str | None:
    """The code of what a client sent: `en`, `EN`, `en-US`, `en_GB`, `English`; None for no language."""
    text = value.strip().lower()
    if text in _CODES:
        return _CODES[text]
    code = text.replace("_", "-").partition("-")[0]
    code = _OTHERS.get(code, code)
    return code if code in NAMES else None
