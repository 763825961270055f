"""A Whisper model in CTranslate2's format, made on the spot: it says chosen words at chosen times.

It is deaf. Its decoder's weights are next to nothing, so that each token's embedding comes out as it went in,
and the projection leads from it to the token that follows: a sentence is a chain. One head of attention looks
from the n-th word at the n-th half second, which is where the library then finds it. Another looks back for a
word that sounds like the last one: where that was read before, in a prompt or among hotwords, it is said.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from ctranslate2.specs import WhisperSpec
from faster_whisper.tokenizer import _LANGUAGE_CODES
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

WORD_SECONDS: Final = 0.5

_LANGUAGES: Final = tuple(_LANGUAGE_CODES)[:99]
_BEGIN, _END = "<|startoftranscript|>", "<|endoftext|>"
_TRANSCRIBE, _TRANSLATE, _UNTIMED = "<|transcribe|>", "<|translate|>", "<|notimestamps|>"
NO_SPEECH: Final = "<|nospeech|>"
_TICKS: Final = 1501
_BANDS: Final = 32

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Whisper:
    """What the model says, in which language it takes all speech to be, and how large it is."""

    says: Sequence[str] = ("hello", "world")
    alike: str = ""
    """It sounds like the last word: nearly as likely, and likelier where it stands in what came before."""
    translates: Sequence[str] = ("good", "day")
    language: str = "en"
    multilingual: bool = True
    mels: int = 80
    width: int = 64
    layers: int = 2
    heads: int = 2
    text_tokens: int = 600
    sure: float = 6.0
    """How strongly it says a word after another: with 0.5, others are about as likely."""
    breaks_off: bool = False
    """It writes a time half a second after the last word as well, as if a sentence began there."""
    further: Sequence[str] = ()
    """Where it breaks off: the sentence that begins there, with no time after it."""
    speech: bool = True
    """Without: it says first of all that nobody speaks."""
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def languages(self) -> tuple[str, ...]:
        return _LANGUAGES if self.multilingual else ("en",)

    @property
    def chain(self) -> list[tuple[str, str]]:
        """Each token and the one that follows it."""
        first = f"<|{self.language}|>" if self.multilingual else _tick(0)
        last = len(self.says) * 25
        further = [_tick(last + 25), *map(_token, self.further)] if self.breaks_off else []
        said = [_tick(0), *map(_token, self.says), _tick(last), *further, _END]
        meant = [_tick(1), *map(_token, self.translates), _tick(len(self.translates) * 25 + 1), _END]
        begun = [
            (_BEGIN, first if self.speech else NO_SPEECH),
            (_TRANSCRIBE, said[0]),
            (_TRANSLATE, meant[0]),
            (_UNTIMED, said[1]),
        ]
        links = [*begun, *pairwise(said), *pairwise(meant)]
        return list(dict(links).items())

    @property
    def alignment_heads(self) -> list[list[int]]:
        return [[self.layers - 1, 0]]

    def noise(self, *shape: int, scale: float = 0.02) -> Matrix:
        return (self.random.standard_normal(shape) * scale).astype(np.float32)


UNSURE: Final = Whisper(alike="whirled")
"""Whether the world or whirled: hints decide."""


def make_whisper(folder: Path, whisper: Whisper | None = None) -> Path:
    """Write the model into `folder`, complete as a download of it would be."""
    whisper = whisper or Whisper()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(whisper)
    spec = weights(whisper, tokenizer)
    names = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda each: each[1])
    spec.register_vocabulary([name for name, _ in names])
    config = spec.config
    config.suppress_ids = []
    config.suppress_ids_begin = [tokenizer.token_to_id(_END)]
    config.lang_ids = [tokenizer.token_to_id(f"<|{code}|>") for code in whisper.languages]
    config.alignment_heads = whisper.alignment_heads
    spec.validate()
    spec.optimize()
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    sound = {"feature_size": whisper.mels, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30}
    (folder / "preprocessor_config.json").write_text(json.dumps(sound | {"n_fft": 400}))
    return folder


def _tick(number: int) -> str:
    return f"<|{number * 0.02:.2f}|>"


def _token(word: str) -> str:
    return f"Ġ{word}"


def weights(whisper: Whisper, tokenizer: Any) -> Any:
    """As CTranslate2 specifies them, of which other formats can be made."""
    spec = WhisperSpec(whisper.layers, whisper.heads, whisper.layers, whisper.heads)
    _encoder(spec.encoder, whisper)
    _decoder(spec.decoder, whisper, tokenizer)
    return spec


def make_tokenizer(whisper: Whisper) -> Any:
    """Every word is one token, by a chain of merges; ids are read by their order."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for word in (*whisper.says, *filter(None, [whisper.alike]), *whisper.translates, *whisper.further):
        whole = "Ġ"
        for letter in word:
            if (whole, letter) not in merges:
                merges.append((whole, letter))
            whole += letter
            vocabulary.setdefault(whole, len(vocabulary))
    while len(vocabulary) < whisper.text_tokens - 1:
        vocabulary[f"Ġw{len(vocabulary)}"] = len(vocabulary)
    # CTranslate2 calls a vocabulary multilingual where it holds the empty token.
    vocabulary["" if whisper.multilingual else "Ġzz"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [_END, _BEGIN, *(f"<|{code}|>" for code in whisper.languages), _TRANSLATE, _TRANSCRIBE]
    special += ["<|startoflm|>", "<|startofprev|>", NO_SPEECH, _UNTIMED]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    ticks = [AddedToken(_tick(number), special=False, normalized=False) for number in range(_TICKS)]
    tokenizer.add_tokens(ticks)
    return tokenizer


def _encoder(encoder: Any, whisper: Whisper) -> None:
    width = whisper.width
    encoder.conv1.weight = whisper.noise(width, whisper.mels, 3)
    encoder.conv2.weight = whisper.noise(width, width, 3)
    encoder.conv1.bias = encoder.conv2.bias = np.zeros(width, np.float32)
    places = whisper.noise(1500, width)
    for number in range(1500):
        places[number, (number // 25) % _BANDS] += 8
    encoder.position_encodings.encodings = places
    _norm(encoder.layer_norm, width)
    for layer in encoder.layer:
        _attention(layer.self_attention, whisper, (3, 1), 0.05)
        _feed_forward(layer.ffn, whisper, 0.05)


def _decoder(decoder: Any, whisper: Whisper, tokenizer: Any) -> None:
    width, size = whisper.width, tokenizer.get_vocab_size()
    decoder.position_encodings.encodings = np.zeros((448, width), np.float32)
    _norm(decoder.layer_norm, width)
    for layer in decoder.layer:
        _attention(layer.self_attention, whisper, (3, 1), 1e-4)
        _attention(layer.attention, whisper, (1, 2, 1), 1e-3)
        _feed_forward(layer.ffn, whisper, 1e-4)
    embeddings, projection = whisper.noise(size, width, scale=0.05), whisper.noise(size, width, scale=0.05)
    places = {name: 2 * number for number, (name, _) in enumerate(whisper.chain)}
    # Tokens beside the sentence lead nowhere until it is over, and to the end then: beams of them that ended
    # sooner would end the search, and later would prolong it.
    after, last = 2 * len(places), len(whisper.says) + 5
    embeddings[:, : after + 2] = 0
    decoder.position_encodings.encodings[last:, after : after + 2] = (1, -1)
    projection[tokenizer.token_to_id(_END), after : after + 2] += (1, -1)
    for name, place in places.items():  # its mean is zero, so that normalisation keeps its direction
        embeddings[tokenizer.token_to_id(name)] = 0
        embeddings[tokenizer.token_to_id(name), place : place + 2] = (1, -1)
    for name, following in whisper.chain:
        place, sure = places[name], 6.0 if name == _BEGIN else whisper.sure
        projection[tokenizer.token_to_id(following), place : place + 2] += (sure, -sure)
    decoder.embeddings.weight, decoder.projection.weight = embeddings, projection
    decoder.projection.bias = np.zeros(size, np.float32)
    _aim(decoder.layer[-1].attention, whisper, places)
    if whisper.alike:
        _look_back(decoder, whisper, tokenizer, places)


def _aim(attention: Any, whisper: Whisper, places: dict[str, int]) -> None:
    """The first head of the last layer looks from each word at its half second."""
    width = whisper.width
    query, keys = np.zeros((width, width), np.float32), np.zeros((2 * width, width), np.float32)
    for words in (whisper.says, whisper.translates):
        # Alignment is asked without time stamps, and what looks at a word is the token before it.
        for number, name in enumerate([_UNTIMED, *map(_token, words)]):
            place = places[name]
            query[number % _BANDS, place : place + 2] = (1, -1)
    keys[:_BANDS, :_BANDS] = np.eye(_BANDS)
    attention.linear[0].weight, attention.linear[1].weight = query, keys


def _look_back(decoder: Any, whisper: Whisper, tokenizer: Any, places: dict[str, int]) -> None:
    """The first head of the last layer looks from before the last word for the one that sounds alike."""
    width, embeddings, projection = whisper.width, decoder.embeddings.weight, decoder.projection.weight
    last, alike = (tokenizer.token_to_id(_token(word)) for word in (whisper.says[-1], whisper.alike))
    # By two directions that no token of the sentence has: what marks the word, and that it was found.
    marked = 2 * len(places) + 2
    found = marked + 2
    embeddings[:, marked : found + 2] = 0
    embeddings[alike] = embeddings[last]  # the same follows it
    embeddings[alike, marked:found] = (1, -1)
    projection[alike] = 0.95 * projection[last]
    projection[alike, found : found + 2] = (2, -2)
    joined, out = np.zeros((3 * width, width), np.float32), np.zeros((width, width), np.float32)
    for name, following in whisper.chain:
        if following == _token(whisper.says[-1]):
            joined[0, places[name] : places[name] + 2] = (1, -1)
    joined[[width, 2 * width], marked] = 1
    joined[[width, 2 * width], marked + 1] = -1
    out[found : found + 2, 0] = (0.15, -0.15)
    decoder.layer[-1].self_attention.linear[0].weight = joined
    decoder.layer[-1].self_attention.linear[1].weight = out


def _norm(layer: Any, width: int) -> None:
    layer.gamma, layer.beta = np.ones(width, np.float32), np.zeros(width, np.float32)


def _linear(layer: Any, shape: tuple[int, int], whisper: Whisper, scale: float) -> None:
    layer.weight, layer.bias = whisper.noise(*shape, scale=scale), np.zeros(shape[0], np.float32)


def _attention(layer: Any, whisper: Whisper, parts: tuple[int, ...], scale: float) -> None:
    _norm(layer.layer_norm, whisper.width)
    for each, times in zip(layer.linear, parts, strict=True):
        _linear(each, (times * whisper.width, whisper.width), whisper, scale)


def _feed_forward(layer: Any, whisper: Whisper, scale: float) -> None:
    _norm(layer.layer_norm, whisper.width)
    _linear(layer.linear_0, (4 * whisper.width, whisper.width), whisper, scale)
    _linear(layer.linear_1, (whisper.width, 4 * whisper.width), whisper, scale)
