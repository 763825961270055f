"""From the manifest of a pod to what the core looks at: where it is and how far it has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from sys import intern
from typing import Final

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.core.observed import Container, Pod, Share
from roundhouse_operator.core.weights.loader import LOADER_CONTAINER
from roundhouse_operator.core.weights.state import Loader
from roundhouse_operator.project_weights import job_of, project_loader, whole

_NEVER: Final = datetime.fromtimestamp(0, UTC)


def project_pod(manifest: Manifest) -> Pod:
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    scheduled, gate = conditions.get("PodScheduled", {}), conditions.get(names.READINESS_GATE_VERIFIED, {})
    failed = status.get("phase") == "Failed"
    loader = project_loader(manifest)
    return Pod(
        name=metadata["name"],
        created=metadata["creationTimestamp"],
        template=(metadata.get("labels") or {}).get("pod-template-hash", ""),
        ready=conditions.get("Ready", {}).get("status") == "True",
        scheduled=bool(manifest["spec"].get("nodeName")),
        scheduled_at=_epoch(scheduled) if scheduled.get("status") == "True" else 0,
        ending="deletionTimestamp" in metadata,
        ends_at=_ends_at(metadata),
        unschedulable=scheduled.get("message") if scheduled.get("reason") == "Unschedulable" else None,
        gates=tuple(one["name"] for one in manifest["spec"].get("schedulingGates") or ()),
        failure=(": ".join(filter(None, (status.get("reason"), status.get("message")))) or "Failed")
        if failed
        else None,
        node=manifest["spec"].get("nodeName", ""),
        devices=_devices(manifest["spec"]),
        containers=tuple(_containers(status, loader, conditions.get("ContainersReady", {}))),
        loader=loader,
        job=job_of(manifest),
        store=(metadata.get("annotations") or {}).get(names.ANNOTATION_WEIGHTS, ""),
        claims=_claims(manifest["spec"]),
        ip=status.get("podIP", ""),
        containers_ready=conditions.get("ContainersReady", {}).get("status") == "True",
        mark=(metadata.get("annotations") or {}).get(names.ANNOTATION_TEMPLATE, ""),
        gate=gate.get("status") == "True",
        gate_message=gate.get("message", ""),
        address=_address(manifest),
        share=_share(metadata, conditions),
    )


def _ends_at(metadata: Manifest) -> int:
    """The API server adds the time that its containers have to end."""
    try:
        return int(datetime.fromisoformat(metadata.get("deletionTimestamp", "")).timestamp())
    except ValueError:
        return 0


def _devices(spec: Manifest) -> tuple[tuple[str, int], ...]:
    """Devices are requested as limits, and by the containers that stay."""
    wanted: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        limits = (container.get("resources") or {}).get("limits") or {}
        wanted.update(
            {name: int(count) for name, count in limits.items() if "/" in name and count.isdecimal()}
        )
    return tuple(sorted(wanted.items()))


def _claims(spec: Manifest) -> tuple[str, ...]:
    """Interned, because many pods mount the same one."""
    mounted = (one.get("persistentVolumeClaim") for one in spec.get("volumes") or ())
    return tuple(sorted({intern(one["claimName"]) for one in mounted if one}))


def _address(manifest: Manifest) -> str:
    """Of the port named `http`, which every engine's container has."""
    ip = (manifest.get("status") or {}).get("podIP")
    ports = (port for one in manifest["spec"].get("containers") or () for port in one.get("ports") or ())
    number = next((port["containerPort"] for port in ports if port.get("name") == "http"), None)
    if not ip or number is None:
        return ""
    return f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}"


def _share(metadata: Manifest, conditions: Mapping[str, Manifest]) -> Share | None:
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    replica = labels.get(names.LABEL_REPLICA, "")
    if not replica.isdecimal():
        return None
    told = annotations.get(names.ANNOTATION_MODELS_GENERATION, "")
    return Share(
        replica=int(replica),
        serves=frozenset(
            label.removeprefix(names.LABEL_SERVES) for label in labels if label.startswith(names.LABEL_SERVES)
        ),
        generation=whole(told, 0),
        uid=metadata["uid"],
        loaded=conditions.get(names.READINESS_GATE_LOADED, {}).get("status") == "True",
    )


def _containers(status: Manifest, loader: Loader | None, condition: Manifest) -> Iterator[Container]:
    """Without a loader that told why it ended: that is the weights' matter. `condition`: of all of them."""
    for one in status.get("initContainerStatuses", ()):
        told = loader is not None and loader.report is not None and one["name"] == LOADER_CONTAINER
        if not told and not _done(one):
            yield _container(one, condition)
    yield from (_container(one, condition) for one in status.get("containerStatuses", ()))


def _done(init: Manifest) -> bool:
    """An init container that has done its work is no trouble, though it is not ready."""
    return bool((init.get("state") or {}).get("terminated", {}).get("exitCode") == 0)


def _container(status: Manifest, condition: Manifest) -> Container:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    return Container(
        name=status["name"],
        ready=bool(status.get("ready")),
        started=bool(status.get("started")),
        restarts=status.get("restartCount", 0),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason", ""),
        exit_message=ended.get("message", ""),
        ran_seconds=_seconds(ended.get("startedAt"), ended.get("finishedAt")),
        was_ready=_was_ready(ended.get("startedAt"), condition),
    )


def _was_ready(start: str | None, condition: Manifest) -> bool:
    """Whether the containers were ready after that start: only so can they have become unready after it."""
    at = condition.get("lastTransitionTime")
    return condition.get("status") == "False" and _seconds(start, at) > 0


def _seconds(start: str | None, end: str | None) -> int:
    """Between two times; a container that never ran is told to have begun at the beginning of all times."""
    if not start or not end:
        return 0
    began = datetime.fromisoformat(start)
    return int((datetime.fromisoformat(end) - began).total_seconds()) if began > _NEVER else 0


def _epoch(condition: Manifest) -> int:
    at = condition.get("lastTransitionTime")
    return int(datetime.fromisoformat(at).timestamp()) if at else 0
