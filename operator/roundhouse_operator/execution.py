"""Carries a plan out: what the API server answers to it becomes an `Outcome` for the status to tell."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.fields import by_hand
from roundhouse_operator.core.kinds import ENGINE, Key
from roundhouse_operator.core.outcome import Cause, Conflict, Outcome, Refusal
from roundhouse_operator.core.plan import Apply, Plan, Removal
from roundhouse_operator.errors import ConflictError, NotFoundError, OwnerGoneError, RefusedError

logger = logging.getLogger(__name__)

FIELD_CONFLICT: Final = "FieldManagerConflict"
"""The API server's reason for a field that another manager holds."""
MANAGER_LENGTH: Final = 64
"""As much of a field manager's name as tells whose it is."""


@dataclass(frozen=True, slots=True)
class Execution:
    """`touch` takes the keys that a write concerns."""

    cluster: Cluster
    cache: Cache
    touch: Callable[[Touched], None]

    async def carry_out(self, plan: Plan, key: Key, *, again: bool = False) -> Outcome:
        """Stops at the first child that is refused: those after it would not work without it.

        `again`: what this pass wrote is looked at by another one.
        """
        if any(apply.new for apply in plan.applies):
            await self._see_alive(key)
        for removal in plan.removals:
            await self._take_back(removal, key)
        for apply in plan.applies:
            before = self.cache.version(Key(apply.kind, key.namespace, apply.manifest["metadata"]["name"]))
            try:
                answer = await self._apply(apply)
            except ConflictError as error:
                return _conflicted(apply, error, plan)
            except RefusedError as error:
                return Outcome(plan.conflicts, Refusal(_child(apply), error.status, error.message))
            touched = self.cache.upsert(apply.kind, answer)
            if int(answer["metadata"]["resourceVersion"]) == before:
                # Admission makes something else of it each time: nobody is to wait for that.
                self.touch(self.cache.note_vain(apply.kind, apply.manifest))
                continue
            if not again:
                touched.now.discard(key)
            self.touch(touched)
            logger.info("Applied %s for %s", _child(apply), key, extra={"reason": "Applied"})
        for delete in plan.deletes:
            await self.cluster.delete(delete.kind, delete.namespace, delete.name, delete.uid)
            logger.info(
                "Deleted %s %s, which %s no longer wants",
                delete.kind,
                delete.name,
                key,
                extra={"reason": "Deleted"},
            )
        return Outcome(plan.conflicts)

    async def _see_alive(self, key: Key) -> None:
        """Before a child is made for a resource that had a pass before; raises OwnerGoneError.

        Of a resource and its children that are deleted together, the news of a child may come first: a pod
        would be started, and given a GPU, that Kubernetes takes away again.
        """
        owner = self.cache.resource(key)
        if owner is None or not owner.status:
            return
        try:
            there = await self.cluster.get(key.kind, key.namespace, key.name)
        except NotFoundError as error:
            self.touch(self.cache.forget(key))
            raise OwnerGoneError(f"{key} is deleted") from error
        metadata = there["metadata"]
        if metadata["uid"] != owner.uid or "deletionTimestamp" in metadata:
            self.touch(self.cache.upsert(key.kind, there))
            raise OwnerGoneError(f"{key} is being deleted, or was made anew")

    async def _apply(self, apply: Apply) -> Manifest:
        """What a person took out of our sight, by a label, is still ours if it says so, and is taken back."""
        try:
            return await self.cluster.apply(apply.kind, apply.manifest, force=apply.force)
        except ConflictError as error:
            managers = [_manager(cause) for cause in error.causes if cause.reason == FIELD_CONFLICT]
            if not (apply.new and managers) or not all(by_hand(one) for one in managers):
                raise
            metadata = apply.manifest["metadata"]
            there = await self.cluster.get(apply.kind, metadata["namespace"], metadata["name"])
            if _controller(there) != _controller(apply.manifest):
                raise
        return await self.cluster.apply(apply.kind, apply.manifest, force=True)

    async def _take_back(self, removal: Removal, key: Key) -> None:
        """Refused where somebody was quicker, of which a watch tells; all else can be done without it."""
        try:
            answer = await self.cluster.remove(removal.kind, removal.namespace, removal.name, removal.patch)
        except RefusedError as error:
            logger.warning("What was added to %s %s stays: %s", removal.kind, removal.name, error)
            return
        self.cache.upsert(removal.kind, answer)
        logger.info("Took back what was added to %s %s by hand, for %s", removal.kind, removal.name, key)


def _conflicted(apply: Apply, error: ConflictError, plan: Plan) -> Outcome:
    """Somebody else took a field since we looked, or has an object of that name from before."""
    conflicts = tuple(
        Conflict(_child(apply), cause.field, _manager(cause))
        for cause in error.causes
        if cause.reason == FIELD_CONFLICT
    )
    if apply.new and conflicts:
        return Outcome(plan.conflicts, _foreign(apply, error.status, conflicts[0].manager))
    return Outcome((*plan.conflicts, *conflicts), Refusal(_child(apply), error.status, error.message))


def _foreign(apply: Apply, status: int, manager: str) -> Refusal:
    """An object that was there before us, under the name that the child must have."""
    metadata, whose = apply.manifest["metadata"], manager[:MANAGER_LENGTH]
    owner = "engine" if metadata["ownerReferences"][0]["kind"] == ENGINE.name else "variant"
    message = (
        f"{apply.kind} {metadata['name']!r} exists and belongs to somebody else (manager {whose!r}): "
        f"rename the {owner}"
    )
    return Refusal(_child(apply), status, message, foreign=True)


def _controller(manifest: Manifest) -> str:
    owners = manifest["metadata"].get("ownerReferences") or ()
    return next((str(one["uid"]) for one in owners if one.get("controller")), "")


def _manager(cause: Cause) -> str:
    """As in `conflict with "helm" using apps/v1`."""
    return cause.message.split('"')[1] if '"' in cause.message else cause.message


def _child(apply: Apply) -> str:
    return f"{apply.kind} {apply.manifest['metadata']['name']}"
