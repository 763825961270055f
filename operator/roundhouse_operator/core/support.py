"""What this version accepts and does not honour, and what it refuses.

A field that nothing acts on is named in the status: silence would let its author believe in it. Where a
resource cannot be served at all without the field, it is not accepted; elsewhere it is served, Degraded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import inet_aton
from typing import Final
from urllib.parse import urlsplit

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Model
from roundhouse_api.v1alpha1 import (
    Allocation,
    CacheType,
    Dialect,
    DownloadPolicy,
    EngineSpec,
    EngineType,
    Hardware,
    LoadBalancingType,
    ModelVariantSpec,
    SourceType,
    Stage,
)
from roundhouse_operator.core.desired.env import RESERVED, SET_BY
from roundhouse_operator.core.desired.gate import required
from roundhouse_operator.core.desired.overlay import overlay_problems
from roundhouse_operator.core.desired.pod import CONTAINER
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.effective import Merged, overlay
from roundhouse_operator.core.placement.terms import tells_memory
from roundhouse_operator.core.scaling import contradiction, is_demand
from roundhouse_operator.core.sharing import refuse_sharing, refuse_sharing_engine
from roundhouse_operator.core.verification import known_answers

PLAIN_RESOURCES: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
JSON_STAGES: Final = frozenset({Stage.CHAT, Stage.EMBED, Stage.RERANK})
"""Stages whose requests are JSON: there the gateway adds defaults and falls back to other models."""
ROUTED_STAGES: Final = JSON_STAGES | {Stage.TRANSCRIBE}
"""Stages that the gateway has routes for; of others the pods run, and answer nobody outside."""
MODEL_NAME_LENGTH: Final = 200
_NO_PODS: Final = "an Upstream engine has no pods"
API_SERVER_NAMES: Final = frozenset(
    {
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    }
)


def refuse_engine(spec: EngineSpec, *, api_hosts: Iterable[str] = ()) -> Trouble | None:
    """Why an engine is not accepted. `api_hosts` are the API server's own names and addresses."""
    if spec.upstream and (trouble := _uncallable(spec.upstream.base_url, frozenset(api_hosts))):
        return trouble
    if trouble := refuse_sharing_engine(spec):
        return trouble
    if spec.workload:
        if problems := overlay_problems(spec.workload.pod_template or {}, CONTAINER):
            return Trouble(Reason.INVALID_POD_TEMPLATE, "; ".join(problems))
        if problems := [
            *_resources(spec.hardware),
            *_reserved((one.name for one in spec.workload.env), spec.api.dialect),
        ]:
            return Trouble(Reason.INVALID_SPEC, "; ".join(sorted(problems)))
    return None


def refuse_variant(spec: ModelVariantSpec, engine: EngineSpec, model_name: str) -> Trouble | None:
    """Why a variant is not accepted on an engine that is."""
    scaling = overlay(engine.scaling, spec.scaling)
    problems = [
        *_too_long(model_name),
        *_resources(spec.hardware),
        *_above_limits(overlay(engine.hardware, spec.hardware)),
        *_reserved((one.name for one in spec.env), engine.api.dialect),
    ]
    if engine.type is EngineType.UPSTREAM:
        unfit = {"args": spec.args, "env": spec.env, "hardware": spec.hardware}
        problems += [f"spec.{name}: {_NO_PODS}" for name, value in unfit.items() if value]
        problems += [f"spec.scaling.mode Demand: {_NO_PODS}"] if is_demand(scaling) else []
        if required(spec.verification):
            problems.append(f"spec.verification.policy Required: {_NO_PODS} to hold back")
    if problem := contradiction(scaling):
        problems.append(problem)
    if spec.verification:
        problems += known_answers.problems(spec.verification, engine.stage)
    problems += _unmountable(spec, engine)
    if problems:
        return Trouble(Reason.INVALID_SPEC, "; ".join(sorted(problems)))
    return refuse_sharing(spec, engine)


def _unmountable(spec: ModelVariantSpec, engine: EngineSpec) -> Iterator[str]:
    fetched = spec.source.type not in (SourceType.BUILTIN, SourceType.PVC, SourceType.OCI)
    wants_image = engine.cache is not None and engine.cache.type is CacheType.IMAGE_VOLUME
    if wants_image and fetched and spec.download_policy is not DownloadPolicy.SKIP:
        yield (
            f"spec.source.type {spec.source.type.value}: the engine mounts images as volumes "
            "(`cache.type: ImageVolume`), so only OCI fits"
        )


def unsupported_by_engine(spec: EngineSpec) -> list[str]:
    """Fields that are accepted and not honoured yet, by path."""
    return [] if spec.stage in ROUTED_STAGES else [f"spec.stage {spec.stage.value}"]


def unsupported_by_variant(spec: ModelVariantSpec, merged: Merged) -> list[str]:
    """Fields of a variant, or inherited by it, that are not honoured yet, by path."""
    balancing, gpu = spec.load_balancing, merged.gpu
    is_json = merged.stage in JSON_STAGES
    batched = {"maxBatchItems"} if merged.stage in (Stage.EMBED, Stage.RERANK) else set()
    fields = [
        (f"spec.stage {merged.stage.value} of the engine", merged.stage not in ROUTED_STAGES),
        *((f"spec.limits.{name}", True) for name in _given(spec.limits) - batched),
        (
            "spec.loadBalancing.type PrefixHash",
            balancing is not None
            and balancing.type is LoadBalancingType.PREFIX_HASH
            and merged.stage is not Stage.CHAT,
        ),
        ("spec.pricing", spec.pricing is not None),
        ("spec.requestDefaults", bool(spec.request_defaults) and not is_json),
        (
            "spec.hardware.gpu.minMemory of GPUs that nobody labels with their memory",
            _unlabelled_memory(gpu.min_memory, gpu.allocation),
        ),
    ]
    return sorted(field for field, present in fields if present)


def _given(model: Model) -> set[str]:
    """Fields that the author set, as the manifest spells them."""
    return set(model.model_dump(by_alias=True, exclude_none=True))


def _unlabelled_memory(memory: object, allocation: Allocation | None) -> bool:
    plugin = allocation.device_plugin if allocation else None
    return memory is not None and plugin is not None and not tells_memory(plugin.resource_name)


def _resources(hardware: Hardware | None) -> Iterator[str]:
    needs = hardware.resources if hardware else None
    for member, quantities in (("requests", needs and needs.requests), ("limits", needs and needs.limits)):
        for name in quantities or {}:
            if name not in PLAIN_RESOURCES:
                yield f"spec.hardware.resources.{member}[{name!r}]: devices belong to spec.hardware.gpu"


def _above_limits(merged: Hardware | None) -> Iterator[str]:
    """Between what engine and variant say; within one resource the API server refuses it."""
    if needs := merged and merged.resources:
        for name in needs.above_limits():
            asked, most = (needs.requests or {})[name], (needs.limits or {})[name]
            yield (
                f"spec.hardware.resources: {name} {asked} is requested, above the limit of {most}, of which "
                "one is the engine's: set both on the variant"
            )


def _too_long(model_name: str) -> Iterator[str]:
    if len(model_name) > MODEL_NAME_LENGTH:
        yield (
            f"spec.source: the engine would call the model {model_name[:32]!r}…, which is longer than "
            f"{MODEL_NAME_LENGTH} characters: set spec.engineModelName"
        )


def _reserved(variables: Iterable[str], dialect: Dialect) -> Iterator[str]:
    if dialect is Dialect.ROUNDHOUSE:
        for name in sorted(set(variables) & set(RESERVED)):
            field = SET_BY.get(name)
            yield f"spec env {name!r}: the operator sets it{f', from {field}' if field else ''}"


def _uncallable(url: str, api_hosts: frozenset[str]) -> Trouble | None:
    """A URL that the schema's pattern lets through and that nobody can call, or nobody may."""
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError as error:
        return Trouble(Reason.INVALID_SPEC, f"spec.upstream.baseURL: {url!r} is no URL: {error}")
    problem = _forbidden(url, api_hosts)
    return Trouble(Reason.FORBIDDEN_ADDRESS, problem) if problem else None


def _forbidden(url: str, api_hosts: frozenset[str]) -> str | None:
    """A request to such an address would carry the gateway's own rights to where no client may go.

    A name that somebody else's DNS resolves to such an address is not seen here: nothing is resolved, and
    an answer of today says nothing about that of tomorrow. Network policy is what holds against it.
    """
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    address = _address(host)
    own = {known for name in api_hosts if (known := _address(name))}
    if host in API_SERVER_NAMES or host in api_hosts or address in own:
        return f"spec.upstream.baseURL: {host!r} is the API server"
    if address is None:
        forbidden = host == "localhost" or host.endswith(".localhost")
    else:
        forbidden = any(
            (address.is_link_local, address.is_loopback, address.is_multicast, address.is_unspecified)
        )
    if not forbidden:
        return None
    return f"spec.upstream.baseURL: {host!r} is a loopback, link-local, multicast or unspecified address"


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """What a client would connect to without asking DNS; None for a name.

    The C library also takes `127.1`, `2130706433` and `0x7f000001` for 127.0.0.1.
    """
    try:
        address = ip_address(host)
    except ValueError:
        try:
            return ip_address(inet_aton(host))
        except (OSError, ValueError):
            return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
