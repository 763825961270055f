"""What NeMo is shown of a model's configuration: all that a model is made of, and nothing that does more."""

import ast
import importlib.util
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from roundhouse_engine import ModelError, ModelSpec
from roundhouse_nemo.archive import open_archive
from roundhouse_nemo.configuration import OF_CANARY, PARTS
from roundhouse_nemo.handler import Nemo
from tests.conformance.engine.test_nemo_archives import CONFIG, FILES, MODELS, pack

PARTS_OF = "nemo.collections.asr.modules."
BILLION = "".join(f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n" for last, name in pairwise("abcdefgh"))


def saying(config: str) -> bytes:
    """An archive whose configuration says more than that of `FILES`."""
    return pack(dict(FILES) | {"./model_config.yaml": (CONFIG + config).encode()})


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
        "within a tokenizer",
        f"tokenizer: {{custom_tokenizer: {{_target_: {OF_CANARY[-1]}, tokenizers: {{_target_: x}}}}}}",
        "names 'x'",
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
    Unsafe(
        "a tokenizer's folder",
        "tokenizer: {dir: /etc, type: BPE, model_path: 'nemo:x'}",
        "no 'vocab_path' of",
    ),
    Unsafe("of a language", "tokenizer: {type: agg, langs: {en: {dir: /etc, type: wpe}}}", "folder '/etc'"),
    Unsafe("a vocabulary", "tokenizer: {spe_tokenizer_vocab: /etc/x}", "file '/etc/x' outside"),
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


def test_what_canary_is_made_of_is_what_nemo_calls_so() -> None:
    found = importlib.util.find_spec("nemo")
    assert found is not None
    assert found.submodule_search_locations is not None
    root = Path(found.submodule_search_locations[0])
    for target in OF_CANARY:
        module, _, name = target.removeprefix("nemo.").rpartition(".")
        file = root.joinpath(*module.split("."))
        text = (file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text()
        assert re.search(rf"^(class {name}\b|from .* import .*\b{name}\b)", text, re.MULTILINE), target


def test_what_nemo_saves_is_shown_to_it_whole(tmp_path: Path) -> None:
    files = {"model_path": "nemo:1234_tokenizer.model", "vocab_path": "nemo:1234_vocab.txt"}
    said = {
        "tokenizer": {"dir": "/where/it/was/made", "type": "bpe", **files},
        "preprocessor": {"_target_": f"{PARTS_OF}AudioToMelSpectrogramPreprocessor", "window": "hann"},
        "encoder": {"_target_": f"{PARTS_OF}ConformerEncoder", "self_attention_model": "rel_pos"},
        "decoding": {"greedy": {"ngram_lm_model": None}, "beam": {"kenlm_path": ""}, "durations": [0, 1]},
    }
    unread = {"optim": {"_target_": "torch.optim.AdamW"}, "validation_ds": {"manifest_path": ["${x}"]}}
    (tmp_path / "m.nemo").write_bytes(saying(yaml.safe_dump({**said, **unread})))
    with open_archive(ModelSpec("m", tmp_path)) as archive:
        assert archive.config == {"target": f"{MODELS}.EncDecRNNTBPEModel", "sample_rate": 16000, **said}
