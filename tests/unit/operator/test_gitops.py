"""How Argo CD and Flux read a status: the script that we ship, and kstatus by its published rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lupa
import pytest

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from tests.unit.operator.test_reasons import CASES

SCRIPT = (Path(__file__).parents[3] / "docs/guides/argocd/health.lua").read_text()


def health(resource: Manifest) -> str:
    """As Argo CD runs the script: `obj` is the resource, and the answer a table with `status`."""
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = _table(lua, resource)
    return str(lua.execute(SCRIPT)["status"])


def _table(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({name: _table(lua, member) for name, member in value.items()})
    if isinstance(value, list | tuple):
        return lua.table_from([_table(lua, item) for item in value])
    return value


def kstatus(resource: Manifest) -> str:
    """`status.Compute` of sigs.k8s.io/cli-utils, for kinds that it has no rules of their own for."""
    metadata, status = resource["metadata"], resource.get("status") or {}
    if "deletionTimestamp" in metadata:
        return "Terminating"
    seen = status.get("observedGeneration")
    if seen is not None and seen != metadata["generation"]:
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if "Ready" in conditions:
        return "Current" if conditions["Ready"] == "True" else "InProgress"
    return "Current"


def resource(status: Manifest, *, edited: bool = False) -> Manifest:
    generation = status["observedGeneration"] + edited
    return {"metadata": {"name": "kws-en", "generation": generation}, "spec": {}, "status": status}


def with_ready(reason: Reason) -> Manifest:
    """A status of the reason's own case in which Ready has it."""
    for status in CASES[reason]():
        ready: dict[str, Any] = next((one for one in status["conditions"] if one["type"] == "Ready"), {})
        if ready.get("reason") == reason.value:
            return status
    raise AssertionError(f"{reason.value} is no reason of Ready")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (Reason.SERVING, "Healthy"),
        (Reason.IDLE, "Healthy"),
        (Reason.UPSTREAM, "Healthy"),
        (Reason.STARTING, "Progressing"),
        (Reason.DOWNLOADING, "Progressing"),
        (Reason.SUSPENDED, "Suspended"),
        (Reason.SCALED_TO_ZERO, "Suspended"),
        (Reason.CRASH_LOOP, "Degraded"),
        (Reason.INSUFFICIENT_VRAM, "Degraded"),
        (Reason.NAME_CONFLICT, "Degraded"),
    ],
)
def test_argo_cd(reason: Reason, told: str) -> None:
    status = with_ready(reason)
    assert health(resource(status)) == told
    assert health(resource(status, edited=True)) == "Progressing", "of an older spec"


def test_argo_cd_waits_for_a_first_status() -> None:
    assert health({"metadata": {"generation": 1}, "spec": {}}) == "Progressing"


def test_the_script_knows_no_reason_that_there_is_not() -> None:
    named = set(re.findall(r"^  (\w+) = true,$", SCRIPT, re.MULTILINE))
    assert named
    assert named <= {reason.value for reason in Reason}


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (Reason.SERVING, "Current"),
        (Reason.IDLE, "Current"),
        (Reason.STARTING, "InProgress"),
        (Reason.CRASH_LOOP, "InProgress"),
        (Reason.SUSPENDED, "InProgress"),
    ],
)
def test_kstatus(reason: Reason, told: str) -> None:
    status = with_ready(reason)
    assert kstatus(resource(status)) == told
    assert kstatus(resource(status, edited=True)) == "InProgress", "of an older spec"
