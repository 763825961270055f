"""Why a variant's pods do not run or do not answer, read from the Deployment and the pods themselves.

No Kubernetes event is consulted: they are best effort and expire. The worst trouble of any pod of the
newest template is told; how much of it is trouble for a client is decided in `status`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_operator.core.masking import last_words, masked
from roundhouse_operator.core.observed import Container, Pod, Rollout
from roundhouse_operator.core.startup import Startup

_PULL: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_NOT_MADE: Final = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_NOT_RUN: Final = frozenset({"RunContainerError"})
_NEVER_RAN: Final = frozenset({"StartError", "ContainerCannotRun"})
"""Reasons of an end without a beginning: the command does not exist, say."""
_SIGNALS: Final = {
    128 + 4: "SIGILL",
    128 + 6: "SIGABRT",
    128 + 7: "SIGBUS",
    128 + 8: "SIGFPE",
    128 + 9: "SIGKILL",
    128 + 11: "SIGSEGV",
    128 + 15: "SIGTERM",
}
_BY_SIGNAL: Final = frozenset({128 + 9, 128 + 15})
_ENDED_BY_KUBELET: Final = _BY_SIGNAL | {0}
_ENDING_SECONDS: Final = 120
"""Between the deadline of a start and the end of a container that takes its time to leave."""
_WELL_SECONDS: Final = 600
"""Who ran for so long is started again at once: the kubelet counts none of the ends before."""
_INSUFFICIENT: Final = re.compile(r"Insufficient (cpu|memory|ephemeral-storage)")
_QUOTA: Final = re.compile(r"(?:exceeded|failed) quota: .*", re.DOTALL)
_UNSTATED: Final = re.compile(r"must specify (?:limits|requests)\.[a-z]")
"""A quota counts what pods state, and takes none that do not."""
_NO_SECRET: Final = re.compile(r"(?i)\bsecret \"[^\"]+\" not found|couldn't find key \S+ in secret ")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A cause, for machines and for people.

    `detail` may differ from one occurrence of the same trouble to the next, so a status that tells of it
    already keeps the detail that it has.
    """

    reason: Reason
    message: str
    detail: str = ""


_WEIGHT: Final = (
    Reason.QUOTA_EXCEEDED,
    Reason.POD_REFUSED,
    Reason.SECRET_NOT_FOUND,
    Reason.CONFIG_ERROR,
    Reason.IMAGE_PULL,
    Reason.OOM_KILLED,
    Reason.CRASH_LOOP,
    Reason.START_TIMEOUT,
    Reason.ENDPOINT_LOST,
    Reason.INSUFFICIENT_GPU,
    Reason.INSUFFICIENT_RESOURCES,
    Reason.NO_MATCHING_NODE,
    Reason.UNSCHEDULABLE,
    Reason.QUEUED,
)
"""The order in which troubles are told: what a person must mend before what may pass by itself."""


def diagnose(
    rollout: Rollout | None, pods: Iterable[Pod], *, resource: str | None, startup: Startup
) -> Trouble | None:
    """None while everything goes its way. `resource` is the extended resource that the pods request."""
    if rollout and rollout.refused:
        return cannot_be_made(rollout.refused)
    if rollout and not (rollout.current and rollout.updated):
        return None  # these are still the pods of the template before
    troubles = [
        trouble for pod in newest(pods) if not pod.ready and (trouble := _pod_trouble(pod, resource, startup))
    ]
    if troubles:
        return min(troubles, key=lambda one: (_WEIGHT.index(one.reason), one.message))
    if rollout and rollout.stalled and rollout.ready < rollout.wanted:
        return Trouble(
            Reason.START_TIMEOUT, f"No pod became ready within {startup.seconds} s and none tells why"
        )
    return None


def cannot_be_made(words: str) -> Trouble:
    """A quota's own words are told alone: before them stands a pod's name, which is another each time."""
    if quota := _QUOTA.search(words):
        hint = "; state them in `hardware.resources`" if _UNSTATED.search(quota.group()) else ""
        return Trouble(Reason.QUOTA_EXCEEDED, f"Pods cannot be created: {quota.group()}{hint}")
    return Trouble(Reason.POD_REFUSED, f"Pods cannot be created: {words}")


def newest(pods: Iterable[Pod]) -> list[Pod]:
    """Pods of the template that was rolled out last, by name; those that end are over.

    So are those that failed for good, an evicted one for instance, once another stands in their place.
    """
    there = [pod for pod in pods if not pod.ending]
    there = [pod for pod in there if not pod.failure] or there
    # Times are whole seconds: of pods made in the same one, that which has come less far is the newer.
    living = sorted(there, key=lambda pod: (pod.created, not pod.ready, not pod.scheduled, pod.name))
    return sorted((pod for pod in living if pod.template == living[-1].template), key=lambda pod: pod.name)


def _pod_trouble(pod: Pod, resource: str | None, startup: Startup) -> Trouble | None:
    if pod.unschedulable is not None and not pod.scheduled:
        text = f"The scheduler finds no node: {pod.unschedulable}"
        return Trouble(unschedulable_reason(pod.unschedulable, resource), text)
    if pod.gates and not pod.scheduled:
        gates = ", ".join(sorted(pod.gates))
        return Trouble(Reason.QUEUED, f"The pod waits to be admitted; what holds it: {gates}")
    if pod.failure:
        return Trouble(Reason.CRASH_LOOP, "The pod was ended", masked(pod.failure))
    troubles = [_container_trouble(one, startup) for one in pod.containers if not one.ready]
    return next((trouble for trouble in troubles if trouble), None)


def _container_trouble(container: Container, startup: Startup) -> Trouble | None:
    name = container.name
    if container.waiting_reason in _PULL:
        return Trouble(
            Reason.IMAGE_PULL,
            f"The image of container {name} cannot be pulled",
            masked(container.waiting_message or container.waiting_reason),
        )
    if trouble := _config_trouble(container):
        return trouble
    if container.exit_code is None:
        return None
    if container.exit_reason == "OOMKilled":
        return Trouble(Reason.OOM_KILLED, f"Container {name} used more memory than its limit")
    return _end_trouble(container, container.exit_code, startup)


def _end_trouble(container: Container, code: int, startup: Startup) -> Trouble:
    name, words, signal = container.name, last_words(container.exit_message), _SIGNALS.get(code)
    if _ran_out_of_time(container, startup):
        text = f"Container {name} was not ready within {startup.seconds} s of its start and is started again"
        return Trouble(Reason.START_TIMEOUT, text, words)
    ended = f"ended with exit code {code}{f' (killed by {signal})' if signal else ''}"
    if _was_well(container):
        text = f"Container {name} was ready, {ended} and is started again"
        return Trouble(Reason.ENDPOINT_LOST, text, words)
    return Trouble(Reason.CRASH_LOOP, f"Container {name} {ended}", words)


def _config_trouble(container: Container) -> Trouble | None:
    """The kubelet's own messages hold names and no values, and are told as they are."""
    name, words = container.name, masked(container.waiting_message or container.waiting_reason)
    if container.waiting_reason in _NOT_MADE:
        reason = Reason.SECRET_NOT_FOUND if _NO_SECRET.search(words) else Reason.CONFIG_ERROR
        return Trouble(reason, f"Container {name} cannot be made", words)
    if container.waiting_reason in _NOT_RUN:
        return Trouble(Reason.CONFIG_ERROR, f"Container {name} cannot be run", words)
    if container.exit_reason in _NEVER_RAN:
        words = last_words(container.exit_message) or container.exit_reason
        return Trouble(Reason.CONFIG_ERROR, f"Container {name} cannot be run", words)
    return None


def _ran_out_of_time(container: Container, startup: Startup) -> bool:
    """The kubelet ends a container at the deadline of its start, and leaves no other trace than the time.

    So what had been ready, or ended much later, or by itself, had started.
    """
    over, code = container.ran_seconds - startup.seconds, container.exit_code
    on_time = 0 <= over <= _ENDING_SECONDS and code in _ENDED_BY_KUBELET
    early = -startup.period <= over < 0 and code in _BY_SIGNAL
    return not container.started and not container.was_ready and (on_time or early)


def _was_well(container: Container) -> bool:
    """It served, and this is no loop."""
    return container.was_ready and (container.restarts <= 1 or container.ran_seconds >= _WELL_SECONDS)


def short_of(message: str) -> frozenset[str]:
    """What of all nodes' CPU, memory and storage is not enough, in the scheduler's words."""
    return frozenset(_INSUFFICIENT.findall(message))


def unschedulable_reason(message: str, resource: str | None) -> Reason:
    """The scheduler counts nodes by obstacle; the one that a person can act on best is told."""
    if (resource and f"Insufficient {resource}" in message) or "cannot allocate all claims" in message:
        return Reason.INSUFFICIENT_GPU
    if short_of(message):
        return Reason.INSUFFICIENT_RESOURCES
    if re.search(r"didn't match Pod's node affinity|untolerated taint|didn't match node selector", message):
        return Reason.NO_MATCHING_NODE
    return Reason.UNSCHEDULABLE
