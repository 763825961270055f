"""A variant's children while its pods stay as they are, though others are wanted or nobody can say which.

The Deployment keeps what we own of it; of the rest, what a person added is taken away, and what a person
changed stays until there are other pods. The Service needs nothing of an engine: it leads to the variant's
pods whatever they are, so what a person makes of it is taken back as ever, and a missing one is made again.
"""

from __future__ import annotations

from collections.abc import Iterable

from roundhouse_api.model import Manifest
from roundhouse_api.names import ANNOTATION_VARIANT_SPEC
from roundhouse_api.v1alpha1 import BackendType
from roundhouse_operator.core.desired import Intent, desired_children
from roundhouse_operator.core.desired.intent import child_head, pod_labels
from roundhouse_operator.core.desired.service import service_spec
from roundhouse_operator.core.fields import owned_part
from roundhouse_operator.core.kinds import DEPLOYMENT, DISRUPTION_BUDGET, SERVICE, VARIANT
from roundhouse_operator.core.moving import lodges_at
from roundhouse_operator.core.observed import Child, World
from roundhouse_operator.core.own import child_of
from roundhouse_operator.core.plan import NOTHING, Plan, plan_children


def keep_children(world: World, intent: Intent) -> Plan:
    """As many pods as are wanted, all of them as they are."""
    live = child_of(world, DEPLOYMENT)
    if live is None:
        return NOTHING
    kept = owned_part(live.live, live.ownership.ours)
    kept = {**kept, "spec": {**kept.get("spec", {}), "replicas": intent.replicas}}
    later = desired_children(intent)
    budget = [one for one in later if one["kind"] == DISRUPTION_BUDGET.name]
    service = _service(world, live, intent)
    scaled = [one for one in world.children if one.kind in (DEPLOYMENT, DISRUPTION_BUDGET)]
    deployment = [one for one in later if one["kind"] == DEPLOYMENT.name]
    return _plan(world, [kept, *budget, *service], [*scaled, *_service_of(world)], kept_back=deployment)


def keep_service_alone(world: World) -> Plan:
    """Where no engine says what else there is to be."""
    live = child_of(world, DEPLOYMENT)
    if live is None or lodges_at(world.children):
        return NOTHING
    wanted = _service(world, live, None)
    return _plan(world, wanted, _service_of(world)) if wanted else NOTHING


def _plan(
    world: World, wanted: list[Manifest], there: list[Child], *, kept_back: Iterable[Manifest] = ()
) -> Plan:
    variant = world.variant
    return plan_children(
        wanted, there, namespace=variant.namespace, owner_uid=variant.uid, kept_back=kept_back
    )


def _service_of(world: World) -> list[Child]:
    service = child_of(world, SERVICE)
    return [service] if service else []


def _service(world: World, deployment: Child, intent: Intent | None) -> list[Manifest]:
    """As it was made; empty where nobody knows any more for which port.

    Of what says which pods those are, its labels and the author's wishes, it keeps all that is ours still.
    """
    port = _port(world, intent)
    if port is None:
        return []
    variant, service = world.variant, child_of(world, SERVICE)
    owned = [owned_part(one.live, one.ownership.ours)["metadata"] for one in (deployment, service) if one]
    labels: dict[str, str] = {}
    for metadata in owned:
        labels |= metadata.get("labels") or {}
    annotations = {ANNOTATION_VARIANT_SPEC: intent.digest} if intent else {}
    if service:
        annotations |= owned[-1].get("annotations") or {}
    head = child_head(SERVICE, variant.namespace, variant.name, (VARIANT, variant.name, variant.uid))
    head["metadata"]["labels"] = {**labels, **pod_labels(variant.name)}
    if annotations:
        head["metadata"]["annotations"] = annotations
    return [{**head, "spec": service_spec(pod_labels(variant.name), port)}]


def _port(world: World, intent: Intent | None) -> int | None:
    """That of the pods that there are: the engine may say another one by now."""
    backends = world.variant.status.get("backends") or ()
    told = (one.get("port") for one in backends if one.get("type") == BackendType.SERVICE)
    return next(filter(None, told), intent.engine.api.port if intent else None)
