"""docs/reference/http.md says all that the code has, and nothing that it has not."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from fastapi import FastAPI

import roundhouse_gateway
from roundhouse_api import keys
from roundhouse_api.selection import TASKS, MismatchReason
from roundhouse_gateway.app import build_api
from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.exchange import Observed
from roundhouse_gateway.hints import TIERS
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.openapi import describe
from roundhouse_gateway.realtime.door import WEBSOCKETS
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.relay import _ENGINE_AT_FAULT
from roundhouse_gateway.routes import Readiness
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.speech import elevenlabs_request
from roundhouse_gateway.speech.audio_api import TRANSCRIPTIONS
from roundhouse_gateway.text.serve import ROUTES as TEXT_ROUTES
from roundhouse_gateway.transcription_request import _ARRAYS, _SINGLE, GRANULARITIES, RESPONSE_FORMATS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/http.md").read_text()
METRICS = (ROOT / "docs/reference/metrics.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = PAGE.split(f"\n{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert lines is not None
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in lines[0].splitlines()[2:]]


def first_cells(heading: str) -> list[str]:
    return [cells[0].strip("| `") for cells in rows(heading)]


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics(lambda: 0.0, lambda: 0)


@pytest.fixture(scope="module")
def app(metrics: Metrics) -> FastAPI:
    registry = Registry(["models"], aliases_enabled=True)

    async def nothing(*_: object) -> None:
        """The route's own code is not called here."""

    observed = build_api(
        Readiness(registry), metrics, dict.fromkeys([TRANSCRIPTIONS.path, *TEXT_ROUTES], nothing)
    )
    assert isinstance(observed, Observed)
    assert isinstance(observed._app, FastAPI)
    return observed._app


def test_routes(app: FastAPI) -> None:
    described = {f"{verb.upper()} {path}" for path, each in describe(app)["paths"].items() for verb in each}
    sockets = {f"WS {path}" for path in WEBSOCKETS}
    assert set(first_cells("## Routes")) == {*described, *sockets, "GET /openapi.json"}


def test_parameters_of_queries(app: FastAPI) -> None:
    """A GET has a table of its own; what may be posted to shares one."""
    asking = {
        (verb, path): [each["name"] for each in described["parameters"] if each["in"] == "query"]
        for path, verbs in describe(app)["paths"].items()
        for verb, described in verbs.items()
        if any(each["in"] == "query" for each in described.get("parameters", ()))
    }
    headings = {
        place: f"### `GET {place[1]}`" if place[0] == "get" else "### What `auto` prefers" for place in asking
    }
    assert len(asking) > 2
    assert {place: first_cells(heading) for place, heading in headings.items()} == asking


def test_hints(app: FastAPI) -> None:
    """The same parameters on every route that chooses a model."""
    wanted = first_cells("### What `auto` prefers")
    paths = describe(app)["paths"]
    for path in (TRANSCRIPTIONS.path, "/v1/audio/translations", "/v1/speech-to-text", *TEXT_ROUTES):
        assert [each["name"] for each in paths[path]["post"]["parameters"]] == wanted, path


def test_words_of_a_choice() -> None:
    section = PAGE.split("### `GET /v1/select`", 1)[1].split("\n### ", 1)[0]
    assert all(f"`{reason.name.lower()}`" in section for reason in MismatchReason)
    assert all(task in section for task in TASKS)


def test_fields_of_the_upload(app: FastAPI) -> None:
    body = describe(app)["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]
    described = set(body["content"]["multipart/form-data"]["schema"]["properties"])
    documented = set(first_cells("### `POST /v1/audio/transcriptions`"))
    assert described == documented == {"file", *(f"{name}[]" for name in _ARRAYS), *_SINGLE}
    for value in (*RESPONSE_FORMATS, *GRANULARITIES, *TIERS):
        assert value in PAGE


def test_fields_of_speech_to_text() -> None:
    section = PAGE.split("### `POST /v1/speech-to-text`")[1].split("## Headers")[0]
    assert first_cells("### `POST /v1/speech-to-text`") == [
        "file",
        *(name for name in elevenlabs_request.HONOURED if name != "file"),
    ]
    for name in (*elevenlabs_request.HINTS, *elevenlabs_request.REFUSED):
        assert f"`{name}`" in section


def test_error_codes() -> None:
    kinds = [
        kind
        for module in pkgutil.walk_packages(roundhouse_gateway.__path__, "roundhouse_gateway.")
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        if issubclass(kind, GatewayError) and kind.code is not None
    ]
    in_code = {(kind.code, str(kind.status), kind.type) for kind in kinds}
    documented = {tuple(cell.strip("| `") for cell in cells[:3]) for cells in rows("## Errors")}
    assert documented == in_code


def literal(node: ast.expr | None, otherwise: object) -> object:
    return node.value if isinstance(node, ast.Constant) else otherwise


def problem_of(call: ast.Call) -> tuple[object, ...] | None:
    """Code, status and type of an error that the SDK makes by this call; None where it makes none here."""
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    match call:
        case ast.Call(func=ast.Name(id="Problem"), args=[ast.Constant(), _, ast.Constant(), *_]):
            return tuple(literal(call.args[place], None) for place in (2, 0, 1))
        case ast.Call(func=ast.Name(id="invalid" | "failed" as maker)):
            code, status, kind = {
                "invalid": ("invalid_value", 400, "invalid_request_error"),
                "failed": ("engine_failure", 500, "server_error"),
            }[maker]
            return literal(named.get("code"), code), literal(named.get("status"), status), kind
        case _:
            return None


def test_error_codes_of_the_engine() -> None:
    modules = (ROOT / "engine-images/sdk/roundhouse_engine").glob("*.py")
    passed_on = (module for module in modules if module.name != "admin.py")  # has a port of its own
    nodes = (node for module in passed_on for node in ast.walk(ast.parse(module.read_text())))
    calls = (problem_of(node) for node in nodes if isinstance(node, ast.Call))
    made = [problem for problem in calls if problem is not None]
    passing = {(code, str(status), kind) for code, status, kind in made if status not in _ENGINE_AT_FAULT}
    documented = {
        tuple(cell.strip("| `") for cell in cells[:3]) for cells in rows("### Errors of the engine")
    }
    assert documented == passing


def test_metrics(metrics: Metrics) -> None:
    described = re.findall(r"^\| `(roundhouse_gateway_\w+)", METRICS, re.MULTILINE)
    assert sorted(described) == sorted(family.name for family in metrics.families)


def test_settings() -> None:
    documented = {cells[0].strip("| `"): cells[1].strip("`") for cells in rows("## Settings")}
    assert set(documented) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, bool | int | float | str):
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert documented[name.upper()] == default


def test_entries_of_a_key() -> None:
    documented = {name for cells in rows("## API keys") for name in re.findall(r"`(\w+)`", cells[0])}
    assert documented == keys.FIELDS
    assert "`" + " ".join(keys.Scope) + "`" in PAGE
