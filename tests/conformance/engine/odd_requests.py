"""Requests for transcripts that nobody would write: odd sound, odd fields, and some that are all right."""

from hypothesis import strategies as st

from tests.support.recordings import wav

RATES = (1, 999, 1000, 7919, 8000, 16_000, 44_100, 192_000, 768_000)
ODD = st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF), max_size=12)
FIELDS: dict[str, tuple[str, ...]] = {
    "language": ("en", "de", "fr", "und", "EN-us", "english", "xx", ""),
    "response_format": ("json", "text", "srt", "vtt", "verbose_json", "diarized_json", "xml", ""),
    "temperature": ("0", "1", "0.5", "-1", "nan", "inf", "1e400", ""),
    "timestamp_granularities[]": ("word", "segment", "letter", ""),
    "stream": ("true", "false", "maybe", ""),
    "prompt": ("go", "<|endoftext|>", "\ufeff"),
    "hotwords": ("meters,ten", ",,,"),
    "chunking_strategy": ("auto", '{"type": "server_vad"}', "{"),
}


def _sound(samples: bytes, times: int, rate: int) -> bytes:
    return wav(samples * times, rate_hertz=rate)


def _cut(whole: bytes, size: int, at: int, noise: bytes) -> bytes:
    return (whole[:at] + noise + whole[at + len(noise) :])[:size]


SOUNDS = st.builds(
    _sound,
    st.binary(min_size=2, max_size=64).map(lambda data: data[: len(data) // 2 * 2]),
    st.integers(0, 400),
    st.sampled_from(RATES),
)
FILES = st.one_of(
    st.none(),
    st.binary(max_size=100),
    SOUNDS,
    st.builds(_cut, SOUNDS, st.integers(0, 4000), st.integers(0, 60), st.binary(max_size=8)),
)
"""None: no file at all."""


def requests(*models: str) -> st.SearchStrategy[dict[str, str]]:
    """The fields of a request to one of the models, or to one that is not there."""
    told = {name: st.sampled_from(values) | ODD for name, values in FIELDS.items()}
    return st.fixed_dictionaries({"model": st.sampled_from([*models, "nobody", ""])}, optional=told)
