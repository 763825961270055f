"""Records as `records` makes them, with what a test wants different."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from roundhouse_api.enums import BackendType, ConditionStatus
from roundhouse_api.v1alpha1 import Capabilities, Effective, EngineSpec, Performance, RealTimeFactor
from roundhouse_gateway.records import (
    Backing,
    Endpoint,
    EngineRecord,
    SliceRecord,
    Summary,
    Texts,
    VariantRecord,
)
from roundhouse_gateway.snapshot import Join, Snapshot

SERVING = Summary(ConditionStatus.TRUE, "Serving", "")


def lost(reason: str) -> Summary:
    return Summary(ConditionStatus.FALSE, reason, "")


VARIANT = VariantRecord(
    namespace="models",
    name="whisper",
    served_name="whisper-base",
    published_names=frozenset({"whisper-base", "Systran/base", "base"}),
    alternate_names=("Systran/base",),
    aliases=("base",),
    created=0,
    texts=Texts(),
    speed_tier=None,
    cost_tiers=frozenset(),
    priority=0,
    wanted=True,
    suspended=False,
    engine="fake",
    backends=(Backing("whisper", BackendType.SERVICE, "base"),),
    effective=Effective(
        stage="Transcribe",
        version="1.0.0",
        dialect="Roundhouse",
        interfaces=("Batch",),
        capabilities=Capabilities(languages=("en", "pt-BR")),
        performance=Performance(real_time_factor=RealTimeFactor(gpu="0.03", cpu="0.4"), speed_factor="8.0"),
    ),
    device=None,
    available=SERVING,
    ready=SERVING,
)
ENGINE = EngineRecord(
    namespace="models",
    name="fake",
    spec=EngineSpec.model_validate(
        {
            "stage": "Transcribe",
            "interfaces": ["Batch"],
            "version": "1.0.0",
            "workload": {"image": "example.org/engine:1"},
            "serving": {"type": "Dedicated"},
            "hardware": {"gpu": {"mode": "None"}},
        }
    ),
    variants=1,
    ready_variants=1,
    ready=SERVING,
)


def upstream(**members: object) -> EngineRecord:
    spec = {
        "type": "Upstream",
        "stage": "Transcribe",
        "interfaces": ["Batch"],
        "version": "1.0.0",
        "upstream": {"baseURL": "https://api.example.org/v1", **members},
    }
    return replace(ENGINE, spec=EngineSpec.model_validate(spec))


def slice_with(*endpoints: Endpoint, service: str = "whisper", namespace: str = "models") -> SliceRecord:
    return SliceRecord(namespace, f"{service}-a", service, endpoints)


READY = Endpoint("10.0.0.1", 8000, ready=True)
UNREADY = Endpoint("10.0.0.2", 8000, ready=False)


def joined(
    variants: Iterable[VariantRecord],
    slices: Iterable[SliceRecord] = (),
    engines: Iterable[EngineRecord] = (ENGINE,),
    *,
    namespaces: Sequence[str] = ("models",),
    aliases: bool = True,
) -> Snapshot:
    """What all of these come to, in no order."""
    join = Join(namespaces, aliases_enabled=aliases)
    for engine in engines:
        join.put_engine((engine.namespace, engine.name), engine)
    for number, piece in enumerate(slices):
        join.put_slice((piece.namespace, f"{number}/{piece.name}"), piece)
    for variant in variants:
        join.put_variant((variant.namespace, variant.name), variant)
    join.renew()
    return join.snapshot
