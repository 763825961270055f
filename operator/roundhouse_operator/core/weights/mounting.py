"""Claims that one node at a time can mount: who has it, and which pods wait for it on another node.

The scheduler does not look at that: it gives a pod any node whose zone fits, and there it waits until the
last pod that has the volume on another node is gone. Storage that is less strict than its mode lets it start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import AccessMode
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.observed import Pod, World
from roundhouse_operator.core.weights.asked import Ask, AskedKind
from roundhouse_operator.core.weights.delivery import Delivery

PATIENCE_SECONDS: Final = 60
"""For a volume that is on its way from one node to another, or that many nodes can mount after all."""
_ADVICE: Final = "take one that is ReadWriteMany, or `type: Node`, for the engine's cache"


@dataclass(frozen=True, slots=True)
class Mounting:
    """How a variant's claim is mounted; empty where any number of nodes can."""

    nodes: frozenset[str] = frozenset()
    """That have it."""
    waiting: tuple[Pod, ...] = ()
    """Own pods that do not get it where they are, and have waited long enough to say so."""
    soon: bool = False
    """Whether some will have waited long enough in a while."""
    claim: str = ""
    others: bool = False
    """Whether pods of other variants, or a loader's, have it too."""

    @property
    def trouble(self) -> Trouble | None:
        if not self.waiting:
            return None
        there = ", ".join(sorted(self.nodes))
        here = ", ".join(sorted({pod.node for pod in self.waiting}))
        return Trouble(
            Reason.VOLUME_PENDING,
            f"Claim {self.claim!r} is ReadWriteOnce and in use on node {there}{self._whose}, so pods on node "
            f"{here} wait for it: {_ADVICE}",
        )

    @property
    def _whose(self) -> str:
        return " also by pods of others" if self.others else ""


def asked_of_mounts(world: World, delivery: Delivery) -> frozenset[Ask]:
    """How a claim of somebody else's can be mounted has to be known once a pod waits for something."""
    lacking = not delivery.own and any(_waits(pod) and pod.store == delivery.store for pod in world.pods)
    return frozenset({Ask(AskedKind.CLAIM, delivery.claim)} if lacking and delivery.claim else ())


def look_at_mounts(world: World, delivery: Delivery) -> Mounting:
    if not delivery.claim or _many_nodes(world, delivery):
        return Mounting()
    having = [pod for pod in world.mounts.get(delivery.claim, ()) if _has_it(pod)]
    nodes = frozenset(pod.node for pod in having)
    if not nodes:
        return Mounting()
    late = [
        pod for pod in world.pods if pod.store == delivery.store and _waits(pod) and pod.node not in nodes
    ]
    waiting = tuple(pod for pod in late if pod.scheduled_at + PATIENCE_SECONDS <= world.now)
    own = {pod.name for pod in world.pods}
    return Mounting(
        nodes,
        waiting,
        soon=len(waiting) < len(late),
        claim=delivery.claim,
        others=any(pod.name not in own for pod in having),
    )


def _has_it(pod: Pod) -> bool:
    return bool(pod.node) and pod.begun and not (pod.failure or pod.done)


def _many_nodes(world: World, delivery: Delivery) -> bool:
    if delivery.own:
        return delivery.own.access_mode is AccessMode.READ_WRITE_MANY
    answer = world.answers.get(Ask(AskedKind.CLAIM, delivery.claim))
    return answer is None or not answer.found or answer.many_nodes


def _waits(pod: Pod) -> bool:
    return pod.scheduled and not (pod.begun or pod.ending or pod.failure)


def holders(world: World, mounting: Mounting) -> list[Pod]:
    """Own pods that must go before those that wait for the claim get it.

    None, where others have it too: what serves is not ended in vain.
    """
    if not mounting.waiting or mounting.others:
        return []
    return [pod for pod in world.pods if pod.node in mounting.nodes and _has_it(pod) and not pod.ending]
