"""What was proven of a pod template, and how status keeps it so that nothing is tested twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Verification, VerificationResult
from roundhouse_operator.core.verification.known_answers import Judged

Ref = tuple[str, str]
"""Name of a ConfigMap, and a key in it."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome of all tests and probes. `revision` says of which template and of which tests."""

    revision: str
    tests: tuple[Judged, ...] = ()
    verified: tuple[str, ...] = ()
    """Features that the engine showed."""
    unproven: tuple[str, ...] = ()
    """Features that are claimed and were not shown."""
    pod: str = ""
    """Who was asked; status does not keep it."""

    @property
    def passed(self) -> bool:
        return all(one.passed for one in self.tests)

    def as_status(self) -> Manifest:
        tests = (
            {"name": one.name, "result": one.result.value, "score": one.score, "message": one.message}
            for one in self.tests
        )
        told: Manifest = {
            "revision": self.revision,
            "tests": [{name: value for name, value in one.items() if value} for one in tests],
            "verifiedFeatures": list(self.verified),
            "unprovenFeatures": list(self.unproven),
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class Input:
    """What is known of a key of a ConfigMap without holding it: its hash, or what is wrong with it."""

    digest: str = ""
    problem: tuple[Reason, str] | None = None


@dataclass(frozen=True, slots=True)
class ExamFacts:
    """What the shell has found out about the tests of a variant."""

    inputs: Mapping[Ref, Input] = field(default_factory=dict)
    proof: Proof | None = None
    """The last one that this process came to."""
    silent: tuple[str, str] = ("", "")
    """A revision, and why the engine gave no answer to its tests when it was last asked."""


def read_proof(status: Manifest) -> Proof | None:
    """As `as_status` wrote it."""
    told = status.get("verification") or {}
    if not told.get("revision"):
        return None
    return Proof(
        told["revision"],
        tuple(
            Judged(
                one["name"],
                VerificationResult(one["result"]),
                one.get("score", ""),
                one.get("message", ""),
            )
            for one in told.get("tests") or ()
        ),
        tuple(told.get("verifiedFeatures") or ()),
        tuple(told.get("unprovenFeatures") or ()),
    )


def digest(value: object) -> str:
    """Sixteen hexadecimal digits for a JSON value, whatever the order of its members."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def revision(
    mark: str, verification: Verification, claims: Iterable[str], inputs: Mapping[Ref, Input]
) -> str:
    """Of a template, by its `mark`, and of all that is asked of it."""
    tests = verification.model_dump(by_alias=True, exclude_none=True, mode="json", include={"tests"})
    contents = [[*ref, inputs[ref].digest] for ref in sorted(inputs)]
    return digest([mark, tests, list(claims), contents])
