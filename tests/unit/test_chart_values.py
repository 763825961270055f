"""How the chart's values are documented, checked, and understood by the programs that get them."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from roundhouse_gateway.settings import Settings as GatewaySettings
from roundhouse_operator.settings import Settings as OperatorSettings
from tests.charts.__main__ import generated
from tests.charts.helm import HelmError, Manifest, render
from tests.charts.manifests import container, environment, only
from tests.charts.schema import values_schema
from tests.charts.values import ValuesError, parse_values


def test_the_generated_files_are_current() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"{path} is not current: run `make gen`"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: 1\n", "'a' has no comment"),
        ("# A group.\na:\n  b: 1\n", "'a.b' has no comment"),
        ("# A list.\na: []\n", "'a' needs an `@schema` line"),
        ("# A map.\na: {}\n", "'a' needs an `@schema` line"),
    ],
)
def test_a_value_without_words_or_type_stops_the_generator(text: str, error: str) -> None:
    with pytest.raises(ValuesError, match=error):
        values_schema(parse_values(text))


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    values: Manifest
    setting: str
    wanted: Any


SETTINGS = [
    Case("aliases off", {"aliases": {"enabled": False}}, "aliases_enabled", False),
    Case(
        "default model",
        {"defaultModel": "openai/whisper-large-v3"},
        "default_model",
        "openai/whisper-large-v3",
    ),
    Case("limit with a unit", {"bodyLimit": "25Mi"}, "body_limit_bytes", 25 << 20),
    Case("limit in bytes", {"bodyLimit": 5_000_000_000}, "body_limit_bytes", 5_000_000_000),
    Case("no spool", {"spool": {"sizeLimit": 0}}, "spool_limit_bytes", 0),
    Case("drain", {"drainSeconds": 90}, "drain_seconds", 90),
    Case("log level", {"logLevel": "debug"}, "log_level", "debug"),
    Case("log format", {"logFormat": "text"}, "log_format", "text"),
    Case("namespaces", {"namespaces": ["b", "a"]}, "namespaces", ("b", "a")),
]


@pytest.mark.parametrize("case", SETTINGS, ids=lambda case: case.id)
def test_the_gateway_understands_what_the_chart_tells_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(render({"gateway": case.values}), "gateway").items():
        monkeypatch.setenv(name, value)
    assert getattr(GatewaySettings(), case.setting) == case.wanted


@pytest.mark.parametrize(
    ("component", "settings"), [("operator", OperatorSettings), ("gateway", GatewaySettings)]
)
def test_every_setting_that_the_chart_gives_exists(component: str, settings: type[BaseSettings]) -> None:
    prefix = f"ROUNDHOUSE_{component.upper()}_"
    given = {each["name"] for each in container(render(), component)["env"]}
    assert given <= {f"{prefix}{name.upper()}" for name in settings.model_fields}


def test_the_pod_outlives_the_drain() -> None:
    pod = only(render({"gateway": {"drainSeconds": 300}}), "Deployment", "gateway")["spec"]["template"][
        "spec"
    ]
    assert pod["terminationGracePeriodSeconds"] > 300


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"opertor": {}}, "additional properties 'opertor' not allowed"),
        ({"gateway": {"alaises": {}}}, "at '/gateway': additional properties 'alaises' not allowed"),
        ({"gateway": {"bodyLimit": "1G"}}, "'1G' does not match pattern"),
        ({"operator": {"namespaces": ["*", "a"]}}, "at '/operator/namespaces'"),
        ({"gateway": {"namespaces": ["*"]}}, "at '/gateway/namespaces/0'"),
        ({"operator": {"logLevel": "loud"}}, "value must be one of 'debug', 'info', 'warning', 'error'"),
        ({"gateway": {"tolerations": [{"kee": "x"}]}}, "additional properties 'kee' not allowed"),
        ({"gateway": {"serviceAccount": {"create": False}}}, "gateway.serviceAccount.name is needed"),
        ({"gateway": {"hold": {"limit": -1}}}, "at '/gateway/hold/limit'"),
        ({"image": {"registry": "https://registry.example/a"}}, "at '/image/registry'"),
        ({"fullnameOverride": "Round_House"}, "'Round_House' does not match pattern"),
        ({"nameOverride": "round.house"}, "'round.house' does not match pattern"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: Manifest, error: str) -> None:
    with pytest.raises(HelmError, match=re.escape(error)):
        render(values)
