"""Which files of a source are fetched, and which are not because they could run code."""

import io
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from typing_extensions import override

from roundhouse_api.v1alpha1 import WeightFormat as APIFormat
from roundhouse_loader.failure import LoadError
from roundhouse_loader.listing import MOST_FILES, check_paths
from roundhouse_loader.pickles import is_pickle
from roundhouse_loader.selection import choose
from roundhouse_loader.source import GCS, Source, WeightFormat

PLAIN = ("README.md", "config.json")
BOTH = (
    *PLAIN,
    "model.safetensors",
    "pytorch_model.bin",
    "tf_model.h5",
    "onnx/model.onnx",
    "onnx/model.onnx_data",
)


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    paths: tuple[str, ...]
    wanted: tuple[str, ...] | str
    """Paths, or the reason of the refusal."""
    format: str | None = None
    include: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


CASES = [
    Case("no format: all that is safe", BOTH, tuple(path for path in BOTH if path != "pytorch_model.bin")),
    Case("safetensors alone", BOTH, (*PLAIN, "model.safetensors"), "Safetensors"),
    Case("onnx with its data", BOTH, (*PLAIN, "onnx/model.onnx", "onnx/model.onnx_data"), "ONNX"),
    Case("pickles, allowed", BOTH, (*PLAIN, "pytorch_model.bin"), "PyTorch", allow=("UnsafeFormats",)),
    Case("a format that is pickled takes no leave by itself", BOTH, "UnsafeFormat", "PyTorch"),
    Case("nemo is pickled inside", ("model.nemo",), "UnsafeFormat", "NeMo"),
    Case("nemo, allowed", ("model.nemo",), ("model.nemo",), "NeMo", allow=("UnsafeFormats",)),
    Case("pickles alone", (*PLAIN, "model.pt"), "UnsafeFormat"),
    Case("ctranslate2 is no pickle", (*PLAIN, "model.bin"), (*PLAIN, "model.bin"), "CTranslate2"),
    Case(
        "two forms of one model, as MusicGen's smallest has them",
        (*PLAIN, "model.safetensors", "pytorch_model.bin", "state_dict.bin", "compression_state_dict.bin"),
        (*PLAIN, "model.safetensors"),
        "Safetensors",
    ),
    Case("a training run's rests", ("model.bin", "optimizer.bin", "rng_state_0.bin"), ("model.bin",)),
    Case("code is left out", (*PLAIN, "modeling.py", "m.gguf"), (*PLAIN, "m.gguf")),
    Case("code, allowed", ("modeling.py", "m.gguf"), ("modeling.py", "m.gguf"), allow=("RemoteCode",)),
    Case("nothing but code", ("modeling.py",), "SourceNotFound"),
    Case("patterns", BOTH, ("config.json", "onnx/model.onnx"), include=("*.json", "*.onnx")),
    Case("a folder as a pattern", BOTH, ("onnx/model.onnx", "onnx/model.onnx_data"), include=("onnx/",)),
    Case("patterns win over the format", BOTH, ("tf_model.h5",), "Safetensors", include=("*.h5",)),
    Case("a pattern that nothing matches", BOTH, "SourceNotFound", include=("*.gguf",)),
    Case("patterns allow no pickle", BOTH, "UnsafeFormat", include=("*.bin", "*.json")),
    Case("git's own files", (".gitattributes", "sub/.gitignore", "m.gguf"), ("m.gguf",)),
    Case("an empty repository", (), "SourceNotFound"),
    Case("models of no known format", ("hmm/mdef", "hmm/means"), ("hmm/mdef", "hmm/means"), "Sphinx"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_is_fetched(case: Case) -> None:
    source = Source(
        GCS("bucket"),
        WeightFormat(case.format) if case.format else None,
        unsafe_formats="UnsafeFormats" in case.allow,
        remote_code="RemoteCode" in case.allow,
    )
    if isinstance(case.wanted, tuple):
        assert choose(case.paths, source, case.include, by_format=True).wanted == case.wanted
        return
    with pytest.raises(LoadError) as refusal:
        choose(case.paths, source, case.include, by_format=True)
    assert refusal.value.reason == case.wanted


def test_of_a_bucket_all_is_fetched_whatever_the_format() -> None:
    source = Source(GCS("bucket"), WeightFormat.SAFETENSORS)
    assert choose(("a.safetensors", "b.onnx"), source).wanted == ("a.safetensors", "b.onnx")


def test_what_is_left_out_is_named() -> None:
    choice = choose(("a.safetensors", "b.pt", "c.py"), Source(GCS("bucket")))
    assert choice.left_out == ("b.pt", "c.py")


def test_formats_are_those_of_the_api() -> None:
    assert {each.value for each in WeightFormat} == {each.value for each in APIFormat}


def pickled(protocol: int) -> bytes:
    return pickle.dumps({"weights": [1.0]}, protocol)


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, pickled(2))
    return out.getvalue()


class Calls:
    """What a pickle may do where it is read."""

    @override
    def __reduce__(self) -> tuple[object, tuple[()]]:
        return dict, ()


CALL = b"cposix\nsystem\n(S'true'\ntR"
"""Is carried out before what follows it is read."""
BYTES = [
    ("protocol 2", pickled(2), True),
    ("protocol 0 that calls", pickle.dumps(Calls(), 0), True),
    ("protocol 1 that calls", pickle.dumps(Calls(), 1), True),
    ("something behind it", pickle.dumps(Calls(), 4) + b"\n", True),
    ("two of them", pickled(4) + pickle.dumps(Calls(), 4), True),
    ("what it calls is far behind", pickle.dumps([bytes(2 << 20), Calls()], 3), True),
    ("broken behind its call", CALL + b"\xff\xff", True),
    ("broken behind its call, with a mark", b"\x80\x04" + CALL + b"\xff\xff", True),
    ("cut off behind its call", CALL + b"X\xff\xff\xff\x7f", True),
    ("what it calls with is long", CALL.replace(b"true", b"true #" + b"x" * (1 << 20)) + b".", True),
    ("much that does nothing before its call", b"I1\n0" * 300_000 + CALL + b".", True),
    (
        "one long thing before its call",
        b"T" + (2 << 20).to_bytes(4, "little") + bytes(2 << 20) + b"0" + CALL,
        True,
    ),
    ("a long line before its call", b"V" + b"x" * (2 << 20) + b"\n0" + CALL, True),
    ("a number that only C reads", b"I0x10\n0" + CALL, True),
    ("a text that is not ASCII", b"S'\xff'\n0" + CALL, True),
    ("a harmless one before it", b"I5\n." + CALL, True),
    ("an unknown instruction behind its call", CALL + b"\xff", True),
    (
        "numbers that begin like one long thing",
        b"T" + (2 << 20).to_bytes(4, "little") + bytes(3 << 20),
        False,
    ),
    ("one long line", b"Vitamins " * (1 << 18), False),
    ("a list of words with a name", b"cat\ndog\nbird\nRat\nSaturday\nThursday\n", False),
    ("a list of words with another", b"icecream\nvanilla\nbuild\no\nR\nb\n.\n", False),
    ("a config", b'{"model_type": "whisper"}', False),
    ("a list of words", b"[PAD]\n[UNK]\nN.\n", False),
    ("merges", b"#version: 0.2\nt h\n", False),
    ("a full stop", b".", False),
    ("safetensors", (16).to_bytes(8, "little") + b'{"a": [1, 2, 3]}', False),
    ("gguf", b"GGUF" + bytes(20), False),
    ("protocol 5", pickled(5), True),
    ("torch.save", zipped("archive/data.pkl"), True),
    ("torch.save of old", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.raw tensors", True),
    ("a zip of other things", zipped("weights.npy"), False),
    ("torch.save, in capitals", zipped("ARCHIVE/DATA.PKL"), True),
    ("a zip that only others read", zipped("weights.npy")[:-1], True),
    ("a zip with a name that is no text", zipped("\u00e9.npy").replace(b"\xc3\xa9", b"\xff\xff"), True),
    (
        "a zip of a later version",
        zipped("weights.npy").replace(b"PK\1\2\x14\3\x14", b"PK\1\2\x14\3\xff"),
        True,
    ),
    ("a list of words with initials", b"PK\nVK\n", False),
    ("ctranslate2", (6).to_bytes(4, "little") + bytes(100), False),
    ("bytes that begin like a pickle", b"\x80\x02" + bytes(100), False),
    ("one byte", b"\x80", False),
    ("nothing", b"", False),
]


@pytest.mark.parametrize(("content", "is_one"), [row[1:] for row in BYTES], ids=[row[0] for row in BYTES])
def test_a_pickle_is_known_by_its_bytes(tmp_path: Path, content: bytes, is_one: bool) -> None:
    (tmp_path / "file").write_bytes(content)
    assert is_pickle(tmp_path / "file") is is_one


@pytest.mark.parametrize(
    "paths",
    [
        ("../a",),
        ("/a",),
        ("a/../b",),
        ("a//b",),
        ("",),
        ("a\\b",),
        ("a\0b",),
        ("é" * 200,),
        ("a", "a/b"),
        tuple(map(str, range(MOST_FILES + 1))),
    ],
    ids=[
        "climbs",
        "absolute",
        "climbs inside",
        "empty part",
        "empty",
        "backslash",
        "nul",
        "long",
        "clash",
        "many",
    ],
)
def test_names_that_no_cache_can_hold_are_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(LoadError):
        check_paths(paths)
