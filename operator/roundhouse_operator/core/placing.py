"""Where a variant's pods are to run, given those that run: what was decided stands until they are replaced.

A decision is made anew where no pod holds a node, where the needs themselves changed, and where the pods are
being replaced for another cause: only then do the nodes of the day and the measured memory count. So neither
a node that comes or goes nor a measurement ever replaces a pod that runs.
"""

from __future__ import annotations

from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.core import placement
from roundhouse_operator.core.desired import Intent
from roundhouse_operator.core.desired.resources import join_affinity
from roundhouse_operator.core.diagnose import Trouble, short_of
from roundhouse_operator.core.effective import Merged
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.observed import Child, Engine, World
from roundhouse_operator.core.own import child_of, has_template
from roundhouse_operator.core.placement import Need, Survey
from roundhouse_operator.core.placement.memory import highest, weights_mib
from roundhouse_operator.core.plan import Plan
from roundhouse_operator.core.reports import peak_bytes

_COUNTS: Final = ("nodesFitting", "nodesRejected")
_PLACING: Final = frozenset(
    {
        Reason.NO_MATCHING_NODE,
        Reason.INSUFFICIENT_GPU,
        Reason.INSUFFICIENT_RESOURCES,
        Reason.UNSCHEDULABLE,
    }
)
"""What the scheduler says where no node would do, as where none is free."""


def need_now(world: World, merged: Merged, engine: Engine) -> Need:
    """The decision in effect, or a new one."""
    stated, anew = placement.state(merged.hardware), need_anew(world, merged, engine)
    before = world.variant.status.get("placement")
    kept = placement.keep(stated, before) if before and holds_nodes(world) else None
    if kept is None or kept == anew:
        return anew
    # A pass that was cut short has written the pods and not the status.
    written = _is_written(anew, world, merged) and not _is_written(kept, world, merged)
    return anew if written else kept


def need_anew(world: World, merged: Merged, engine: Engine) -> Need:
    """Device and resource of pods that run stay, where the specs leave them open."""
    return placement.place(
        placement.state(merged.hardware),
        world.fleet,
        measured_mib=measured_mib(world, merged, engine),
        prefer=world.variant.status.get("placement") if holds_nodes(world) else None,
    )


def holds_nodes(world: World) -> bool:
    """Whether pods run, or may: those that all wait for a node are replaced without loss."""
    if not world.rollout or not world.rollout.replicas:
        return False
    return not world.pods or any(pod.scheduled and not pod.ending for pod in world.pods)


def measured_mib(world: World, merged: Merged, engine: Engine) -> int | None:
    """The most memory that a pod was seen to use for this model on this engine."""
    status = world.variant.status
    models = {one.get("modelName") for one in status.get("backends") or ()}
    same = (status.get("engine") or {}).get("uid") == engine.uid and models == {merged.model_name}
    before = (status.get("placement") or {}).get("measuredPeakMemory") if same else None
    return highest(before, peak_bytes(world.reports, merged.model_name) if same else None)


def placement_status(
    world: World, intent: Intent, engine: Engine, survey: Survey, *, settled: bool
) -> Manifest:
    """What was decided as it is; `settled`: with the nodes as they were counted when it was decided."""
    before = world.variant.status.get("placement") or {}
    size = weights_mib(intent.variant.source, world.variant.status)
    measured = measured_mib(world, intent.merged, engine)
    status = placement.as_status(intent.need, survey, weights_mib=size, measured_mib=measured)
    if not settled or placement.keep(intent.need.stated, before) != intent.need:
        return status
    counts = {name: before[name] for name in _COUNTS if name in before}
    return {**{name: status[name] for name in status if name not in _COUNTS}, **counts}


def explained(found: Trouble, need: Need, survey: Survey) -> Trouble:
    """The scheduler counts nodes by rule; the survey knows which of our wishes none of them meets.

    It has the first word: the scheduler's own are long, and end with what it could not preempt.
    """
    if (
        found.reason is Reason.INSUFFICIENT_RESOURCES
        and survey.fitting
        and (asked := placement.asked_for(need, short_of(found.message)))
    ):
        return Trouble(
            found.reason, f"The pod asks for {asked}, of which no node has as much free. {found.message}"
        )
    if found.reason not in _PLACING or survey.fitting:
        return found
    return Trouble(survey.obstacle, f"The pod {placement.explain(need, survey)}. {found.message}")


def _is_written(need: Need, world: World, merged: Merged) -> bool:
    """Whether the Deployment's pods are placed by it."""
    child = child_of(world, DEPLOYMENT)
    if child is None:
        return False
    pod = child.live["spec"]["template"]["spec"]
    limits = [(one.get("resources") or {}).get("limits") or {} for one in pod["containers"]]
    affinity = join_affinity(merged.hardware.affinity or {}, need)
    return (pod.get("affinity") or {}) == affinity and (
        need.resource is None or any(need.resource in each for each in limits)
    )


def replaces_pods(plan: Plan, children: tuple[Child, ...]) -> bool:
    """Whether the plan changes the template of pods that are there."""
    wanted = next((one.manifest for one in plan.applies if one.kind == DEPLOYMENT and not one.new), None)
    if wanted is None:
        return False
    name = wanted["metadata"]["name"]
    live = next(one for one in children if one.kind == DEPLOYMENT and one.name == name)
    return not has_template(wanted["spec"]["template"], live)
