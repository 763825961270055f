"""What a model that sees has beside its tokenizer: it makes numbers of pictures, and places for them."""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from roundhouse_engine import Cancellation, ModelError
from roundhouse_engine.errors import invalid
from roundhouse_transformers.loading import Loaded
from roundhouse_transformers.repository import Repository

_FILES: Final = ("preprocessor_config.json", "processor_config.json")
_LOOK_SECONDS: Final = 0.02
_MARKS_ALONE: Final = "A text holds the model's mark of a picture, and there is none. Leave the mark out."


def sees(repository: Repository) -> bool:
    """Whether the model was made to look at pictures; its files may lack what that takes."""
    kind = repository.config.get("model_type")
    return "vision_config" in repository.config and kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def kind_of(repository: Repository) -> Any:  # noqa: ANN401 - an Auto class
    """Which of the library's kinds of what writes the repository's model is."""
    return AutoModelForImageTextToText if sees(repository) else AutoModelForCausalLM


class Sight:
    """Of one model. Texts alone are read by one thread at a time, and pictures are looked at beside that."""

    def __init__(self, repository: Repository, loaded: Loaded) -> None:
        self._loaded = loaded
        try:
            kind = _still(PROCESSOR_MAPPING[type(loaded.model.config)])
            self._processor = kind.from_pretrained(repository.path, local_files_only=True)
        except Exception as error:  # each library has its own kinds
            raise ModelError(
                f"{repository.name!r} sees pictures, and what prepares them cannot be loaded: {error}. It is "
                f"told in {' or '.join(_FILES)}: add that to what is fetched."
            ) from error
        # With the model's own tokenizer, so that no text waits for pictures, which have another one.
        self._reader = copy.copy(self._processor)
        self._reader.tokenizer = loaded.tokenizer
        self._count_tokens = self._processor._get_num_multimodal_tokens  # noqa: SLF001 - as vLLM asks
        self._looking = threading.Lock()

    @property
    def template(self) -> Any:  # noqa: ANN401 - a text, or several by their names
        return self._processor.chat_template

    def read(self, text: str) -> list[int]:
        """The tokens of a text without pictures; raises `EngineError` for marks of pictures in it."""
        tokens, _ = self._processed(self._reader, text, None)
        return tokens

    def places(self, pictures: Sequence[Any]) -> int:
        """How many tokens the pictures will take: known by their sizes, before anything is made of them."""
        sizes = [(picture.height, picture.width) for picture in pictures]
        with _refused():
            return sum(self._count_tokens(image_sizes=sizes).num_image_tokens)

    def look(
        self, text: str, pictures: Sequence[Any], cancellation: Cancellation
    ) -> tuple[list[int], dict[str, Any]]:
        """The tokens of the text, places of pictures included, and the model's other inputs by their names.

        One request's pictures at a time, which can take seconds. Raises `EngineError` for pictures that the
        model cannot look at.
        """
        while not self._looking.acquire(timeout=_LOOK_SECONDS):
            cancellation.check()
        try:
            cancellation.check()
            tokens, seen = self._processed(self._processor, text, list(pictures))
        finally:
            self._looking.release()
        model = self._loaded.model
        return tokens, {
            name: value.to(model.device, dtype=model.dtype if value.is_floating_point() else None)
            for name, value in seen.items()
        }

    def _processed(self, processor: Any, text: str, pictures: list[Any] | None) -> tuple[list[int], Any]:  # noqa: ANN401 - the library's
        begins = self._loaded.tokenizer.bos_token
        with _refused() if pictures else _refused(_MARKS_ALONE):
            seen = processor(
                text=[text],
                images=pictures,
                return_tensors="pt",
                add_special_tokens=not (begins and text.startswith(begins)),
            )
        tokens = seen.pop("input_ids")[0].tolist()
        seen.pop("attention_mask", None)
        return tokens, seen


@contextmanager
def _refused(why: str = "The model cannot look at these pictures in these messages.") -> Iterator[None]:
    """What the library cannot look at is the client's: it tells so by errors of these kinds."""
    try:
        yield
    except (ValueError, TypeError, IndexError) as error:
        raise invalid(f"{why} transformers says: {error}", param="messages") from error


def _still(kind: Any) -> Any:  # noqa: ANN401 - a class
    """The same without videos, which want torchvision and are not served."""
    attributes = [name for name in kind.get_attributes() if name != "video_processor"]

    class Still(kind):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return attributes

    Still.__name__ = kind.__name__
    return Still
