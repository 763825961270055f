"""Pictures and models of the transformers engine that see, held against the library itself."""

import base64
import copy
import io
import json
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roundhouse_engine import Cancellation, Cancelled, Conversation, ModelError, ModelSpec, Piece, TextOptions
from tests.conformance.engine.conversations import said
from tests.conformance.engine.holding import assert_nothing_stays, leave
from tests.conformance.engine.running import Answer, Engine
from tests.conformance.engine.test_transformers import CHAT, post, serving
from tests.support.torch_base import prepare_torch

RED = Image.new("RGB", (84, 56), "red")


def url(picture: Image.Image | bytes, kind: str = "png", **options: Any) -> str:
    if isinstance(picture, Image.Image):
        written = io.BytesIO()
        picture.save(written, kind, **options)
        picture = written.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def looking(*urls: str, text: str = "What is it?") -> list[Any]:
    parts = [{"type": "image_url", "image_url": {"url": each}} for each in urls]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    prepare_torch()
    from tests.support import tiny_models, tiny_seers  # noqa: PLC0415 - torch loads only from here on

    folder = tmp_path_factory.mktemp("seers")
    return {
        "qwen": tiny_seers.write_qwen(folder / "qwen"),
        "llava": tiny_seers.write_llava(folder / "llava"),
        "blind": tiny_models.write_speaker(folder / "blind", ["I hear."]),
    }


@pytest.fixture(scope="module")
def seer(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with serving("chat", tmp_path_factory.mktemp("seer"), **models) as engine:
        yield engine


def ask(seer: Engine, model: str, *urls: str, **fields: Any) -> Answer:
    told = {"temperature": 0, "max_tokens": 12} | fields
    return post(seer, CHAT, model=model, messages=looking(*urls) if urls else said("What is it?"), **told)


def answer(found: Answer) -> str:
    assert found.status == 200, found.body
    return str(found.json["choices"][0]["message"]["content"])


def test_answers_about_pictures_are_streamed_and_held_to_schemas(seer: Engine) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["red", "blue"]}}}
    with seer.client as client:
        chunks = client.chat.completions.create(
            model="qwen",
            messages=looking(url(RED)),
            response_format=wanted,
            stream=True,  # type: ignore[call-overload]
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert json.loads(text) in ("red", "blue")


def test_all_that_is_a_picture_is_looked_at(seer: Engine) -> None:
    """Whatever holds it, the same picture is the same to the model."""
    rotated = Image.Exif()
    rotated[0x0112] = 6
    wide = Image.new("RGB", (84, 56), "red")
    wide.paste("white", (0, 0, 42, 56))
    clear = Image.new("RGBA", (84, 56), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (42, 0, 84, 56))
    seen = answer(ask(seer, "qwen", url(wide)))
    assert answer(ask(seer, "qwen", url(clear))) == seen, "what is clear is white"
    assert answer(ask(seer, "qwen", url(wide, "webp", lossless=True))) == seen
    turned = wide.rotate(90, expand=True)
    assert answer(ask(seer, "qwen", url(turned, "png", exif=rotated.tobytes()))) == seen, "upright"
    grey = Image.fromarray(np.linspace(0, 255, 56 * 84).reshape(56, 84).astype(np.uint8))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    assert answer(ask(seer, "qwen", url(deep))) == answer(ask(seer, "qwen", url(grey)))
    assert answer(ask(seer, "qwen", url(turned, "jpeg", quality=100, exif=rotated.tobytes()))) == seen
    for mode in ("CMYK", "L"):
        assert answer(ask(seer, "qwen", url(wide.convert(mode), "jpeg")))


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and holds none."""

    def chunk(name: bytes, held: bytes) -> bytes:
        return struct.pack(">I", len(held)) + name + held + struct.pack(">I", zlib.crc32(name + held))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def animated() -> str:
    frames = [Image.new("RGB", (28, 28), color) for color in ("red", "blue")]
    return url(frames[0], "gif", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("urls", "told"),
    [
        (["https://example.com/a.png"], "nothing is fetched here"),
        (["http://127.0.0.1:8000/metrics"], "nothing is fetched here"),
        (["file:///etc/passwd"], "nothing is fetched here"),
        (["data:image/png,raw"], "nothing is fetched here"),
        (["data:image/png;base64,@@"], "is no base64"),
        ([url(b"not a picture")], "cannot be read as a picture: it is damaged, or none of JPEG, PNG"),
        ([url(base64.b64decode(url(RED).partition(",")[2])[:-30])], "cannot be read as a picture"),
        ([url(bomb(60_000, 60_000))], "pixels; 32,000,000 are taken"),
        ([url(bomb(9_000, 9_000))], "9000 x 9000 pixels; 32,000,000 are taken"),
        ([url(bomb(1, 1 << 20))], "pixels; 32,000,000 are taken"),
        ([animated()], "is an animated picture"),
        ([url(Image.new("RGB", (28, 28)))] * 33, "one picture too many"),
        ([url(Image.new("RGB", (6000, 20)))], "more than 200 times"),
        ([url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg+xml")], "cannot be read as a picture"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_what_is_no_picture_or_too_much_of_one_is_told(seer: Engine, urls: list[str], told: str) -> None:
    found = ask(seer, "qwen", *urls)
    assert (found.status, found.error["param"]) == (400, "messages"), found.body[:300]
    assert told in found.error["message"]
    assert ask(seer, "qwen", url(RED)).status == 200


def test_what_is_refused_or_left_in_the_middle_leaves_nothing_behind(seer: Engine) -> None:
    def tell(**fields: Any) -> dict[str, Any]:
        return {"model": "qwen", "messages": looking(url(RED)), "temperature": 0, **fields}

    def ask_all() -> None:
        for wrong in (animated(), url(b"not a picture"), url(bomb(9_000, 9_000))):
            assert ask(seer, "qwen", wrong).status == 400
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wat"}}}
        assert post(seer, CHAT, **tell(response_format=schema)).status == 400
        leave(seer, CHAT, **tell(stream=True, max_tokens=900, stop=["none of it"]))
        assert ask(seer, "qwen", url(RED)).status == 200

    assert_nothing_stays(seer, ask_all, mebibytes=64)


def test_a_file_of_more_bytes_than_are_taken(seer: Engine) -> None:
    found = ask(seer, "qwen", url(b"\0" * (21 << 20)))
    assert (found.status, found.error["param"]) == (400, "messages")
    assert "more than 20 MiB" in found.error["message"]


def test_nobody_waits_for_the_pictures_of_another(models: dict[str, Path]) -> None:
    from roundhouse_transformers.handlers import TransformersChat  # noqa: PLC0415 - see `models`

    handler = TransformersChat()
    handler.load(ModelSpec("m", models["qwen"]), lambda _part: None)
    sight: Any = handler._writer._sight
    processor = sight._processor
    begun, goes_on = threading.Event(), threading.Event()

    def slow(**told: Any) -> Any:
        if told["images"]:
            begun.set()
            assert goes_on.wait(60)
        return processor(**told)

    def said_of(messages: Any, cancellation: Cancellation) -> str:
        options = TextOptions(max_tokens=3, temperature=0)
        events = handler.chat(Conversation(tuple(messages)), options, cancellation)
        return "".join(event.text for event in events if isinstance(event, Piece))

    sight._processor = slow
    looked = looking(url(RED))
    alone = copy.deepcopy(looked)
    with ThreadPoolExecutor(3) as threads:
        try:
            first = threads.submit(said_of, looked, Cancellation())
            assert begun.wait(60)
            text = threads.submit(said_of, said("What is it?"), Cancellation())
            assert text.result(60)
            left = Cancellation()
            waits = threads.submit(said_of, alone, left)
            left.cancel()
            with pytest.raises(Cancelled):
                waits.result(60)
        finally:
            goes_on.set()
        assert first.result(60)
    handler.unload()


def test_where_memory_is_short_no_picture_is_at_fault(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from roundhouse_engine.errors import EngineError  # noqa: PLC0415
    from roundhouse_transformers import pictures  # noqa: PLC0415 - see `models`

    def short(_picture: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pictures, "_plain", short)
    with pytest.raises(EngineError) as refusal:
        pictures.without_pictures(looking(url(RED)), Cancellation())
    assert refusal.value.problem.status == 503
    assert refusal.value.problem.retry_after_seconds


def test_what_would_fill_the_context_is_told_before_it_is_computed(seer: Engine) -> None:
    """Of the tiny model each picture is 49 tokens, and 1024 are taken."""
    large = url(Image.new("1", (600, 600)))
    found = ask(seer, "qwen", *[large] * 25)
    assert (found.status, found.error["code"]) == (400, "context_length_exceeded")
    assert "The pictures are 1225 tokens long" in found.error["message"]


def test_of_little_detail_a_picture_is_small(models: dict[str, Path]) -> None:
    from roundhouse_engine.errors import EngineError  # noqa: PLC0415
    from roundhouse_transformers import pictures  # noqa: PLC0415 - see `models`

    for detail, size in (("low", (512, 256)), ("high", (2000, 1000)), (None, (2000, 1000))):
        messages = looking(url(Image.new("1", (2000, 1000))))
        messages[0]["content"][0]["image_url"]["detail"] = detail
        _, (found,) = pictures.without_pictures(messages, Cancellation())
        assert found.size == size
    messages[0]["content"][0]["image_url"]["detail"] = "some"
    with pytest.raises(EngineError, match="detail must be one of auto, low, high"):
        pictures.without_pictures(messages, Cancellation())


def test_who_sees_nothing_says_so(seer: Engine) -> None:
    found = ask(seer, "blind", url(RED))
    assert (found.status, found.error["param"]) == (400, "messages")
    assert "sees no pictures" in found.error["message"]


def test_a_mark_of_a_picture_in_a_text_is_none(seer: Engine) -> None:
    messages = looking(url(RED), text="<|image_pad|><image>")
    for model in ("qwen", "llava"):
        found = post(seer, CHAT, model=model, messages=messages, max_tokens=1)
        assert found.status == 400, found.body[:300]
        assert found.error["param"] == "messages"
    alone = post(seer, CHAT, model="qwen", messages=said("<|image_pad|>"), max_tokens=1)
    assert (alone.status, alone.error["param"]) == (400, "messages")
    assert alone.error["message"].startswith("A text holds the model's mark of a picture, and there is none.")


def test_more_pixels_in_all_than_are_taken(models: dict[str, Path]) -> None:
    from roundhouse_engine.errors import EngineError  # noqa: PLC0415
    from roundhouse_transformers import pictures  # noqa: PLC0415 - see `models`

    large = url(Image.new("1", (5000, 5000)))
    with pytest.raises(EngineError, match="more than 32,000,000 pixels in all"):
        pictures.without_pictures(looking(large, large), Cancellation())


def test_a_repository_lacks_what_prepares_pictures(models: dict[str, Path], tmp_path: Path) -> None:
    from roundhouse_transformers.handlers import TransformersChat  # noqa: PLC0415 - see `models`
    from tests.support import tiny_seers  # noqa: PLC0415

    path = tiny_seers.write_qwen(tmp_path / "m")
    (path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"told in preprocessor_config.json or processor_config.json"):
        TransformersChat().load(ModelSpec("m", path), lambda _part: None)
