"""What NeMo's engine says of files that it cannot serve, before it imports NeMo."""

import ast
import importlib.util
import io
import os
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from roundhouse_engine import ModelError, ModelSpec
from roundhouse_nemo.archive import open_archive
from roundhouse_nemo.configuration import PARTS
from roundhouse_nemo.handler import Nemo
from roundhouse_nemo.settings import read_settings
from tests.conformance.engine.nemo_engine import keep_newest

MODELS = "nemo.collections.asr.models"
CONFIG = f"target: {MODELS}.rnnt_bpe_models.EncDecRNNTBPEModel\nsample_rate: 16000\ntrain_ds: {{a: 1}}\n"
PARTS_OF = "nemo.collections.asr.modules."
BILLION = "".join(f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n" for last, name in pairwise("abcdefgh"))
FILES: Mapping[str, bytes] = {
    "./model_config.yaml": CONFIG.encode(),
    "./1234_tokenizer.model": b"pieces",
    "./model_weights.ckpt": b"weights" * 1000,
}


def pack(files: Mapping[str, bytes], mode: str = "w:") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return out.getvalue()


def without(*names: str) -> bytes:
    return pack({name: data for name, data in FILES.items() if name not in names})


def of_class(target: str) -> bytes:
    return pack(dict(FILES) | {"./model_config.yaml": f"target: {target}\n".encode()})


def saying(config: str) -> bytes:
    """An archive whose configuration says more than that of `FILES`."""
    return pack(dict(FILES) | {"./model_config.yaml": (CONFIG + config).encode()})


def garbled(data: bytes) -> bytes:
    return data[:40] + bytes(40) + data[80:]


def write(data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "m.nemo").write_bytes(data)


def sparse(folder: Path) -> None:
    """A short file that GNU's tar says is a gigabyte of nothing."""
    about = tarfile.TarInfo("model_weights.ckpt")
    about.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(about.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (1 << 30)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:512]) + 8 * ord(" "))
    (folder / "m.nemo").write_bytes(bytes(header) + without("./model_weights.ckpt"))


def two(folder: Path) -> None:
    for name in ("a.nemo", "b.nemo"):
        (folder / name).write_bytes(pack(FILES))


@dataclass(frozen=True)
class Bad:
    id: str
    make: Callable[[Path], object]
    says: str


BAD = [
    Bad("no directory", lambda folder: folder.rmdir(), "there is no directory"),
    Bad("nothing in it", lambda _: None, "holds no .nemo file. Fetch"),
    Bad(
        "of another engine",
        lambda folder: (folder / "model.safetensors").touch(),
        "It holds 'model.safetensors', which another engine reads",
    ),
    Bad("two", two, "holds a.nemo, b.nemo: one model"),
    Bad("no archive", write(b"no archive" * 100), "no .nemo archive, or a damaged one"),
    Bad("empty", write(b""), "no .nemo archive, or a damaged one"),
    Bad("half", write(pack(FILES)[:4000]), "no .nemo archive, or a damaged one"),
    Bad("half, packed", write(pack(FILES, "w:gz")[:150]), "no .nemo archive, or a damaged one"),
    Bad("no weights", write(without("./model_weights.ckpt")), "lacks model_weights.ckpt"),
    Bad("no configuration", write(without("./model_config.yaml")), "lacks model_config.yaml"),
    Bad("no YAML", write(pack(dict(FILES) | {"./model_config.yaml": b"{"})), "is no YAML"),
    Bad("a list", write(pack(dict(FILES) | {"./model_config.yaml": b"- 1"})), "is no mapping"),
    Bad("no class", write(of_class("")), "made for the class None"),
    Bad("code of others", write(of_class("subprocess.Popen")), "runs no code of others"),
    Bad("packed nothing", write(pack(dict(FILES) | {"./more": bytes(70 << 20)}, "w:gz")), "than 4 times its"),
    Bad("packed otherwise", write(pack(FILES, "w:xz")), "no .nemo archive, or a damaged one"),
    Bad("packed, garbled", write(garbled(pack(FILES, "w:gz"))), "no .nemo archive, or a damaged one"),
    Bad("large files", write(pack(dict(FILES) | {"./more": bytes(65 << 20)})), "too much beside its weights"),
    Bad(
        "large configuration",
        write(pack(dict(FILES) | {"./model_config.yaml": b"#" * (5 << 20)})),
        "too much beside its weights",
    ),
    Bad("many files", write(pack(dict(FILES) | {str(at): b"" for at in range(1000)})), "too many files"),
    Bad("sparse", sparse, "lacks model_weights.ckpt"),
    Bad("another task", write(of_class(f"{MODELS}.EncDecMultiTaskModel")), "This engine serves NeMo's Enc"),
]


@dataclass(frozen=True)
class Unsafe:
    id: str
    config: str
    says: str


UTILS = "nemo.collections.asr.parts.utils"
UNSAFE = [
    Unsafe("a function", f"preprocessor: {{_target_: {UTILS}.manifest_utils.write_manifest}}", "names 'nemo"),
    Unsafe(
        "below", f"encoder: {{a: [{{b: {{_target_: {UTILS}.diarization_utils.write_txt}}}}]}}", "names 'nemo"
    ),
    Unsafe("of another package", "decoder: {_target_: torch.nn.Linear}", "names 'torch.nn.Linear'"),
    Unsafe("longer", f"joint: {{_target_: {PARTS_OF}ConformerEncoder.x}}", "names 'nemo"),
    Unsafe(
        "a list", "joint: {_target_: [nemo]}", "which no model served here is made of, at 'joint._target_'"
    ),
    Unsafe("a class below", f"encoder: {{target: {MODELS}.EncDecCTCModel}}", "has the setting 'target'"),
    Unsafe(
        "the old way", "encoder: {cls: builtins.exec, params: {}}", "has the setting 'cls' at 'encoder.cls'"
    ),
    Unsafe(
        "in part", f"joint: {{_target_: {PARTS_OF}RNNTJoint, _partial_: true}}", "has the setting '_partial_'"
    ),
    Unsafe("by place", f"joint: {{_target_: {PARTS_OF}RNNTJoint, _args_: [1]}}", "has the setting '_args_'"),
    Unsafe(
        "a tokenizer",
        "tokenizer: {type: bpe, custom_tokenizer: {_target_: x}}",
        "has the setting 'custom_tokenizer' at 'tokenizer.custom_tokenizer'",
    ),
    Unsafe(
        "a place to look", "tokenizer: {langs: {en: {hf_kwargs: {pretrained_model_name: /x}}}}", "has the set"
    ),
    Unsafe("computed", "encoder: {_target_: '${model.kind}'}", "leaves a value to be computed"),
    Unsafe(
        "computed, all", "encoder: \"${oc.decode:'{_target_: builtins.exec}'}\"", "leaves a value to be comp"
    ),
    Unsafe(
        "another file",
        "decoding: {greedy: {ngram_lm_model: /models/x.nemo}}",
        "file '/models/x.nemo' outside",
    ),
    Unsafe("another folder", "tokenizer: {model_path: 'nemo:../x'}", "file 'nemo:../x' outside"),
    Unsafe("within itself", "a: &a {b: *a}", "is larger than any model's"),
    Unsafe("without end", "a: &a [x, x, x, x, x, x, x, x]\n" + BILLION, "is larger than any model's"),
]


@pytest.mark.parametrize("unsafe", UNSAFE, ids=lambda unsafe: unsafe.id)
def test_a_configuration_that_could_do_more_than_make_a_model_is_refused(
    unsafe: Unsafe, tmp_path: Path
) -> None:
    (tmp_path / "m.nemo").write_bytes(saying(unsafe.config))
    with pytest.raises(ModelError, match=re.escape(unsafe.says)), open_archive(ModelSpec("m", tmp_path)):
        pass


def test_code_in_an_archive_does_not_run(tmp_path: Path) -> None:
    """NeMo's own check lets all of this pass: write a module, then let a tokenizer's loader import it."""
    ran, home = tmp_path / "ran", tmp_path / "home"
    home.mkdir()
    texts = {
        "mod.py": f"open({str(ran)!r}, 'w')",
        "tokenizer_config.json": '{"auto_map": {"AutoTokenizer": [null, "mod.Tok"]}}',
        "config.json": '{"model_type": "bert"}',
    }
    steps: dict[str, object] = {
        name.partition(".")[0]: {
            "_target_": f"{UTILS}.diarization_utils.write_txt",
            "w_path": str(home / name),
            "val": text,
        }
        for name, text in texts.items()
    }
    steps["load"] = {
        "_target_": "nemo.collections.common.tokenizers.huggingface.auto_tokenizer.AutoTokenizer",
        "pretrained_model_name": str(home),
        "trust_remote_code": True,
    }
    part = {"_target_": f"{PARTS_OF}AudioToMelSpectrogramPreprocessor", **steps}
    (tmp_path / "m.nemo").write_bytes(saying(yaml.safe_dump({"preprocessor": part})))
    with pytest.raises(ModelError, match="it could run code"):
        Nemo().load(ModelSpec("m", tmp_path), lambda _: None)
    assert not list(home.iterdir())
    assert not ran.exists()


def test_what_a_model_may_be_made_of_is_a_class_of_nemos() -> None:
    """Read, not imported: that takes half a minute."""
    found = importlib.util.find_spec("nemo")
    assert found is not None
    assert found.submodule_search_locations is not None
    modules = Path(found.submodule_search_locations[0]) / "collections/asr/modules"
    classes = {
        node.name
        for file in modules.glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    assert set(PARTS) <= classes


def test_what_nemo_saves_is_shown_to_it_whole(tmp_path: Path) -> None:
    said = {
        "tokenizer": {"dir": "/where/it/was/made", "type": "bpe", "model_path": "nemo:1234_tokenizer.model"},
        "preprocessor": {"_target_": f"{PARTS_OF}AudioToMelSpectrogramPreprocessor", "window": "hann"},
        "encoder": {"_target_": f"{PARTS_OF}ConformerEncoder", "self_attention_model": "rel_pos"},
        "decoding": {"greedy": {"ngram_lm_model": None}, "beam": {"kenlm_path": ""}, "durations": [0, 1]},
    }
    unread = {"optim": {"_target_": "torch.optim.AdamW"}, "validation_ds": {"manifest_path": ["${x}"]}}
    (tmp_path / "m.nemo").write_bytes(saying(yaml.safe_dump({**said, **unread})))
    with open_archive(ModelSpec("m", tmp_path)) as archive:
        assert archive.config == {"target": f"{MODELS}.EncDecRNNTBPEModel", "sample_rate": 16000, **said}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_what_cannot_be_served_says_why(bad: Bad, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    bad.make(folder)
    with pytest.raises(ModelError, match=bad.says), open_archive(ModelSpec("m", folder)):
        pass


def test_without_a_path_nothing_is_begun() -> None:
    with pytest.raises(ModelError, match="this image brings no weights"):
        Nemo.accept(ModelSpec("m"))


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_an_archive_is_opened_and_leaves_nothing_behind(mode: str, tmp_path: Path) -> None:
    (tmp_path / "m.nemo").write_bytes(pack(FILES, mode))
    with open_archive(ModelSpec("m", tmp_path)) as archive:
        assert (archive.class_name, archive.decodes_by) == ("EncDecRNNTBPEModel", "rnnt")
        assert archive.config.keys() == {"target", "sample_rate"}, "what training needs is left out"
        assert (archive.folder / "1234_tokenizer.model").read_bytes() == b"pieces"
        assert archive.weights.read() == b"weights" * 1000
        assert archive.weights.seek(7) == 7, "torch reads here and there"
        assert archive.weights.read(7) == b"weights"
        folder = archive.folder
    assert not folder.exists()


def test_no_file_is_written_outside(tmp_path: Path) -> None:
    (tmp_path / "m.nemo").write_bytes(pack(dict(FILES) | {"../../outside": b"x", "/absolute": b"x"}))
    with open_archive(ModelSpec("m", tmp_path)) as archive:
        written = {each.name for each in archive.folder.iterdir()}
    assert written == {"model_config.yaml", "1234_tokenizer.model", "outside", "absolute"}
    assert not Path("/absolute").exists()


def test_models_that_other_checkouts_made_and_use_are_kept(tmp_path: Path) -> None:
    for at in range(7):
        folder = tmp_path / f"made-{at}"
        folder.mkdir()
        os.utime(folder, (at, at))
    (tmp_path / "lock").touch()
    keep_newest(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"lock", "made-3", "made-4", "made-5", "made-6"}


def test_settings_say_what_they_may_be() -> None:
    told = {"ROUNDHOUSE_DEVICE": "CPU", "ROUNDHOUSE_LATENCY_MS": "160", "OMP_NUM_THREADS": "3"}
    found = read_settings(told)
    assert (found.device, found.dtype, found.latency_ms, found.threads) == ("cpu", "auto", 160, 3)
    assert read_settings({}).latency_ms is None
    with pytest.raises(ModelError, match="must be one of auto, cpu, cuda, not 'tpu'"):
        read_settings({"ROUNDHOUSE_DEVICE": "tpu"})
    with pytest.raises(ModelError, match="ROUNDHOUSE_LATENCY_MS must be a whole number"):
        read_settings({"ROUNDHOUSE_LATENCY_MS": "soon"})
