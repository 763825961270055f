"""Each kind of model that sees, with the files of its repositories, held against the library itself."""

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from roundhouse_engine import Cancellation, ModelSpec
from roundhouse_engine.memory import trim
from tests.conformance.engine.conversations import said
from tests.conformance.engine.running import Engine
from tests.conformance.engine.test_transformers import CHAT, post, serving
from tests.conformance.engine.test_transformers_pictures import RED, answer, ask, looking, url
from tests.support.torch_base import prepare_torch

KINDS = ("qwen2", "qwen25", "qwen3", "llava", "gemma")
BLUE = Image.new("RGB", (56, 140), "blue")
MARKS = {"llava": "<image>", "gemma": "<image_soft_token>"}
"""The tokens in whose places pictures stand; Qwen's otherwise."""


ROOM = 16 << 20
"""For the file itself, and what else a process does."""
PLACE = 28 * 28
"""Pixels of a token of Qwen2.5-VL."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    prepare_torch()
    from tests.support import tiny_seers as tiny  # noqa: PLC0415 - torch loads only from here on

    folder = tmp_path_factory.mktemp("kinds")
    return {
        "qwen2": tiny.write_qwen(folder / "qwen2", tiny.QWEN2),
        "qwen25": tiny.write_qwen(folder / "qwen25", tiny.QWEN25),
        "qwen3": tiny.write_qwen(folder / "qwen3", tiny.QWEN3),
        "llava": tiny.write_llava(folder / "llava"),
        "gemma": tiny.write_gemma(folder / "gemma"),
    }


@pytest.fixture(scope="module")
def seer(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with serving("chat", tmp_path_factory.mktemp("seer"), **models) as engine:
        yield engine


def plain(path: Path, messages: Sequence[Any], pictures: Sequence[Image.Image]) -> str:
    """What the library says, called step by step; in `messages` stand marks for the pictures."""
    import torch  # noqa: PLC0415 - see `models`
    import transformers  # noqa: PLC0415

    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForImageTextToText.from_pretrained(path).eval()
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    mark = MARKS.get(path.name, "<|image_pad|>")
    inputs: dict[str, Any] = {}
    if pictures:
        looks = transformers.AutoImageProcessor.from_pretrained(path, backend="pil")
        inputs = dict(looks(images=list(pictures), return_tensors="pt"))
        inputs.pop("num_crops", None)
        grid = inputs.get("image_grid_thw")
        places = [4] * len(pictures) if grid is None else (grid.prod(1) // 4).tolist()
        begun = "<start_of_image>" if path.name == "gemma" else mark
        first, *rest = text.split(begun)
        for count, part in zip(places, rest, strict=True):
            held = mark * count
            first += (f"\n\n{begun}{held}<end_of_image>\n\n" if path.name == "gemma" else held) + part
        text = first
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    if pictures and path.name != "llava":
        name = "token_type_ids" if path.name == "gemma" else "mm_token_type_ids"
        inputs[name] = (ids == tokenizer.convert_tokens_to_ids(mark)).long()
    with torch.inference_mode():
        written = model.generate(ids, **inputs, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    return str(tokenizer.decode(written, skip_special_tokens=True))


def asking(*pictures: Image.Image, text: str = "What is it?") -> list[Any]:
    marks = [{"type": "image"} for _ in pictures]
    return [{"role": "user", "content": [*marks, {"type": "text", "text": text}]}]


@pytest.mark.req("S2-4")
@pytest.mark.parametrize("model", KINDS)
def test_it_says_of_a_picture_what_the_library_does(
    seer: Engine, models: dict[str, Path], model: str
) -> None:
    with seer.client as client:
        found = client.chat.completions.create(
            model=model, messages=looking(url(RED)), temperature=0, max_tokens=12
        )
    assert found.choices[0].message.content == plain(models[model], asking(RED), [RED])
    assert found.choices[0].message.content != answer(ask(seer, model, url(BLUE)))


@pytest.mark.parametrize("model", KINDS)
def test_pictures_of_several_turns_stand_where_they_were_sent(
    seer: Engine, models: dict[str, Path], model: str
) -> None:
    said_so = {"role": "assistant", "content": [{"type": "text", "text": "Red."}]}
    sent = [*looking(url(RED)), said_so, *looking(url(BLUE), url(RED), text="And these?")]
    told = [*asking(RED), said_so, *asking(BLUE, RED, text="And these?")]
    asked: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": 12}
    found = answer(post(seer, CHAT, messages=sent, **asked))
    assert found == plain(models[model], told, [RED, BLUE, RED])


def test_pictures_keep_their_order(models: dict[str, Path]) -> None:
    from roundhouse_transformers.pictures import without_pictures  # noqa: PLC0415 - see `models`

    sent = [*looking(url(RED)), *said("And these?"), *looking(url(BLUE), url(RED))]
    _, pictures = without_pictures(sent, Cancellation())
    assert [picture.getpixel((0, 0)) for picture in pictures] == [(255, 0, 0), (0, 0, 255), (255, 0, 0)]


@pytest.mark.parametrize("model", KINDS)
def test_who_sees_reads_as_well(seer: Engine, models: dict[str, Path], model: str) -> None:
    assert answer(ask(seer, model)) == plain(models[model], asking(), [])
    told = said("What is it?")
    if model != "llava":  # whose template takes parts alone
        assert answer(ask(seer, model)) == plain(models[model], told, [])


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (120, 1)], ids=str)
def test_the_smallest_are_looked_at(
    seer: Engine, models: dict[str, Path], model: str, size: tuple[int, int]
) -> None:
    small = Image.new("RGB", size, (250, 120, 10))
    assert answer(ask(seer, model, url(small))) == plain(models[model], asking(small), [small])


@pytest.mark.parametrize("model", KINDS)
def test_a_strip_is_told_before_it_is_made_as_large_as_memory(seer: Engine, model: str) -> None:
    for size in ((1, 20_000), (20_000, 1)):
        found = ask(seer, model, url(Image.new("1", size)))
        assert (found.status, found.error["param"]) == (400, "messages"), found.body[:300]
        assert "200 times" in found.error["message"]


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def grown_bytes(work: Callable[[], object]) -> int:
    """How far the process grew meanwhile, at most. What was freed before serves for nothing of it."""
    gc.collect()
    trim()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    before = peak_bytes()
    work()
    return peak_bytes() - before


def looked(path: Path, most_places: int) -> tuple[int, int]:
    """Of a large picture that the model is given in so many places at most: how many, and the bytes."""
    from roundhouse_transformers.loading import load  # noqa: PLC0415 - see `models`
    from roundhouse_transformers.pictures import without_pictures  # noqa: PLC0415
    from roundhouse_transformers.repository import open_repository  # noqa: PLC0415
    from roundhouse_transformers.seeing import Sight, kind_of  # noqa: PLC0415
    from roundhouse_transformers.settings import read_settings  # noqa: PLC0415

    prepares = path / "preprocessor_config.json"
    prepares.write_text(json.dumps(json.loads(prepares.read_text()) | {"max_pixels": most_places * PLACE}))
    repository = open_repository(ModelSpec("m", path), lambda _part: None)
    sight = Sight(repository, load(repository, read_settings({}), kind_of(repository)))
    sent = looking(url(Image.effect_noise((4000, 2000), 50).convert("RGB"), "jpeg"))
    found: list[Any] = []
    sight.look("<|image_pad|>", [RED], Cancellation())  # what the first brings with it
    read = grown_bytes(lambda: found.extend(without_pictures(sent, Cancellation())[1]))
    assert read < 8 * 4000 * 2000 + ROOM
    places = sight.places(found)
    assert 0.9 * most_places < places <= most_places
    return places, grown_bytes(lambda: sight.look("<|image_pad|>", found, Cancellation()))


def test_a_picture_takes_as_much_memory_as_the_readme_says(models: dict[str, Path], tmp_path: Path) -> None:
    """More than a smaller one: what any picture takes beside is what the process had not touched before."""
    path = shutil.copytree(models["qwen25"], tmp_path / "m")
    few, small = looked(path, 1024)
    many, large = looked(path, 4096)
    assert large - small < 1.1 * 80 * (many - few) * PLACE
