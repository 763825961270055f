"""What the demo says at its end."""

import pytest

from tests.demo.__main__ import say_what_next
from tests.demo.target import LOCAL_REGISTRY, Target


def test_what_to_type_next_speaks_of_the_same_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target({}, LOCAL_REGISTRY, "http://127.0.0.1:18080", context="")
    monkeypatch.delenv("ROUNDHOUSE_CONTEXT", raising=False)
    for number, prefix in (("", ""), ("12", "ROUNDHOUSE_CLUSTER=12 ")):
        monkeypatch.setenv("ROUNDHOUSE_CLUSTER", number)
        say_what_next(target, 1)
        told = capsys.readouterr().out
        assert told.count(f'eval "$({prefix}make env)"') == 2
        assert f"`{prefix}make down`" in told
