"""The file that says which models to serve, and how it is followed while it changes.

`{"generation": 7, "models": [{"name", "path", "source", "variant", "pooling"}]}`. A file that cannot be read
changes nothing: what was wanted before is wanted still. An entry that is wrong costs itself alone.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from roundhouse_engine.handler import Handler, ModelError, ModelSpec
from roundhouse_engine.settings import SettingsError, read_model

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.25
"""The file lies on a file system of the node's memory; asking whether it changed costs microseconds."""
_LARGEST_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Desired:
    """What is to be served. `refused` tells of models that this engine can never serve, and why."""

    generation: int
    models: tuple[ModelSpec, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    def follow(self) -> AsyncGenerator[Desired, None]:
        """What is to be served, now and after each change, for ever."""


class Given:
    """Models that the environment names, which never change."""

    def __init__(self, models: tuple[ModelSpec, ...]) -> None:
        self._models = models

    async def follow(self) -> AsyncGenerator[Desired, None]:
        yield Desired(1, self._models)
        await asyncio.Event().wait()


class ModelsFile:
    def __init__(self, path: Path, handler: type[Handler]) -> None:
        self._path = path
        self._handler = handler

    async def follow(self) -> AsyncGenerator[Desired, None]:
        """What the file says, at the start and after each change; waits while there is no file to read."""
        seen: object = None
        while True:
            mark = self._mark()
            if mark != seen:
                seen = mark
                try:
                    yield self.read()
                except SettingsError as error:
                    logger.error("list of models not taken over", extra={"why": str(error)})  # noqa: TRY400
            await asyncio.sleep(_LOOK_SECONDS)

    def read(self) -> Desired:
        """Raises `SettingsError` where the file as a whole says nothing."""
        try:
            with self._path.open("rb") as file:
                text = file.read(_LARGEST_BYTES + 1)
        except OSError as error:
            raise SettingsError(f"{str(self._path)!r} cannot be read: {error.strerror}.") from error
        if len(text) > _LARGEST_BYTES:
            raise SettingsError(f"{str(self._path)!r} is larger than {_LARGEST_BYTES} bytes.")
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SettingsError(f"{str(self._path)!r} is no JSON: {error}.") from error
        entries = said.get("models") if isinstance(said, dict) else None
        generation = said.get("generation") if isinstance(said, dict) else None
        if not isinstance(entries, list) or not isinstance(generation, int):
            raise SettingsError(
                f'{str(self._path)!r} must be an object like {{"generation": 1, "models": []}}.'
            )
        return self._desired(generation, entries)

    def _desired(self, generation: int, entries: list[Any]) -> Desired:
        models: dict[str, ModelSpec] = {}
        refused: dict[str, str] = {}
        for place, entry in enumerate(entries):
            where = f"models[{place}]"
            try:
                model = read_model(where, entry)
            except SettingsError as error:
                logger.error("entry of the list of models ignored", extra={"why": str(error)})  # noqa: TRY400
                continue
            if model.name in models:
                refused[model.name] = f"{where}: the model {model.name!r} is named twice."
                continue
            models[model.name] = model
            try:
                self._handler.accept(model)
            except ModelError as error:
                refused[model.name] = str(error)
            except Exception as error:
                logger.exception("model cannot be looked at", extra={"model": model.name})
                refused[model.name] = f"{where}: {type(error).__name__}: {error}"
        return Desired(generation, tuple(models.values()), refused)

    def _mark(self) -> object:
        """Differs when the file does: the kubelet swaps a link, editors replace or rewrite."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
