"""`/admin/models`: the list of models that an engine is to serve, read and replaced as a whole, at run time.

On a port of its own, for whoever has the token; off where none is set. What becomes of the models that come
and go is decided in `fleet`, as for a list in a file.
"""

import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from roundhouse_engine.app import EveryAnswer, application, life
from roundhouse_engine.errors import EngineError, Problem, Refusal, invalid, refused
from roundhouse_engine.fleet import Fleet
from roundhouse_engine.handler import Handler, ModelError, ModelSpec
from roundhouse_engine.json_body import read_body, read_object
from roundhouse_engine.models_file import Desired
from roundhouse_engine.settings import EntryError, Settings, read_model

logger = logging.getLogger(__name__)

_LIST_FIELDS: Final = frozenset({"generation", "models"})
_ENTRY_FIELDS: Final = frozenset({"name", "path", "source", "variant", "pooling"})


def build_admin(handler: type[Handler], settings: Settings, fleet: Fleet) -> ASGIApp:
    admin = _Admin(handler, settings, fleet)
    routes = [
        Route("/admin/models", admin.show, methods=["GET"]),
        Route("/admin/models", admin.replace, methods=["PUT"]),
    ]
    return EveryAnswer(application(routes), door=fleet, instance=settings.pod_uid)


class _Admin:
    def __init__(self, handler: type[Handler], settings: Settings, fleet: Fleet) -> None:
        self._handler = handler
        self._settings = settings
        self._fleet = fleet

    async def show(self, request: Request) -> Response:
        """What is to be served, and how far it is; models on their way out stand behind."""
        self._authenticate(request)
        entries = {model.name: _entry(model) for model in self._fleet.desired.models}
        models = [
            {"name": each.name, **entries.get(each.name, {}), **life(each), "loaded": each.loaded}
            for each in self._fleet.models
        ]
        return JSONResponse({"generation": self._fleet.generation, "models": models})

    async def replace(self, request: Request) -> Response:
        """202 where something changes, 200 where the list is there already; 409 for an older one."""
        self._authenticate(request)
        if self._fleet.draining:
            raise refused(Refusal.DRAINING)
        body = await read_body(
            request.receive,
            request.headers,
            limit_bytes=self._settings.body_limit_bytes,
            idle_seconds=self._settings.upload_idle_seconds,
        )
        before = self._fleet.desired
        wanted = read_list(body, self._handler, before)
        change = Change.between(before, wanted)
        if wanted.generation == before.generation and change.any:
            raise _conflict(f"Generation {before.generation} is another list. Send a higher one, or none.")
        if wanted != before:
            self._fleet.take(wanted)
        return JSONResponse({"generation": wanted.generation, **change.told}, 202 if change.any else 200)

    def _authenticate(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(token.strip().encode(), self._settings.admin_token.encode())
        if scheme.lower() != "bearer" or not right:
            message = "Send `Authorization: Bearer` with the token of ROUNDHOUSE_ADMIN_TOKEN."
            raise invalid(message, code="invalid_admin_token", status=401)


@dataclass(frozen=True, slots=True)
class Change:
    """Names of models, by what becomes of them."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    unchanged: list[str]

    @classmethod
    def between(cls, before: Desired, after: Desired) -> "Change":
        old = {model.name: model for model in before.models if model.name not in before.refused}
        new = {model.name: model for model in after.models}
        both = old.keys() & new.keys()
        return cls(
            sorted(new.keys() - both),
            sorted(old.keys() - both),
            sorted(name for name in both if old[name] != new[name]),
            sorted(name for name in both if old[name] == new[name]),
        )

    @property
    def any(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @property
    def told(self) -> dict[str, list[str]]:
        return {name: getattr(self, name) for name in self.__slots__}


def read_list(body: bytes, handler: type[Handler], before: Desired) -> Desired:
    """The list in a request; raises `EngineError` with `param` set. Without a generation it is the next."""
    said = read_object(body).values
    if not isinstance(said.get("models"), list):
        raise invalid('`models` must be a list such as [{"name": "english"}].', param="models")
    _known(said, _LIST_FIELDS, "")
    generation = said.get("generation", before.generation + 1)
    if isinstance(generation, bool) or not isinstance(generation, int) or generation < 0:
        raise invalid(f"`generation` must be a whole number, not {generation!r}.", param="generation")
    if generation < before.generation:
        raise _conflict(f"Generation {generation} is older than what is served, {before.generation}.")
    models: dict[str, ModelSpec] = {}
    for place, entry in enumerate(said["models"]):
        model = _model(f"models[{place}]", entry, handler)
        if model.name in models:
            where = f"models[{place}].name"
            raise invalid(f"{where}: the model {model.name!r} is named twice.", param=where)
        models[model.name] = model
    wanted = Desired(generation, tuple(models.values()))
    same = "generation" not in said and not before.refused and wanted.models == before.models
    return before if same else wanted


def _model(where: str, entry: Any, handler: type[Handler]) -> ModelSpec:  # noqa: ANN401 - whatever the JSON held
    try:
        model = read_model(where, entry)
        _known(entry, _ENTRY_FIELDS, f"{where}.")
    except EntryError as error:
        raise invalid(str(error), param=error.field) from error
    try:
        handler.accept(model)
    except ModelError as error:
        raise invalid(f"{where}: {error}", param=where, code="model_refused") from error
    except Exception as error:
        logger.exception("model cannot be looked at", extra={"model": model.name})
        message = (
            f"{where} cannot be looked at: {type(error).__name__}: {error}. The engine's log says where."
        )
        raise EngineError(Problem(500, "server_error", "engine_failure", message, where)) from error
    return model


def _known(said: Mapping[str, Any], fields: frozenset[str], where: str) -> None:
    if unknown := sorted(said.keys() - fields):
        param = where + unknown[0]
        raise invalid(f"There is no field {param!r}, only {', '.join(sorted(fields))}.", param=param)


def _entry(model: ModelSpec) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.path) if model.path else None,
        "source": dict(model.source),
        "variant": model.variant,
        "pooling": model.pooling,
    }


def _conflict(message: str) -> EngineError:
    return EngineError(Problem(409, "invalid_request_error", "stale_generation", message, "generation"))
