"""Whether a variant's weights are where its pods can read them, and what is to be written to get them there.

Weights on a claim are fetched by a Job before pods are changed; all others come with the pod. The Job and
its claim are in `fetch`; this module knows every way, and what they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roundhouse_api import names
from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import DownloadPolicy, ModelVariantSpec, SourceType, WeightsProgress
from roundhouse_operator.core.desired.cache import build_record
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.diagnose import Trouble, newest
from roundhouse_operator.core.kinds import CONFIG_MAP
from roundhouse_operator.core.masking import last_words, masked
from roundhouse_operator.core.observed import Pod, Store, World
from roundhouse_operator.core.plan import NOTHING, Apply, Plan
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind
from roundhouse_operator.core.weights.delivery import Delivery, Way
from roundhouse_operator.core.weights.key import credential, movable
from roundhouse_operator.core.weights.state import Progress, Record, Report

LOOK_AGAIN_SECONDS: Final = 30
"""For what nobody watches: Secrets, StorageClasses, claims of others."""
_REPORTED: Final = {
    "InvalidSource": Reason.INVALID_SPEC,
    **{
        one.value: one
        for one in (
            Reason.UNAUTHORIZED,
            Reason.SOURCE_NOT_FOUND,
            Reason.SOURCE_UNREACHABLE,
            Reason.OUT_OF_SPACE,
            Reason.DIGEST_MISMATCH,
            Reason.WEIGHTS_MISSING,
            Reason.UNSAFE_FORMAT,
        )
    },
}


@dataclass(frozen=True, slots=True)
class Weights:
    """What is to be told of them. `ready`: pods may be changed; `there`: nothing has to come any more."""

    there: bool
    ready: bool
    reason: Reason
    message: str
    failing: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Supply:
    """`shown` is `status.weights`. `asks` are what has to be looked up for a sound answer."""

    weights: Weights
    shown: Manifest | None = None
    plan: Plan = NOTHING
    asks: frozenset[Ask] = frozenset()
    revisit_seconds: int | None = None
    unmarked: Trouble | None = None
    """Why weights that are there will not be swept, or must not be."""


def there(reason: Reason, message: str) -> Weights:
    return Weights(there=True, ready=True, reason=reason, message=message)


def coming(message: str) -> Weights:
    return Weights(there=False, ready=False, reason=Reason.DOWNLOADING, message=message)


def missing(trouble: Trouble) -> Weights:
    return Weights(False, False, trouble.reason, trouble.message, failing=True, detail=trouble.detail)


def without_engine(variant: ModelVariantSpec) -> Weights | None:
    """What can be said before there is an engine; None where its cache decides."""
    source = variant.source
    if source.type is SourceType.BUILTIN:
        return there(Reason.BUILTIN, "The engine's image carries the model")
    if source.pvc:
        return there(Reason.DOWNLOADED, f"PersistentVolumeClaim {source.pvc.claim_name!r} holds them")
    if variant.download_policy is DownloadPolicy.SKIP:
        return there(Reason.DOWNLOAD_SKIPPED, "The engine fetches the weights itself")
    return None


def supply_with_pod(world: World, intent: Intent) -> Supply:
    """Every way but that over a cache, which `fetch` knows."""
    delivery = intent.delivery
    if delivery.way is Way.CLAIM:
        return _from_claim(world, intent)
    if delivery.way is Way.NONE:
        known = without_engine(intent.variant)
        return Supply(known or there(Reason.DOWNLOAD_SKIPPED, "The engine fetches the weights itself"))
    asks, trouble = credential_trouble(delivery, world)
    if trouble is None and delivery.way is Way.START and delivery.policy is DownloadPolicy.NEVER:
        trouble = Trouble(
            Reason.WEIGHTS_MISSING,
            "`downloadPolicy: Never`, and the engine keeps no weights: set its `cache` to PVC or Node, or "
            "take `source.type: PVC`",
        )
    if trouble:
        return Supply(missing(trouble), _key_only(delivery), asks=asks, revisit_seconds=LOOK_AGAIN_SECONDS)
    if delivery.way is Way.IMAGE:
        told = there(Reason.IMAGE_VOLUME, "The nodes mount the image that holds them")
        return Supply(told, _key_only(delivery), asks=asks)
    return _at_start(world, intent, asks)


def credential_trouble(delivery: Delivery, world: World) -> tuple[frozenset[Ask], Trouble | None]:
    """Whether the Secret is there and meant for weights; its data is the kubelet's business alone."""
    secret = credential(delivery.source)
    if secret is None:
        return frozenset(), None
    ask = Ask(AskedKind.SECRET, secret.secret)
    answer = world.answers.get(ask)
    if answer is None or (answer.found and answer.labels.get(names.LABEL_CREDENTIAL) == "weights"):
        return frozenset({ask}), None
    return frozenset({ask}), _credential_missing(secret.secret, answer)


def failed(delivery: Delivery, report: Report) -> Trouble:
    reason = _REPORTED.get(report.reason, Reason.LOADER_FAILED)
    secret = credential(delivery.source)
    asked_with = f" (asked with {secret.words})" if secret and reason is Reason.UNAUTHORIZED else ""
    return Trouble(reason, f"{masked(report.message or report.reason)}{asked_with}")


def unreachable(progress: Progress | None) -> Trouble | None:
    """What keeps a loader that runs from fetching; it tries on by itself until its patience is at an end."""
    if progress is None or not progress.error:
        return None
    text = "The source does not give them, and the loader goes on trying"
    return Trouble(Reason.SOURCE_UNREACHABLE, text, last_words(progress.error))


def progressed(delivery: Delivery, world: World, progress: Progress | None) -> Manifest:
    """While a loader runs; what was shown before, where it says nothing."""
    if progress is None:
        before: Manifest = world.variant.status.get("weights") or {}
        return before if before.get("key") == delivery.key else _key_only(delivery)
    return _status(
        WeightsProgress(
            key=delivery.key,
            total_bytes=progress.total_bytes,
            done_bytes=progress.done_bytes,
            bytes_per_second=progress.bytes_per_second,
            remaining_seconds=progress.remaining_seconds,
        )
    )


def arrived(delivery: Delivery, known: Record | Report) -> Manifest:
    sized = known.total_bytes >= 0
    return _status(
        WeightsProgress(
            key=delivery.key,
            revision=known.revision or None,
            total_bytes=known.total_bytes if sized else None,
            done_bytes=known.total_bytes if sized else None,
        )
    )


def _from_claim(world: World, intent: Intent) -> Supply:
    told = without_engine(intent.variant)
    name = intent.variant.source.pvc.claim_name if intent.variant.source.pvc else ""
    ask = Ask(AskedKind.CLAIM, name)
    if world.answers.get(ask, Answer(found=True)).found and told:
        return Supply(told, asks=frozenset({ask}))
    trouble = Trouble(Reason.WEIGHTS_MISSING, f"PersistentVolumeClaim {name!r} does not exist")
    return Supply(missing(trouble), asks=frozenset({ask}), revisit_seconds=LOOK_AGAIN_SECONDS)


def _at_start(world: World, intent: Intent, asks: frozenset[Ask]) -> Supply:
    """Pods may always be changed: it is they that fetch. What is told is how far the newest are."""
    delivery = intent.delivery
    store = world.stores.get(delivery.store) or Store()
    pods = [pod for pod in newest(world.pods) if pod.loader]
    report = next((one.loader.report for one in pods if _has_loaded(one) and one.loader), None)
    known = store.record if store.record and store.record.revision else report
    plan = NOTHING
    if report and report.revision and known is report and movable(delivery.source):
        record = build_record(intent, report)
        plan = Plan(applies=(Apply(CONFIG_MAP, record, force=False),))
    weights, shown = _pods_say(pods, world, delivery, known)
    return Supply(weights, shown, plan, asks)


def _pods_say(
    pods: list[Pod], world: World, delivery: Delivery, known: Record | Report | None
) -> tuple[Weights, Manifest]:
    at_rest = arrived(delivery, known) if known else _key_only(delivery)
    if any(_has_loaded(pod) for pod in pods):
        return there(Reason.DOWNLOADED, "The pods have fetched them"), at_rest
    for pod in pods:
        if report := _last_word(pod, world.progress.get(pod.name)):
            trouble = failed(delivery, report)
            told = Weights(False, True, trouble.reason, trouble.message, failing=True)
            return told, progressed(delivery, world, None)
    if running := next((pod for pod in pods if pod.loader and pod.loader.running), None):
        said = world.progress.get(running.name)
        verb = "looks for" if delivery.policy is DownloadPolicy.NEVER else "fetches"
        told = Weights(False, True, Reason.DOWNLOADING, f"A pod {verb} them before its engine starts")
        if stuck := unreachable(said):
            told = Weights(False, True, stuck.reason, stuck.message, failing=True, detail=stuck.detail)
        return told, progressed(delivery, world, said)
    where = "finds them on its node, or fetches them," if delivery.way is Way.NODE else "fetches them"
    note = f"; {delivery.note}, so the loader unpacks the image" if delivery.note else ""
    return there(Reason.FETCHED_AT_START, f"Each pod {where} before its engine starts{note}"), at_rest


def _last_word(pod: Pod, said: Progress | None) -> Report | None:
    """Of its loader; what that failed of the last time stands until something comes."""
    loader = pod.loader
    if loader is None or loader.report or not loader.before or loader.before.complete:
        return loader.report if loader else None
    return None if said and (said.done_bytes > 0 or said.error) else loader.before


def _has_loaded(pod: Pod) -> bool:
    loader = pod.loader
    return pod.ready or (loader is not None and not loader.running and loader.exit_code == 0)


def _credential_missing(name: str, answer: Answer) -> Trouble:
    if answer.refused:
        return Trouble(Reason.SECRET_UNREADABLE, f"Secret {name!r} may not be looked at: {answer.refused}")
    if not answer.found:
        return Trouble(Reason.SECRET_NOT_FOUND, f"Secret {name!r} does not exist")
    return Trouble(
        Reason.SECRET_NOT_LABELLED,
        f"Secret {name!r} may not be used: it lacks the label {names.LABEL_CREDENTIAL}=weights",
    )


def _key_only(delivery: Delivery) -> Manifest:
    return _status(WeightsProgress(key=delivery.key))


def _status(progress: WeightsProgress) -> Manifest:
    return progress.model_dump(by_alias=True, exclude_none=True, mode="json")
