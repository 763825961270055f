"""The names that stand outside the schemas: group, plurals, labels, annotations, Secret types.

They are as much a part of the API as the fields: operator, gateway, chart and users' selectors
rely on them, so each is written here once and only ever added to.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "roundhouse.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "roundhouse"
"""`kubectl get roundhouse` lists the objects of all four kinds."""

ENGINES: Final = "engines"
MODEL_VARIANTS: Final = "modelvariants"
ADAPTERS: Final = "adapters"
SELECTION_POLICIES: Final = "selectionpolicies"

LABEL_MANAGED: Final = f"{GROUP}/managed"
"""`true` on every object that the operator made; the gateway selects EndpointSlices by it."""
LABEL_ENGINE: Final = f"{GROUP}/engine"
"""The `metadata.name` of the Engine, on variants' children and on variants for selection."""
LABEL_VARIANT: Final = f"{GROUP}/variant"
"""The `metadata.name` of the ModelVariant that a child belongs to."""
LABEL_STAGE: Final = f"{GROUP}/stage"
"""The engine's stage in lower case (`transcribe`)."""
LABEL_WEIGHTS: Final = f"{GROUP}/weights"
"""The key of fetched weights (`status.weights.key`), on what belongs to their cache."""
LABEL_REPLICA: Final = f"{GROUP}/replica"
"""The number of a pod of a Shared or Exclusive engine, on all that belongs to it."""
LABEL_SERVES: Final = f"serves.{GROUP}/"
"""Followed by the `metadata.name` of a variant: on a pod that has it loaded and gets its requests."""
LABEL_CREDENTIAL: Final = f"{GROUP}/credential"
"""A Secret must carry it (`weights` or `upstream`) before a resource may refer to it."""

ANNOTATION_ADOPT: Final = f"{GROUP}/adopt"
"""On an existing child: lets the operator take over its fields by force."""

ANNOTATION_VARIANT_SPEC: Final = f"{GROUP}/variant-spec"
"""On a Service: a digest of the variant that it and the Deployment were last made from, but for how many
pods it wants."""
ANNOTATION_RESTARTED_AT: Final = f"{GROUP}/restartedAt"
"""On a variant or an Engine: another value than before replaces the pods. Also on a pod template."""
ANNOTATION_ENGINE_RESTARTED_AT: Final = f"{GROUP}/engine-restartedAt"
"""On a pod template: `restartedAt` of the Engine."""
ANNOTATION_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Kubernetes' own, on a pod: those with the lowest go first when there are to be fewer."""
ANNOTATION_WEIGHTS: Final = f"{GROUP}/weights"
"""On a pod that reads fetched weights: the name of the objects that belong to them."""
ANNOTATION_REPLACED: Final = f"{GROUP}/replaced-while-serving"
"""On a Deployment of a shared engine: `true` where its pod served when it was last changed."""
ANNOTATION_CACHE: Final = f"{GROUP}/cache"
"""On a Deployment: `ImageVolume` where its pods were made under that cache, mounted or not."""
ANNOTATION_LOADER: Final = f"{GROUP}/loader"
"""On a Job that fetches weights: for whom it was made, from what, and the how manieth attempt it is."""
ANNOTATION_FETCHED: Final = f"fetched.{GROUP}/"
"""Followed by the key of weights: on a claim of somebody else's, onto which a Job of ours has fetched them.

The value says from which nodes they can be removed."""
ANNOTATION_UNWANTED: Final = f"{GROUP}/unwanted-since"
"""On an object of a cache of weights: the time since which nobody wants them."""

ANNOTATION_TEMPLATE: Final = f"{GROUP}/template"
"""On the pods of a variant with `verification.policy: Required`: the hash of their template."""
ANNOTATION_VARIANTS: Final = f"{GROUP}/variants"
"""On the list of models of a shared pod: the variants that are to be in it, when all moves are done."""
ANNOTATION_ROOM: Final = f"{GROUP}/memory-mib"
"""On the list of models of a shared pod: the memory that its variants were packed by."""
ANNOTATION_PLACEMENT: Final = f"{GROUP}/placement"
"""On the list of models of a shared pod: where the pod is to run, as `status.placement` has it."""
ANNOTATION_MODELS_GENERATION: Final = f"{GROUP}/models-generation"
"""On a shared pod: the list of models that it is to read; a change makes the kubelet bring it at once."""

SECRET_TYPE_API_KEY: Final = f"{GROUP}/api-key"
READINESS_GATE_VERIFIED: Final = f"{GROUP}/Verified"
"""Readiness gate of the pods of a variant with `verification.policy: Required`."""
READINESS_GATE_LOADED: Final = f"{GROUP}/Loaded"
"""Readiness gate of shared pods: one that takes another's place counts once it has what that one has."""

RESERVED_SERVED_NAME: Final = "auto"
"""The id that only a SelectionPolicy may serve."""
MAX_CHILD_OWNER_NAME: Final = 40
"""Longest `metadata.name` that leaves room for the suffixes of children's names."""
