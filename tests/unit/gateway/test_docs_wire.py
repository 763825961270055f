"""docs/reference has every header, parameter, event and label that the code reads or writes, and no other.

What there is is read from the code itself: from enums and structs where it has them, else from the texts
that stand in its modules.
"""

import ast
import re
from collections.abc import Iterator
from typing import get_args

from fastapi import FastAPI
from starlette.routing import Route

from roundhouse_api.realtime import Close, Control, Event, Parameter
from roundhouse_gateway.app import build_service
from roundhouse_gateway.exchange import Observed
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.realtime import credentials, elevenlabs, elevenlabs_config
from roundhouse_gateway.realtime.token_routes import _Wanted
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.routes import Readiness
from roundhouse_gateway.speech import elevenlabs_errors
from roundhouse_gateway.text import request as text_request
from roundhouse_gateway.tour import REFUSALS, Failure
from tests.unit.gateway.test_docs import METRICS, PAGE, ROOT, rows

CODE = ROOT / "gateway/roundhouse_gateway"
NO_HEADERS = frozenset(
    {
        *("close", "chunked", "no", "false", "true", "null", "no-cache", "no-store"),  # values of headers
        *("data", "error", "n"),  # of bodies
        *("latin-1", "utf-8", "roundhouse-gateway"),
    }
)
"""Texts of the code that look like a header's name and are none."""
READ_BY_THE_SERVER = frozenset({"sec-websocket-protocol"})
"""Below the gateway's own code, which is given what they say."""


def trees(*files: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules below the gateway's folder, all where none is named."""
    for path in [CODE / file for file in files] or sorted(CODE.rglob("*.py")):
        yield str(path.relative_to(CODE)), ast.parse(path.read_text())


def texts(*files: str) -> Iterator[tuple[str, str | bytes]]:
    """Every text in these modules but docstrings, and where."""
    for place, tree in trees(*files):
        comments = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in comments else None
            if isinstance(text, str | bytes):
                yield place, text


def headers_in_code() -> dict[str, str]:
    """In small letters, with a module that has it. The beginning of several ends with a dash."""
    found: dict[str, str] = {}
    for place, text in texts():
        if isinstance(text, bytes):
            plain = text.decode("latin-1")
            names = [plain] if re.fullmatch(r"[a-z]+(-[a-z0-9]+)*-?", plain) else []
        else:
            plain = text
            names = [plain] if re.fullmatch(r"[A-Za-z]+(-[A-Za-z0-9]+)+-?", plain) else []
        if "\r\n" in plain:  # a head that is written as a whole
            names += re.findall(r"(?:^|%s|\n)([a-z][a-z-]+): ", plain)
        found |= {name.lower(): place for name in names if name.lower() not in NO_HEADERS}
    return found


def headers_on_page() -> set[str]:
    return {name.lower() for cells in rows("## Headers") for name in re.findall(r"`([\w-]+)`", cells[0])}


def test_every_header_of_the_code_is_on_the_page() -> None:
    listed = headers_on_page()
    missing = {
        name: place
        for name, place in headers_in_code().items()
        if name not in listed and not (name.endswith("-") and any(each.startswith(name) for each in listed))
    }
    assert missing == {}


def test_every_header_of_the_page_is_in_the_code() -> None:
    assert headers_on_page() - set(headers_in_code()) == READ_BY_THE_SERVER


def listed(heading: str) -> set[str]:
    """All that stands in code in the first cells of a table."""
    return {name for cells in rows(heading) for name in re.findall(r"`([\w.-]+)`", cells[0])}


def test_parameters_of_native_sessions() -> None:
    assert listed("### Realtime") == set(Parameter)


def query_of(file: str) -> set[str]:
    """What a module reads of a query: by a function that is given it, or by its `get`."""
    found = set()
    for call in (node for _, tree in trees(file) for node in ast.walk(tree) if isinstance(node, ast.Call)):
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Name("query"), attr="get"), args=[ast.Constant(name), *_]
            ):
                found.add(str(name))
            case ast.Call(args=[ast.Name("query"), ast.Constant(name), *_]):
                found.add(str(name))
            case _:
                pass
    return found


def test_parameters_of_elevenlabs_sessions() -> None:
    section = PAGE.split("#### As ElevenLabs has it", 1)[1].split("\nMessages of these two", 1)[0]
    read = query_of("realtime/elevenlabs_config.py") | {elevenlabs_config.SILENCE}
    assert listed("#### As ElevenLabs has it") == read
    said = (*elevenlabs_config.CHANGING, *elevenlabs_config.FORMATS, *elevenlabs_config.STRATEGIES)
    assert [name for name in said if f"`{name}`" not in section] == []


def test_parameters_of_openais_sessions_and_of_credentials() -> None:
    section = PAGE.split("### Realtime", 1)[1].split("## Headers", 1)[0]
    read = query_of("realtime/openai.py") | {credentials.KEY_PARAMETER, credentials.TOKEN_PARAMETER}
    assert read == {"intent", "model", "api_key", "token"}
    assert [name for name in read if f"`{name}`" not in section] == []
    assert credentials.KEY_SUBPROTOCOL in section


def test_events_of_openais_sessions() -> None:
    kinds = r"(session|transcription_session|input_audio_buffer|conversation)\.[a-z_.]+"
    said = {
        text
        for _, text in texts("realtime/openai.py", "realtime/openai_events.py")
        if isinstance(text, str) and re.fullmatch(kinds, text)
    }
    assert listed("#### As OpenAI has it") == {*said, "error"}


def test_messages_of_elevenlabs_sessions() -> None:
    section = PAGE.split("#### As ElevenLabs has it", 1)[1]
    said = {*elevenlabs._ERRORS.values(), *elevenlabs._Chunk.__struct_fields__} - {"message_type"}
    for _, tree in trees("realtime/elevenlabs.py"):
        for node in (each for each in ast.walk(tree) if isinstance(each, ast.Dict)):
            pairs = zip(node.keys, node.values, strict=True)
            said |= {
                str(value.value)
                for key, value in pairs
                if isinstance(key, ast.Constant)
                and key.value == "message_type"
                and isinstance(value, ast.Constant)
            }
    assert len(said) > 12
    assert [name for name in sorted(said) if f"`{name}`" not in section] == []


def test_events_of_native_sessions_are_in_the_guide() -> None:
    guide = (ROOT / "docs/guides/writing-an-engine.md").read_text()
    kinds = [kind for union in (Event, Control) for kind in get_args(union)]
    names = [get_args(kind.model_fields["type"].annotation)[0] for kind in kinds]
    assert len(names) > 10
    assert [name for name in names if not re.search(rf"[`\"]{re.escape(name)}[`\"]", guide)] == []


def test_close_codes() -> None:
    table = PAGE.split("| code | why |", 1)[1].split("\n\n", 1)[0]
    assert sorted(re.findall(r"^\| (\d{4}) \|", table, re.MULTILINE)) == sorted(
        str(int(each)) for each in Close
    )


def test_words_of_elevenlabs_errors() -> None:
    section = PAGE.split("### `POST /v1/speech-to-text`", 1)[1].split("\n### ", 1)[0]
    words = {*elevenlabs_errors._STATUS.values(), *elevenlabs_errors._TYPE.values(), "internal_error"}
    assert [word for word in sorted(words) if f"`{word}`" not in section] == []


def test_fields_of_json_that_are_looked_at() -> None:
    structs = (text_request._Generation, text_request._Embedding, text_request._Rerank)
    read = {name for struct in structs for name in struct.__struct_fields__}
    assert listed("### Chat, completions, embeddings and rerank") == read - {"model"}


def test_what_is_said_of_keys_for_a_moment() -> None:
    section = PAGE.split("`POST /v1/realtime/client_secrets`", 2)[2].split("\n\n", 1)[0]
    assert [name for name in _Wanted.__struct_fields__ if f'"{name}"' not in section] == []


def test_routes_of_the_cluster_s_port() -> None:
    """They stand in the introduction; `/metrics` and the probes in the table of routes too."""
    readiness = Readiness(Registry(["models"], aliases_enabled=True))

    async def load(*_: object) -> None:
        """The route's own code is not called here."""

    observed = build_service(readiness, Metrics(lambda: 0.0, lambda: 0), load)
    assert isinstance(observed, Observed)
    assert isinstance(observed._app, FastAPI)
    raw = [route.path for route in observed._app.router.routes if isinstance(route, Route)]
    paths = [*raw, *observed._app.openapi()["paths"]]
    assert len(paths) > 3
    assert [path for path in paths if f"`{path}`" not in PAGE.split("## Routes", 1)[0]] == []


def test_labels_and_kinds_of_metrics() -> None:
    table = {
        cells[0]: (set(re.findall(r"`(\w+)`", cells[1])), cells[2].startswith("histogram"))
        for line in METRICS.splitlines()
        if line.startswith("| `roundhouse_gateway_")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    made = {
        f"`{family.name}`": (set(family._label_names), "histogram" in family.head)
        for family in Metrics(lambda: 0.0, lambda: 0).families
    }
    assert table == made


def values_on_page(metric: str) -> set[str]:
    """What the last cell of its row has in code."""
    (line,) = [line for line in METRICS.splitlines() if line.startswith(f"| `roundhouse_gateway_{metric}`")]
    return set(re.findall(r"`(\w+)`", line.strip("|").rsplit("|", 1)[-1]))


def test_values_of_the_labels_of_metrics() -> None:
    assert values_on_page("engine_errors_total") == {*get_args(Failure), *REFUSALS}
    assert values_on_page("tokens_total") == {"usage", "input", "output"}
    calls = [node for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    unresolved = {
        node.value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "unresolved"
        for node in ast.walk(call.args[0])
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert values_on_page("model_resolution_errors_total") == unresolved
    outcomes = {
        node.value
        for _, tree in trees("hold.py")
        for assigned in ast.walk(tree)
        if isinstance(assigned, ast.Assign) and "outcome" in ast.unparse(assigned.targets[0])
        for node in ast.walk(assigned.value)
        if isinstance(node, ast.Constant)
    }
    assert values_on_page("hold_seconds") == outcomes
