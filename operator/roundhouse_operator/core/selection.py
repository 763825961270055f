"""Which engine serves a variant: the one it names, or the one that its selector finds.

A choice stands as long as the engine fits; a new one goes to the oldest engine that fits, then by name,
and never to the newest: applying an engine must not move a model. An engine whose hardware no node has
comes after all that have theirs. Every engine that was looked at is told, with what spoke for or against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import (
    Candidate,
    EngineSelection,
    EngineSelector,
    EngineSpec,
    ModelVariantSpec,
    Verdict,
)
from roundhouse_operator.core.observed import Engine, Invalid

MAX_CANDIDATES: Final = 16


@dataclass(frozen=True, slots=True)
class Doubt:
    """What speaks against an engine that meets the selector."""

    reason: str
    message: str
    final: bool = False
    """It cannot serve at all; else it could, once the cluster has what it needs."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine, or why there is none. `candidates`: none where the engine that is named is not there."""

    engine: Engine | None
    reason: Reason
    message: str
    candidates: tuple[Candidate, ...] = ()

    def as_status(self) -> Manifest | None:
        if not self.candidates:
            return None
        listed = self.candidates[:MAX_CANDIDATES]
        return EngineSelection(candidates=listed, omitted=len(self.candidates) - len(listed)).model_dump(
            by_alias=True, exclude_none=True, mode="json"
        )


def choose(
    variant: ModelVariantSpec,
    engines: Iterable[Engine],
    *,
    incumbent: str | None,
    doubt: Callable[[Engine], Doubt | None],
) -> Choice:
    """`incumbent` is the uid of the engine that was chosen before; `doubt` looks beyond the selector."""
    if variant.engine_ref:
        return _named(variant.engine_ref.name, engines, doubt)
    assert variant.engine_selector  # noqa: S101  # the model demands exactly one of the two
    return _found(variant.engine_selector, variant, engines, incumbent, doubt)


def _named(name: str, engines: Iterable[Engine], doubt: Callable[[Engine], Doubt | None]) -> Choice:
    engine = next((one for one in engines if one.name == name), None)
    if engine is None:
        return Choice(None, Reason.ENGINE_NOT_FOUND, f"Engine {name!r} does not exist in this namespace")
    return Choice(engine, Reason.SELECTED, f"Engine {name!r}", (_chosen(name, "Named", doubt(engine)),))


def _found(
    selector: EngineSelector,
    variant: ModelVariantSpec,
    engines: Iterable[Engine],
    incumbent: str | None,
    doubt: Callable[[Engine], Doubt | None],
) -> Choice:
    ordered = sorted(engines, key=lambda one: (one.created, one.name))
    rejected = {one.name: obstacle for one in ordered if (obstacle := _obstacle(selector, variant, one))}
    doubts = {one.name: held for one in ordered if one.name not in rejected and (held := doubt(one))}
    sound = [one for one in ordered if one.name not in rejected and one.name not in doubts]
    fitting = sound or [one for one in ordered if one.name in doubts and not doubts[one.name].final]
    fitting_names = {one.name for one in fitting}
    rejected |= {
        name: (held.reason, held.message) for name, held in doubts.items() if name not in fitting_names
    }
    if not fitting:
        return Choice(
            None,
            Reason.NO_MATCHING_ENGINE,
            f"None of {len(ordered)} engines of this namespace meets `engineSelector`",
            tuple(_rejected(name, *rejected[name]) for name in sorted(rejected)),
        )
    chosen = next((one for one in fitting if one.uid == incumbent), fitting[0])
    why = "Incumbent" if chosen.uid == incumbent else "OnlyMatch" if len(fitting) == 1 else "OldestMatch"
    eligible = sorted(one.name for one in fitting if one is not chosen)
    return Choice(
        chosen,
        Reason.SELECTED,
        f"Engine {chosen.name!r} of {len(fitting)} that meet `engineSelector`",
        (
            _chosen(chosen.name, why, doubts.get(chosen.name)),
            *(Candidate(engine=name, verdict=Verdict.ELIGIBLE, reason="AnotherChosen") for name in eligible),
            *(_rejected(name, *rejected[name]) for name in sorted(rejected)),
        ),
    )


def _chosen(name: str, why: str, held: Doubt | None) -> Candidate:
    message = f"{held.reason}: {held.message}"[:256] if held else None
    return Candidate(engine=name, verdict=Verdict.CHOSEN, reason=why, message=message)


def _rejected(name: str, reason: str, message: str) -> Candidate:
    return Candidate(engine=name, verdict=Verdict.REJECTED, reason=reason, message=message[:256])


def _obstacle(selector: EngineSelector, variant: ModelVariantSpec, engine: Engine) -> tuple[str, str] | None:
    spec = engine.spec
    if isinstance(spec, Invalid):
        return "NotAccepted", "its own spec is not accepted"
    missing_labels = [
        f"{key}={value}" for key, value in selector.match_labels.items() if engine.labels.get(key) != value
    ]
    checks = (
        ("StageDiffers", selector.stage is not spec.stage, f"its stage is {spec.stage.value}"),
        ("LabelMissing", bool(missing_labels), f"it lacks {', '.join(sorted(missing_labels))}"),
        _lacks("InterfaceMissing", selector.interfaces, spec.interfaces),
        _lacks("FeatureMissing", selector.features, _features(spec)),
        _format(variant, spec),
    )
    return next(((reason, message) for reason, against, message in checks if against), None)


def _lacks(reason: str, wanted: Iterable[str], there: Iterable[str]) -> tuple[str, bool, str]:
    missing = sorted(set(map(str, wanted)) - set(map(str, there)))
    return reason, bool(missing), f"it lacks {', '.join(missing)}"


def _features(spec: EngineSpec) -> tuple[str, ...]:
    return tuple((spec.capabilities and spec.capabilities.features) or ())


def unloadable(variant: ModelVariantSpec, spec: EngineSpec) -> str | None:
    """Why an engine that is named cannot load the format that is named; both may be wrong about it."""
    _, against, message = _format(variant, spec)
    return (
        f"The weights are {variant.source.format}, and of the engine it is said that {message}"
        if against
        else None
    )


def _format(variant: ModelVariantSpec, spec: EngineSpec) -> tuple[str, bool, str]:
    wanted = variant.source.format
    against = wanted is not None and spec.formats is not None and wanted not in spec.formats
    return "FormatNotLoaded", against, f"it loads {', '.join(sorted(spec.formats or ()))}"
