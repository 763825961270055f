"""The MusicGen engine as its container runs it, with models that were made on the spot."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from roundhouse_engine import Cancellation, Cancelled, ModelError, ModelSpec, MusicOptions
from tests.conformance.engine.holding import assert_nothing_stays, leave
from tests.conformance.engine.running import Answer, Engine, running
from tests.conformance.engine.stalling import assert_others_are_answered
from tests.support.torch_base import prepare_torch
from tests.support.waiting import wait_until

MUSIC = "/v1/music/generations"
READY_SECONDS = 300
"""torch and transformers take five seconds of a free core to import, and a core is not always free."""
LIMIT_SECONDS = 600
BUDGET_BYTES = 8 << 30
"""For all that the tests load: what is counted shows, and nothing has to go."""
PROMPT = "count one two three"


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    prepare_torch()
    from tests.support import tiny_music  # noqa: PLC0415 - torch loads only from here on

    return tiny_music


@pytest.fixture(scope="module")
def repositories(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("composers")
    stereo = tiny.pickle_weights(tiny.write_composer(folder / "s", channels=2))
    return {"m": tiny.write_composer(folder / "m"), "stereo": stereo}


@pytest.fixture(scope="module")
def engine(
    tiny: ModuleType, repositories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    source = {"type": "HuggingFace", "huggingFace": {"repo": "facebook/musicgen-small"}}
    pickled = {**source, "format": "PyTorch", "allow": ["UnsafeFormats"]}
    told = [
        {"name": name, "path": str(path), "source": pickled if name == "stereo" else source}
        for name, path in repositories.items()
    ]
    adapters = {
        "ambient": tiny.write_adapter(folder / "ambient"),
        "counted": tiny.write_adapter(folder / "counted"),
        "spoilt": tiny.write_adapter(folder / "spoilt"),
        "large": tiny.write_adapter(folder / "large", base="facebook/musicgen-large"),
        "wide": tiny.write_adapter(folder / "wide", width=24),
    }
    variables = {
        "ROUNDHOUSE_MODELS": json.dumps(told),
        "ROUNDHOUSE_MAX_DURATION_SECONDS": str(LIMIT_SECONDS),
        "ROUNDHOUSE_MEMORY_BUDGET_BYTES": str(BUDGET_BYTES),
        "ROUNDHOUSE_ADAPTERS": json.dumps([{"name": name, "path": str(at)} for name, at in adapters.items()]),
        "MODELS": "",
        "OMP_NUM_THREADS": "1",
        # The libraries' many files are compiled once and not by each engine.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONWARNINGS": "default",
    }
    with running(("-m", "roundhouse_musicgen"), folder, **variables) as engine:
        wait_until(
            lambda: engine.ready, seconds=READY_SECONDS, what=f"ready; log:\n{engine.logged}", every=0.2
        )
        yield engine


def post(engine: Engine, **fields: Any) -> Answer:
    told = {"model": "m", "prompt": PROMPT, "duration": 0.5, "seed": 1} | fields
    return engine.request("POST", MUSIC, json.dumps(told), {"Content-Type": "application/json"})


def music(engine: Engine, **fields: Any) -> NDArray[np.float32]:
    """[channels, samples]"""
    found = post(engine, **fields)
    assert found.status == 200, found.body
    with av.open(io.BytesIO(found.body), "r") as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        channels = container.streams.audio[0].channels
    samples = np.concatenate([frame.reshape(-1, channels) for frame in frames]).T
    return np.asarray(samples, np.float32)


@pytest.mark.req("S3-7")
@pytest.mark.parametrize("duration", [0.1, 0.53, 1, 3.3])
@pytest.mark.parametrize(("model", "channels"), [("m", 1), ("stereo", 2)])
def test_music_is_as_long_as_was_asked(
    engine: Engine, tiny: ModuleType, model: str, channels: int, duration: float
) -> None:
    before = engine.metric("tokens_total", model=model, kind="output")
    found = music(engine, model=model, duration=duration)
    assert found.shape == (channels, round(duration * tiny.RATE))
    for channel in found:
        assert np.count_nonzero(channel) > 0.9 * len(channel), "it is no silence, up to its end"
    tokens = engine.metric("tokens_total", model=model, kind="output") - before
    assert tokens == pytest.approx(duration * tiny.RATE / tiny.FRAME_SAMPLES, abs=1)


def test_a_seed_makes_the_same_music_and_another_one_other(engine: Engine) -> None:
    first = post(engine, seed=7)
    assert first.body == post(engine, seed=7).body
    assert first.body != post(engine, seed=8).body
    drawn = post(engine, seed=None)
    assert drawn.body == post(engine, seed=int(drawn.headers["x-roundhouse-seed"])).body


def test_without_chance_the_seed_does_nothing(engine: Engine) -> None:
    for fields in ({"temperature": 0}, {"top_k": 1}, {"top_p": 0}):
        assert np.array_equal(music(engine, **fields, seed=1), music(engine, **fields, seed=2)), fields


def test_the_prompt_and_its_weight_change_the_music(engine: Engine) -> None:
    """Not by chance, which is none here."""
    found = [
        music(engine, temperature=0, **fields)
        for fields in ({}, {"prompt": "w1 w2"}, {"guidance_scale": 1}, {"guidance_scale": 12})
    ]
    assert len({each.tobytes() for each in found}) == len(found)
    assert np.array_equal(found[0], music(engine, temperature=0, guidance_scale=3)), "as the repository says"


@pytest.mark.parametrize("scale", [1, 3])
def test_without_chance_it_is_what_the_library_makes(
    engine: Engine, repositories: dict[str, Path], scale: int
) -> None:
    import torch  # noqa: PLC0415 - see `tiny`
    import transformers  # noqa: PLC0415

    path = repositories["m"]
    read = transformers.AutoTokenizer.from_pretrained(path)(PROMPT, return_tensors="pt")
    model = transformers.MusicgenForConditionalGeneration.from_pretrained(path).eval()
    with torch.inference_mode():
        plain = model.generate(
            input_ids=read["input_ids"], max_new_tokens=28, do_sample=False, guidance_scale=scale
        )
    wanted = np.round(np.clip(plain[0].numpy(), -1, 1) * 32767)
    found = music(engine, temperature=0, guidance_scale=scale)
    assert wanted.shape == found.shape == (1, 16_000)
    assert np.abs(wanted - found).max() <= 1


def test_an_adapter_changes_its_own_request_as_if_it_were_in_the_weights(
    engine: Engine, tiny: ModuleType, repositories: dict[str, Path]
) -> None:
    import torch  # noqa: PLC0415 - see `tiny`
    import transformers  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    path = repositories["m"]
    model = transformers.MusicgenForConditionalGeneration.from_pretrained(path).eval()
    matrices = load_file(engine.log.parent / "ambient/adapter_model.safetensors")
    with torch.inference_mode():
        for layer in tiny.ADAPTED:
            down, up = (matrices[f"base_model.model.decoder.{layer}.lora_{side}.weight"] for side in "AB")
            model.decoder.get_submodule(layer).weight += (up @ down) * tiny.ALPHA / tiny.RANK * 0.25
        read = transformers.AutoTokenizer.from_pretrained(path)(PROMPT, return_tensors="pt")
        plain = model.generate(
            input_ids=read["input_ids"], max_new_tokens=28, do_sample=False, guidance_scale=3
        )
    before = music(engine, temperature=0)
    found = music(engine, temperature=0, adapter="ambient", adapter_strength=0.25)
    assert np.abs(np.round(np.clip(plain[0].numpy(), -1, 1) * 32767) - found).max() <= 1
    assert not np.array_equal(found, before)
    assert not np.array_equal(found, music(engine, temperature=0, adapter="ambient"))
    assert np.array_equal(before, music(engine, temperature=0, adapter="ambient", adapter_strength=0))
    assert np.array_equal(before, music(engine, temperature=0)), "nothing of it stays"


@pytest.mark.req("S3-21")
@pytest.mark.req("S3-10")
@pytest.mark.parametrize(
    ("adapter", "code", "told"),
    [
        (
            "large",
            "adapter_incompatible",
            "made for another base model ('facebook/musicgen-large'): this one is 'facebook/musicgen-small'",
        ),
        ("wide", "adapter_incompatible", "'decoder.lm_heads.0' that the model has not, or not of that size"),
        ("none", "adapter_not_found", "There is: 'ambient', 'counted', 'spoilt', 'large', 'wide'."),
    ],
)
def test_an_adapter_that_is_not_the_models_is_refused(
    engine: Engine, adapter: str, code: str, told: str
) -> None:
    found = post(engine, adapter=adapter)
    assert (found.status, found.error["param"], found.error["code"]) == (400, "adapter", code)
    assert told in found.error["message"]
    assert post(engine, adapter="ambient").status == 200


def needed_bytes(engine: Engine) -> int:
    return int(engine.get("/v1/models").json["memory"]["neededBytes"])


def test_an_adapter_is_loaded_by_the_first_request_for_it_and_counts_in_the_budget(engine: Engine) -> None:
    from safetensors.torch import load_file  # noqa: PLC0415 - see `tiny`

    matrices = load_file(engine.log.parent / "counted/adapter_model.safetensors").values()
    before = needed_bytes(engine)
    for model in ("m", "stereo", "m"):
        assert post(engine, model=model, adapter="counted").status == 200
    assert needed_bytes(engine) - before == sum(each.nbytes for each in matrices)
    assert engine.logged.count("the adapter 'counted' loaded") == 1


def test_an_adapter_that_was_damaged_since_the_start_fails_its_request_alone(engine: Engine) -> None:
    _damaged(engine.log.parent / "spoilt")
    before = needed_bytes(engine)
    found = post(engine, adapter="spoilt")
    assert (found.status, found.error["code"]) == (500, "adapter_failed")
    assert "adapter_model.safetensors in" in found.error["message"]
    assert needed_bytes(engine) == before
    assert post(engine).status == 200


def _damaged(path: Path) -> None:
    weights = path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _half_a_pair(path: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - see `tiny`

    weights = load_file(path / "adapter_model.safetensors")
    save_file(dict(sorted(weights.items())[1:]), path / "adapter_model.safetensors")


def _an_embedding(path: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - see `tiny`

    weights = load_file(path / "adapter_model.safetensors")
    key = "base_model.model.decoder.embed.lora_embedding_A"
    save_file(weights | {key: next(iter(weights.values())).clone()}, path / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("config", "spoil", "told"),
    [
        ({"peft_type": "IA3"}, None, r"of peft's kind 'IA3'; LORA is served"),
        ({"use_dora": True, "bias": "all"}, None, r"needs use_dora, bias \(adapter_config.json\)"),
        ({"lora_alpha": None}, None, r"has no number lora_alpha"),
        ({}, _damaged, r"'a': adapter_model.safetensors in .* cannot be read"),
        ({}, _half_a_pair, r"has no two matrices of one rank for 'decoder.lm_heads.0'"),
        ({}, _an_embedding, r"holds 'base_model.model.decoder.embed.lora_embedding_A', which is no matrix"),
        (
            {},
            lambda path: (path / "adapter_config.json").unlink(),
            r"adapter_config.json in .* cannot be read",
        ),
    ],
    ids=["kind", "needs", "alpha", "damaged", "half", "embedding", "no config"],
)
def test_an_adapter_that_nobody_can_use_is_an_error_at_load(
    tiny: ModuleType, tmp_path: Path, config: dict[str, Any], spoil: Any, told: str
) -> None:
    from roundhouse_musicgen.adapters import read_adapter  # noqa: PLC0415 - see `tiny`
    from roundhouse_musicgen.settings import AdapterSetting  # noqa: PLC0415

    path = tiny.write_adapter(tmp_path / "a", **config)
    if spoil is not None:
        spoil(path)
    with pytest.raises(ModelError, match=told):
        read_adapter(AdapterSetting("a", path))


@pytest.mark.parametrize(
    "told", ["{", "{}", "[1]", '[{"name": ""}]', '[{"name": "a", "path": "b"}]', '[{"name": "a"}]'], ids=str
)
def test_adapters_that_are_told_wrong_are_named(told: str) -> None:
    from roundhouse_musicgen.settings import adapters  # noqa: PLC0415 - see `tiny`

    with pytest.raises(ModelError, match="ROUNDHOUSE_ADAPTERS"):
        adapters({"ROUNDHOUSE_ADAPTERS": told})


@pytest.mark.req("S3-3", "S3-27")
def test_the_most_is_thirty_seconds_where_nothing_is_said() -> None:
    from roundhouse_musicgen.settings import longest_seconds  # noqa: PLC0415 - see `tiny`

    assert longest_seconds({}) == 30


@pytest.mark.req("S3-8", "S3-26", "S3-28")
def test_the_most_is_what_the_engine_was_told(engine: Engine) -> None:
    found = post(engine, duration=LIMIT_SECONDS + 1)
    assert (found.status, found.error["param"]) == (400, "duration")
    assert found.error["message"] == "Duration 601s exceeds model limit of 600s"


def test_a_prompt_that_is_too_long_is_refused(engine: Engine) -> None:
    found = post(engine, prompt=" ".join(["one"] * 65))
    assert (found.status, found.error["param"]) == (400, "prompt")
    assert found.error["code"] == "context_length_exceeded"
    assert found.error["message"].startswith("The prompt is 65 tokens long, and the model takes 64")
    found = post(engine, prompt="x" * 500_000)
    assert found.error["message"].startswith("The prompt is 500000 characters long; at most 1024 are read")
    assert post(engine, prompt=" ".join(["one"] * 64)).status == 200


def test_a_stream_tells_of_each_step(engine: Engine) -> None:
    found = post(engine, duration=1, stream=True)
    events = [json.loads(line[6:]) for line in found.body.decode().splitlines() if line]
    parts = [each["progress"] for each in events if each["type"] == "music.progress"]
    assert parts == sorted(set(parts))
    assert len(parts) > 40


def test_others_are_answered_while_music_is_made(engine: Engine) -> None:
    """The least models hold Python's lock the most: of each step little is torch's."""

    def made() -> None:
        assert post(engine, duration=4).status == 200
        assert post(engine, duration=1, stream=True, response_format="flac").status == 200

    assert_others_are_answered(engine, made)


def test_what_is_refused_or_left_in_the_middle_leaves_nothing_behind(engine: Engine) -> None:
    """The whole of what is left would take minutes."""

    def ask() -> None:
        for wrong in ({"prompt": "word " * 3000}, {"adapter": "large"}, {"adapter": "wide"}):
            assert post(engine, **wrong).status == 400
        leave(engine, MUSIC, model="m", prompt=PROMPT, duration=LIMIT_SECONDS)
        assert post(engine).status == 200

    assert_nothing_stays(engine, ask, mebibytes=48)


WHOLE = json.dumps({"model": "m", "prompt": PROMPT, "duration": 0.1, "response_format": "wav"}).encode()
NUMBERS = st.one_of(
    st.integers(-(1 << 70), 1 << 70), st.floats(), st.sampled_from([0, -0.0, 1e308, 1 << 31, 1 << 63])
)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = ("model", "prompt", "seed", "temperature", "top_k", "top_p", "guidance_scale", "adapter")
FURTHER = ("adapter_strength", "response_format", "stream", "n", "input", "what nobody knows")
ASKED = st.dictionaries(st.sampled_from([*FIELDS, *FURTHER]), JUNK, max_size=3)


def _is_quick(duration: object) -> bool:
    """Also of what nobody makes music of."""
    return duration is not None and not (
        isinstance(duration, int | float) and 0.2 < duration <= LIMIT_SECONDS
    )


LENGTHS = st.one_of(st.sampled_from([0.1, 0.1, 0.1, 0, -1, LIMIT_SECONDS + 1, 1e300]), JUNK.filter(_is_quick))


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(fields=ASKED, duration=LENGTHS)
def test_whatever_is_asked_for_is_made_or_refused_in_words(
    engine: Engine, fields: dict[str, Any], duration: Any
) -> None:
    found = post(engine, **{"duration": duration} | fields)
    if found.status != 200:
        assert 400 <= found.status < 500, found.body
        assert found.error["type"] == "invalid_request_error"
        assert len(found.error["message"]) < 1000


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(body=st.one_of(st.binary(max_size=60), st.integers(0, 60).map(lambda end: WHOLE[:end])))
def test_what_is_no_request_is_refused_in_words(engine: Engine, body: bytes) -> None:
    found = engine.request("POST", MUSIC, body, {"Content-Type": "application/json"})
    assert 400 <= found.status < 500, found.body
    assert found.error["message"]


def test_after_all_that_it_makes_music(engine: Engine) -> None:
    assert engine.metric("slots_computing") == 0
    assert post(engine).status == 200
    assert engine.logged.count("Traceback") == 0


def _composer(path: Path) -> Any:
    from roundhouse_musicgen.handler import MusicGen  # noqa: PLC0415 - see `tiny`

    handler = MusicGen()
    handler.load(ModelSpec("m", path), lambda _part: None)
    return handler


def test_it_ends_within_the_step_in_which_it_is_cancelled(repositories: dict[str, Path]) -> None:
    handler, cancellation = _composer(repositories["m"]), Cancellation()
    told: list[float] = []

    def progress(part: float) -> None:
        told.append(part)
        if len(told) == 5:
            cancellation.cancel()

    with pytest.raises(Cancelled):
        handler.compose(PROMPT, MusicOptions(10.0, seed=1), progress, cancellation)
    assert len(told) == 5


@pytest.mark.usefixtures("tiny")
def test_where_memory_is_short_the_client_learns_it() -> None:
    """As torch says it of a processor, and of a GPU; the SDK's tests show what becomes of it."""
    import torch  # noqa: PLC0415 - see `tiny`

    from roundhouse_engine.errors import memory_is_short  # noqa: PLC0415

    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    assert memory_is_short(raised.value)
    assert memory_is_short(torch.OutOfMemoryError())
    assert not memory_is_short(RuntimeError("shapes do not fit"))


def _cut_off(path: Path) -> None:
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _another_kind(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))


def _half_of_the_weights(path: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - see `tiny`

    weights = load_file(path / "model.safetensors")
    kept = {name: each for name, each in weights.items() if not name.startswith("decoder.lm_heads")}
    save_file(kept, path / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_cut_off, r"'m' cannot be loaded: .*fetch them again"),
        (_another_kind, r"'m' is a model of the kind 'bert', and this engine serves 'musicgen' alone"),
        (_half_of_the_weights, r"lacks 4 weights .*'decoder.lm_heads.0.weight'"),
        (lambda path: (path / "tokenizer.json").unlink(), r"holds no tokenizer.json"),
        (
            lambda path: (path / "model.safetensors").rename(path / "pytorch_model.bin"),
            r"pickled weights alone",
        ),
    ],
    ids=["cut off", "another kind", "half", "no tokenizer", "pickled"],
)
def test_a_repository_that_is_no_whole_musicgen_is_refused(
    tiny: ModuleType, tmp_path: Path, spoil: Any, told: str
) -> None:
    path = tiny.write_composer(tmp_path / "m")
    spoil(path)
    with pytest.raises(ModelError, match=told):
        _composer(path)


@pytest.mark.parametrize("text", ["0", "-1", "long", "1e9", "nan"])
def test_a_duration_that_is_none_is_told_by_its_variable(
    repositories: dict[str, Path], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_MAX_DURATION_SECONDS", text)
    with pytest.raises(ModelError, match="ROUNDHOUSE_MAX_DURATION_SECONDS must be a number of seconds"):
        _composer(repositories["m"])
