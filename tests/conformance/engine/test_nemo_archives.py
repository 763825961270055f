"""What NeMo's engine says of files that it cannot serve, before it imports NeMo."""

import errno
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from roundhouse_engine import ModelError, ModelSpec
from roundhouse_nemo.archive import open_archive
from roundhouse_nemo.handler import Nemo
from roundhouse_nemo.settings import read_settings
from tests.conformance.engine.nemo_engine import keep_newest

MODELS = "nemo.collections.asr.models"
CONFIG = f"target: {MODELS}.rnnt_bpe_models.EncDecRNNTBPEModel\nsample_rate: 16000\ntrain_ds: {{a: 1}}\n"
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
    Bad(
        "another task", write(of_class(f"{MODELS}.EncDecSpeakerLabelModel")), "This engine serves NeMo's Enc"
    ),
]


def test_a_second_model_in_canarys_file_is_neither_unpacked_nor_loaded(tmp_path: Path) -> None:
    """As large as the first, and NeMo would load it by a configuration that nobody has read."""
    config = f"target: {MODELS}.EncDecMultiTaskModel\nrestore_timestamps_model: true\n"
    second = {
        "./timestamps_asr_model_config.yaml": b"target: subprocess.Popen",
        "./timestamps_asr_model_weights.ckpt": bytes(65 << 20),
    }
    (tmp_path / "m.nemo").write_bytes(pack(dict(FILES) | {"./model_config.yaml": config.encode()} | second))
    with open_archive(ModelSpec("m", tmp_path)) as archive:
        assert {each.name for each in archive.folder.iterdir()} == {
            "model_config.yaml",
            "1234_tokenizer.model",
        }
        assert archive.config["restore_timestamps_model"] is False
        assert archive.decodes_by == "aed"


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_what_cannot_be_served_says_why_and_leaves_nothing_behind(
    bad: Bad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, unpacked = tmp_path / "model", tmp_path / "unpacked"
    folder.mkdir()
    unpacked.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(unpacked))
    bad.make(folder)
    with pytest.raises(ModelError, match=bad.says), open_archive(ModelSpec("m", folder)):
        pass
    assert not list(unpacked.iterdir())


def test_a_full_disk_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write(pack(FILES))(tmp_path)
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with (
        pytest.raises(
            ModelError, match=r"has no room for what is unpacked of '.*m\.nemo': give the pod more"
        ),
        open_archive(ModelSpec("m", tmp_path)),
    ):
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
    assert (read_settings({}).language, read_settings({}).punctuation) == (None, True)
    canarys = read_settings({"ROUNDHOUSE_LANGUAGE": "German", "ROUNDHOUSE_PUNCTUATION": "False"})
    assert (canarys.language, canarys.punctuation) == ("de", False)
    with pytest.raises(ModelError, match="ROUNDHOUSE_LANGUAGE must be an ISO 639-1 code such as 'en'"):
        read_settings({"ROUNDHOUSE_LANGUAGE": "klingon"})
    with pytest.raises(ModelError, match="ROUNDHOUSE_PUNCTUATION must be true or false, not 'maybe'"):
        read_settings({"ROUNDHOUSE_PUNCTUATION": "maybe"})
    with pytest.raises(ModelError, match="ROUNDHOUSE_LATENCY_MS must be a whole number"):
        read_settings({"ROUNDHOUSE_LATENCY_MS": "soon"})
