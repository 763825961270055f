"""Reasons: why a condition has its status, in one word that dashboards, alerts and the gateway rely on.

They are only added to. Each has its meaning and what to do about it; docs/reference/conditions.md is
made from them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """The cause of a condition's status, with its meaning and what to do about it."""

    meaning: str
    advice: str

    def __new__(cls, value: str, meaning: str = "", advice: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.advice = advice
        return member

    # Well, or on the way.
    PENDING = (
        "Pending",
        "The operator has not looked at this yet.",
        "Wait; if it stays, see whether the operator runs, and serves the namespace (`operator.namespaces`).",
    )
    SERVING = ("Serving", "At least one endpoint answers requests.", "Nothing.")
    IDLE = ("Idle", "Scaled to zero under `mode: Demand`; a request wakes it.", "Nothing.")
    SCALED_TO_ZERO = (
        "ScaledToZero",
        "`spec.replicas` is 0 and scaling is Manual.",
        "Set `spec.replicas`, or `scaling.mode: Demand` to let requests wake it.",
    )
    SUSPENDED = ("Suspended", "`spec.suspend` is true.", "Set `spec.suspend: false`.")
    VALID = ("Valid", "The spec is accepted.", "Nothing.")
    SELECTED = ("Selected", "An engine was found.", "Nothing.")
    FEASIBLE = ("Feasible", "No pod is wanted now, and one would have a node.", "Nothing.")
    SCHEDULED = ("Scheduled", "The pods have nodes.", "Nothing.")
    UPSTREAM = (
        "Upstream",
        "The engine lives elsewhere: there is nothing to schedule or to load here.",
        "Nothing.",
    )
    BUILTIN = ("Builtin", "The engine's image carries the model.", "Nothing.")
    DOWNLOADED = ("Downloaded", "The weights are in the cache.", "Nothing.")
    DOWNLOAD_SKIPPED = (
        "DownloadSkipped",
        "`downloadPolicy: Skip`: the engine fetches the weights itself.",
        "Nothing.",
    )
    FETCHED_AT_START = (
        "FetchedAtStart",
        "Each pod fetches the weights, or finds them on its node, before its engine starts.",
        "Nothing. `cache.type: PVC` on the Engine fetches them once, before the first pod.",
    )
    IMAGE_VOLUME = (
        "ImageVolume",
        "Kubelet and container runtime mount the image that holds the weights.",
        "Nothing.",
    )
    DOWNLOADING = (
        "Downloading",
        "The weights are being fetched, or it is looked whether they are there.",
        "Wait; `status.weights` shows how far it is. A source that fails is `SourceUnreachable`.",
    )
    STARTING = (
        "Starting",
        "Pods have been made and do not answer yet.",
        "Wait; a model may load for minutes.",
    )
    ROLLED_OUT = ("RolledOut", "All pods are of the newest template.", "Nothing.")
    ROLLING_OUT = ("RollingOut", "Pods are being replaced.", "Wait; old pods serve until new ones are ready.")
    WAITING_FOR_TURN = (
        "WaitingForTurn",
        "The Engine was changed, and other variants of it are changed first.",
        "Wait; `spec.rollout.maxConcurrent` lets more of them change at once.",
    )
    ROLLOUT_PAUSED = (
        "RolloutPaused",
        "A change of the Engine went wrong on a variant, or on a shared pod, and goes no further.",
        "Mend the Engine, or the variant or pod that the message names; the rest then follows by itself.",
    )
    VERIFIED = ("Verified", "All tests passed.", "Nothing.")
    VERIFYING = ("Verifying", "Tests are being run.", "Wait.")
    NOT_REQUESTED = (
        "NotRequested",
        "The variant has no tests.",
        "Add `spec.verification`, if you want them.",
    )
    HARDWARE_FOUND = ("HardwareFound", "Some node meets the needs.", "Nothing.")
    LOADED = ("Loaded", "A pod has the adapter loaded.", "Nothing.")
    COMPATIBLE = ("Compatible", "A variant fits the adapter.", "Nothing.")

    # Accepted: the spec and the names.
    INVALID_SPEC = (
        "InvalidSpec",
        "The spec contradicts itself, or Kubernetes refuses what follows from it.",
        "Mend the field that the message names.",
    )
    UNSUPPORTED_VALUE = (
        "UnsupportedValue",
        "A value that this version of the operator does not know.",
        "Update Roundhouse, or use one of the values that the message lists.",
    )
    FORMAT_NOT_LOADED = (
        "FormatNotLoaded",
        "The Engine does not name the format of the weights among those that it loads.",
        "Take another Engine or other weights, or mend `formats` of the Engine.",
    )
    NOT_YET_SUPPORTED = (
        "NotYetSupported",
        "A field that this version accepts and does not honour.",
        "Remove the field that the message names, or update Roundhouse.",
    )
    INVALID_POD_TEMPLATE = (
        "InvalidPodTemplate",
        "`workload.podTemplate` is not a pod template, or sets what a field of the resource sets.",
        "Use the field that the message names instead.",
    )
    NOT_SHAREABLE = (
        "NotShareable",
        "The variant overrides something that cannot differ between variants in one pod.",
        "Remove the field that the message names, or use an Engine with serving type Dedicated.",
    )
    NAME_CONFLICT = (
        "NameConflict",
        "Another resource of the namespace has the public name, or another object the name of a child.",
        "Choose another `servedName` or alias, or rename the resource; the message names the owner.",
    )
    FORBIDDEN_ADDRESS = (
        "ForbiddenAddress",
        "`upstream.baseURL` is the API server, or a loopback, link-local, multicast or unspecified address.",
        "Use the service's own address.",
    )

    # EngineSelected.
    ENGINE_NOT_FOUND = (
        "EngineNotFound",
        "The Engine that `engineRef` names does not exist; pods that run go on serving.",
        "Apply the Engine, or mend `engineRef.name`. `kubectl get eng` lists them.",
    )
    NO_MATCHING_ENGINE = (
        "NoMatchingEngine",
        "No Engine meets `engineSelector`.",
        "`status.selection.candidates` says why each was rejected.",
    )
    ENGINE_NOT_ACCEPTED = (
        "EngineNotAccepted",
        "The Engine itself is not accepted.",
        "Look at the Engine's own conditions: `kubectl describe eng`.",
    )

    # WeightsReady.
    WEIGHTS_MISSING = (
        "WeightsMissing",
        "`downloadPolicy: Never`, and the weights are not in the cache.",
        "Put them there, or set `downloadPolicy: Auto`.",
    )
    SOURCE_NOT_FOUND = (
        "SourceNotFound",
        "The source has no such repository, revision, bucket or file.",
        "Mend `spec.source`; of Hugging Face, a commit is named by all of its 40 digits.",
    )
    SOURCE_UNREACHABLE = (
        "SourceUnreachable",
        "The source does not answer, or fails again and again.",
        "Check the address, network and proxy; the download goes on by itself.",
    )
    UNAUTHORIZED = (
        "Unauthorized",
        "The source, the registry or the upstream refuses the credentials.",
        "Check the Secret; for a gated model, accept its terms with the token's account.",
    )
    DIGEST_MISMATCH = (
        "DigestMismatch",
        "What was fetched is not what the digest says.",
        "Check `sha256`, and whether the file was replaced.",
    )
    OUT_OF_SPACE = ("OutOfSpace", "The cache is full.", "Enlarge the cache, or remove weights nobody uses.")
    UNSAFE_FORMAT = (
        "UnsafeFormat",
        "The source holds pickled weights, which can run code when they are loaded.",
        "Use a source with safetensors, or `source.allow: [UnsafeFormats]` if you trust it.",
    )
    LOADER_FAILED = (
        "LoaderFailed",
        "The loader ended without saying why, or did not end in time; it is started again.",
        "Read the message and the log of its pod: `kubectl logs -l roundhouse.dev/weights=<key>`.",
    )
    STORAGE_CLASS_NOT_FOUND = (
        "StorageClassNotFound",
        "The StorageClass of the claim for the weights does not exist, or there is no default one.",
        "Create it, or set `cache.pvc.storageClassName`; `kubectl get storageclass` lists them.",
    )
    VOLUME_PENDING = (
        "VolumePending",
        "The claim for the weights has no volume, or a volume that is in use on another node.",
        "`kubectl describe pvc`; pods on several nodes need `ReadWriteMany`, or a cache of type Node.",
    )
    CACHE_NOT_SWEPT = (
        "CacheNotSwept",
        "Unwanted weights stay: a Job fails, the claim may not be annotated, or some wants are unknown.",
        "Read the message; it is tried again by itself. The operator needs `patch` of claims.",
    )
    CACHE_REFUSED = (
        "CacheRefused",
        "The API server refuses the claim, the Job or its pod, that the weights need.",
        "Read the message; it is the refusal itself, or names the Job to describe.",
    )
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        "A Secret or a key in it that the spec names does not exist.",
        "Create it in the namespace of the resource.",
    )
    CONFIG_MAP_NOT_FOUND = (
        "ConfigMapNotFound",
        "The ConfigMap of certificates that `upstream.caConfigMapRef` names does not exist.",
        "Create it in the namespace of the Engine.",
    )
    SECRET_UNREADABLE = (
        "SecretUnreadable",
        "The API server does not let the operator look at a Secret that the spec names.",
        "Read the message; it is the refusal itself. The operator needs `get` of Secrets in the namespace.",
    )
    SECRET_NOT_LABELLED = (
        "SecretNotLabelled",
        "The Secret lacks the label roundhouse.dev/credential, so it may not be used.",
        "Label it `weights` or `upstream`, if it is meant for that.",
    )

    # Scheduled and HardwareAvailable.
    INSUFFICIENT_VRAM = (
        "InsufficientVRAM",
        "No GPU that the pod could get has as much memory as it needs.",
        "Lower `hardware.gpu.minMemory`, choose a smaller model, or add a larger GPU.",
    )
    INSUFFICIENT_GPU = (
        "InsufficientGPU",
        "GPUs that fit exist, and all are taken, or no node has as many as are asked for.",
        "Lower `gpu.count` if the message names the most of a node; else wait, or scale something down.",
    )
    UNKNOWN_VRAM = (
        "UnknownVRAM",
        "Nodes offer GPUs, and no label says how much memory they have.",
        "Install GPU feature discovery (AMD: the node labeller), or leave `hardware.gpu.minMemory` out.",
    )
    SHARED_GPU = (
        "SharedGPU",
        "The GPU is shared by time slicing (or by MPS, and several are asked for): no share is a pod's own.",
        "Use a whole GPU, MIG or MPS, or leave `hardware.gpu.minMemory` out to run on a time slice.",
    )
    MIXED_GPUS = (
        "MixedGPUs",
        "The node has cards of several kinds, and its labels tell of one of them.",
        "Leave `minMemory` and `products` out, or use `allocation.type: DRA`, which sees each card.",
    )
    NO_GPU = (
        "NoGPU",
        "No node offers a GPU of the kind that is asked for.",
        "Ask for a GPU that the message names; if none, see to device plugins, or set `hardware.gpu.mode`.",
    )
    INSUFFICIENT_RESOURCES = (
        "InsufficientResources",
        "No node has as much CPU, memory or storage free as the pod requests.",
        "Lower `hardware.resources.requests`, or add nodes.",
    )
    NO_MATCHING_NODE = (
        "NoMatchingNode",
        "No node meets node selector, affinity and tolerations.",
        "Mend what the message names: `nodeSelector`, `affinity`, `tolerations`, or the label of a node.",
    )
    UNSCHEDULABLE = (
        "Unschedulable",
        "The scheduler finds no node, for a cause that the message quotes.",
        "Read the message; it is the scheduler's own.",
    )
    DRA_UNAVAILABLE = (
        "DRAUnavailable",
        "The cluster does not serve resource.k8s.io/v1.",
        "Use another `allocation.type`, or turn dynamic resource allocation on.",
    )
    QUOTA_EXCEEDED = (
        "QuotaExceeded",
        "A ResourceQuota of the namespace does not allow for the pods, or wants limits that they lack.",
        "Scale down or raise the quota (`kubectl describe quota`), or state `hardware.resources.limits`.",
    )
    QUEUED = (
        "Queued",
        "The pods wait to be admitted: a queue, as Kueue's, holds their scheduling gate.",
        "Wait, or look at the queue: `kubectl describe workloads`.",
    )
    POD_REFUSED = (
        "PodRefused",
        "Pods cannot be created: a policy or an admission webhook refuses them.",
        "Read the message; it is the refusal itself.",
    )

    # Available.
    IMAGE_PULL = (
        "ImagePull",
        "The image cannot be pulled.",
        "Check `workload.image`, `imagePullSecrets` and that the node reaches the registry.",
    )
    CRASH_LOOP = (
        "CrashLoop",
        "The engine ends again and again.",
        "Read its log: `kubectl logs` with `--previous`.",
    )
    OOM_KILLED = (
        "OOMKilled",
        "The engine used more memory than its limit.",
        "Raise `hardware.resources.limits.memory`, or choose a smaller model.",
    )
    CONFIG_ERROR = (
        "ConfigError",
        "The container cannot be made: a Secret, ConfigMap, volume or command is missing.",
        "Read the message; it names what is missing.",
    )
    START_TIMEOUT = (
        "StartTimeout",
        "The engine did not get ready within `probes.startupTimeoutSeconds`.",
        "Read its log; raise the timeout if it is still loading.",
    )
    ENDPOINT_LOST = (
        "EndpointLost",
        "It was serving, and no endpoint is ready any more.",
        "Look at pods and nodes: `kubectl describe pod`.",
    )

    NO_ENDPOINTS = (
        "NoEndpoints",
        "Pods are ready, and their Service leads to none of them: no request reaches them.",
        "See who holds the Service: `OwnershipConflict` or `UpToDate` says it; `kubectl describe service`.",
    )
    LOAD_FAILED = (
        "LoadFailed",
        "The engine's pod runs and cannot load this model; it tries again, ever later.",
        "Read the message, it is the engine's own; check `source` and `engineModelName`.",
    )
    NOT_ACTIVE = (
        "NotActive",
        "The engine has one active variant at a time, and this is another.",
        "Set the engine's `serving.exclusive.activeVariantName` to this variant.",
    )
    NOTHING_TO_SERVE = (
        "NothingToServe",
        "No variant is to be loaded by the engine.",
        "Apply a ModelVariant for it; of an Exclusive engine, name the active one.",
    )

    # Verified.
    VERIFICATION_FAILED = (
        "VerificationFailed",
        "A test gave another answer than it should.",
        "`status.verification.tests` shows what came back.",
    )

    TEST_INPUT_NOT_FOUND = (
        "TestInputNotFound",
        "A ConfigMap, or a key in it, that a test reads does not exist or may not be read.",
        "Create it in the namespace of the variant; it is looked for again by itself.",
    )
    TEST_UNANSWERED = (
        "TestUnanswered",
        "The engine gave no answer to a test in time; it is asked again.",
        "Read the engine's log, and see whether a network policy keeps the operator from the pod.",
    )
    FEATURE_UNPROVEN = (
        "FeatureUnproven",
        "A live probe did not show a feature that the engine claims.",
        "Take it out of `capabilities`, or add a test with a recording that shows it.",
    )

    # Degraded and OwnershipConflict.
    ENGINE_CHANGED = (
        "EngineChanged",
        "The Engine was replaced by another of the same name.",
        "If it is as it should be, annotate the variant with roundhouse.dev/restartedAt: it rolls out.",
    )
    ALIAS_CONFLICT = (
        "AliasConflict",
        "An alternate name or alias belongs to another resource; the public id is served.",
        "Remove it here or there; the message names the owner.",
    )
    FALLBACK_CYCLE = (
        "FallbackCycle",
        "Fallbacks lead back to this variant.",
        "Break the chain that the message names.",
    )
    INTERNAL_ERROR = (
        "InternalError",
        "A pass over the resource ended in an error that nobody foresaw; it is tried again.",
        "Look in the operator's log for the incident that the message names, and report it.",
    )
    BEING_DELETED = (
        "BeingDeleted",
        "It was deleted, and a finalizer keeps it: it is not changed any more, and not made anew.",
        "See to the controller of the finalizer that the message names; Kubernetes' own go by themselves.",
    )
    SCALER_CONFLICT = (
        "ScalerConflict",
        "Another controller writes `spec.replicas` under `mode: Demand`; the operator's own has stopped.",
        "Remove the other one and hand `replicas` back with `kubectl scale`, or set `scaling.mode: Manual`.",
    )
    LOAD_UNKNOWN = (
        "LoadUnknown",
        "A gateway has not told its load for a minute: a request may not wake it, and it never sleeps.",
        "See whether a NetworkPolicy keeps the operator from the gateway's metrics port, and its log.",
    )
    NOT_AUTOSCALABLE = (
        "NotAutoscalable",
        "A HorizontalPodAutoscaler, or one of KEDA, is set upon a variant that has no pods of its own.",
        "Delete it and use `scaling.mode: Demand`, or choose an Engine with serving type Dedicated.",
    )
    FIELD_OWNED_BY_OTHER = (
        "FieldOwnedByOther",
        "Another manager owns a field of a child; the rest was applied.",
        "Let go of the field there, or annotate the child with roundhouse.dev/adopt.",
    )
    UNRESOLVED_MODEL = (
        "UnresolvedModel",
        "A name in the resource belongs to no variant.",
        "Apply that variant, or mend the name in the message.",
    )

    # Adapters.
    BASE_MODEL_NOT_FOUND = (
        "BaseModelNotFound",
        "No variant answers to `baseModel`.",
        "Apply the variant, or mend `baseModel`.",
    )
    INCOMPATIBLE = (
        "Incompatible",
        "The adapter was made for another model.",
        "`status.requiredModel` says which one it needs.",
    )
    NOT_LOADED = (
        "NotLoaded",
        "No pod has the adapter loaded.",
        "Look at `status.variants`: it says why for each of them.",
    )
