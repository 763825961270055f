"""The engine as the SDK sees it; what computes is imported when a model loads."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from roundhouse_engine import Cancellation, Composition, ModelError, ModelSpec, Music, MusicOptions
from roundhouse_engine.errors import failed
from roundhouse_engine.shelf import Shelf
from roundhouse_musicgen.settings import Placed, adapters, longest_seconds
from roundhouse_transformers.repository import open_repository
from roundhouse_transformers.settings import read_settings

if TYPE_CHECKING:
    from roundhouse_musicgen.adapters import Adapter
    from roundhouse_musicgen.composer import Composer

_KIND = "musicgen"


def _adapter(placed: Placed) -> "Adapter":
    """Read once more: when the engine started it could be. Raises `EngineError`."""
    from roundhouse_musicgen.adapters import read_adapter  # noqa: PLC0415 - loaded with the model

    try:
        return read_adapter(placed.setting).at(placed.device, placed.dtype)
    except ModelError as error:
        raise failed(str(error), code="adapter_failed") from error


SHELF: "Shelf[Placed, Adapter]" = Shelf(_adapter, lambda adapter: adapter.held_bytes)


class MusicGen(Music):
    """One request at a time: it fills what computes it, so that two would each take twice as long."""

    adapters: ClassVar[bool] = True
    imports = ("roundhouse_musicgen.composer",)
    shelf = SHELF

    _composer: "Composer"
    _limit_seconds: float

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        self._limit_seconds, told = longest_seconds(os.environ), adapters(os.environ)
        settings, repository = read_settings(os.environ), open_repository(model, progress)
        if (kind := repository.config.get("model_type")) != _KIND:
            raise ModelError(
                f"{model.name!r} is a model of the kind {kind!r}, and this engine serves {_KIND!r} alone. "
                "Give it to the engine of its kind."
            )
        from roundhouse_musicgen.composer import Composer  # noqa: PLC0415 - see the package

        self._composer = Composer(repository, settings, told, SHELF, _repo(model))

    @override
    def warm_up(self) -> None:
        self._composer.warm_up()

    @override
    def unload(self) -> None:
        del self._composer

    @override
    def vram_bytes(self) -> int | None:
        return self._composer.vram_bytes()

    @override
    def limit_seconds(self) -> float:
        return self._limit_seconds

    @override
    def compose(
        self,
        prompt: str,
        options: MusicOptions,
        progress: Callable[[float], None],
        cancellation: Cancellation,
    ) -> Composition:
        return self._composer.compose(prompt, options, progress, cancellation)


def _repo(model: ModelSpec) -> str | None:
    """Where the model's weights came from, where that is a name that adapters know models by."""
    repo = (model.source.get("huggingFace") or {}).get("repo")
    return str(repo) if repo else None
