"""`roundhouse key create`: what it prints makes a gateway know exactly the key that it shows."""

from typing import Any

import pytest
import yaml

from roundhouse_api.keys import Scope, parse, read
from roundhouse_operator.cli import main

Output = pytest.CaptureFixture[str]


def create(capsys: Output, *arguments: str) -> tuple[dict[str, Any], str]:
    assert main(["key", "create", *arguments]) == 0
    printed = capsys.readouterr()
    return yaml.safe_load(printed.out), printed.err.strip()


def test_the_secret_and_the_key_belong_together(capsys: Output) -> None:
    secret, text = create(
        capsys,
        *("--name", "ci", "--scope", "transcribe", "--scope", "models", "--model", "whisper-*"),
        *("--requests-per-minute", "60", "--max-concurrent", "2", "--expires-at", "2040-01-01T00:00:00Z"),
    )
    assert (secret["kind"], secret["type"]) == ("Secret", "roundhouse.dev/api-key")
    assert secret["metadata"] == {"name": "ci"}
    key = read({name: value.encode() for name, value in secret["stringData"].items()})
    presented = parse(text)
    assert presented
    assert key.matches(presented.secret)
    assert presented.secret not in str(secret)
    assert key.grant.scopes == {Scope.TRANSCRIBE, Scope.MODELS}
    assert key.grant.models == ("whisper-*",)
    assert (key.grant.requests_per_minute, key.grant.max_concurrent) == (60, 2)


def test_every_value_is_a_string_as_a_secret_wants_it(capsys: Output) -> None:
    secret, _ = create(capsys, "--name", "ci", "--requests-per-minute", "60")
    assert all(isinstance(value, str) for value in secret["stringData"].values())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--name", "My Key"], "--name 'My Key' is no name of a Secret"),
        (["--name", "ci", "--requests-per-minute", "0"], "`requestsPerMinute` is '0'"),
        (["--name", "ci", "--scope", "all"], "invalid choice: 'all'"),
        (["--name", "ci", "--expires-at", "tomorrow"], "'tomorrow' is not a time"),
        (["--name", "ci", "--expires-at", "2020-01-01T00:00:00Z"], "'2020-01-01T00:00:00Z' is over already"),
        ([], "--name"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], told: str, capsys: Output) -> None:
    try:
        status = main(["key", "create", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 2
    assert told in capsys.readouterr().err
