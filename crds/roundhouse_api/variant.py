"""The kind ModelVariant, as its author writes it: a model that clients can ask for, and how to serve it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Len, MaxLen
from pydantic import Field

from roundhouse_api.capabilities import Capabilities, Concurrency, Performance, Scaling
from roundhouse_api.enums import (
    DownloadPolicy,
    EngineKind,
    FallbackTrigger,
    Interface,
    LoadBalancingType,
    RolloutPolicy,
    Stage,
    VerificationPolicy,
)
from roundhouse_api.hardware import Hardware
from roundhouse_api.metadata import KeyRef, NameRef, Resource, child_owner_name_rule
from roundhouse_api.model import Model, Rule, rule
from roundhouse_api.names import RESERVED_SERVED_NAME
from roundhouse_api.offer import Pricing, Selection, VariantLimits
from roundhouse_api.scalars import (
    Atomic,
    Between,
    Keyed,
    Labels,
    Name,
    Opaque,
    PublicId,
    Replicas,
    SetOf,
    Word,
)
from roundhouse_api.source import Source
from roundhouse_api.variant_status import ModelVariantStatus
from roundhouse_api.workload import EnvName, Text

Percent = Annotated[int, Between(0, 100)]


class EngineRef(Model):
    """The engine that serves the variant."""

    kind: EngineKind = EngineKind.ENGINE
    """Engine."""
    name: Name
    """`metadata.name` of the Engine, in the same namespace."""


class EngineSelector(Model):
    """What an engine must have to serve the variant. Its `formats` must hold `source.format`."""

    stage: Stage
    """The engine's stage."""
    match_labels: Labels = Field(default_factory=dict)
    """Labels that the Engine must carry."""
    interfaces: Annotated[tuple[Interface, ...], SetOf(4)] = ()
    """Interfaces that the engine must offer."""
    features: Annotated[tuple[Word, ...], SetOf(16)] = ()
    """Features that the engine must have."""


class VariantEnv(Model):
    """An environment variable. Its value is written here: who writes variants does not read Secrets."""

    name: EnvName
    """The variable's name."""
    value: Text
    """The value, as it is."""


class Rollout(Model):
    """How a change replaces pods."""

    strategy: RolloutPolicy | None = None
    """Surge: new pods first, which needs a free GPU. Recreate: drain, then replace. Auto, the same as
    absent: Surge where a free GPU exists, else one pod after the other; `status.rollout` says which."""
    drain_timeout_seconds: Annotated[int, Between(0, 86_400)] | None = None
    """Longest time in seconds that an old pod may finish its streams. 0: it is ended at once."""
    max_concurrent: Annotated[int, Between(1, 1000)] | None = None
    """After an edit of the Engine: this variant is changed while fewer than so many of the Engine's variants
    are being changed. Absent: 1, one after another. A variant's own edit waits for nobody."""


class PrefixHash(Model):
    """Requests with one beginning go to one replica, which has that beginning cached."""

    prefix_characters: Annotated[int, Between(16, 100_000)] | None = None
    """Characters of the prompt that count as its beginning."""
    mean_load_percent: Annotated[int, Between(100, 1000)] | None = None
    """Load of a replica, in percent of the mean, above which the next replica is taken."""


class LoadBalancing(Model):
    """Which replica a request goes to."""

    type: LoadBalancingType
    """LeastInFlight: the replica with the fewest requests. PrefixHash: the one that has seen the
    prompt's beginning."""
    prefix_hash: PrefixHash | None = None
    """Settings of type PrefixHash."""

    @rule(
        "!has(self.prefixHash) || self.type == 'PrefixHash'",
        "`prefixHash` may only be set when `type` is PrefixHash",
    )
    def member_matches_type(self) -> bool:
        return self.prefix_hash is None or self.type is LoadBalancingType.PREFIX_HASH


class Fallback(Model):
    """Another model that answers instead; the client is told which one did."""

    model: PublicId
    """A name that the other model answers to."""
    when: Annotated[tuple[FallbackTrigger, ...], SetOf(4)] = ()
    """When it is asked: Unavailable, RateLimited, Timeout, Error. Absent: on each of them."""


class KnownAnswerTest(Model):
    """An input of which the right answer is known."""

    name: Word
    """Name of the test."""
    input_config_map_ref: KeyRef
    """The input: audio under `binaryData`, or text."""
    expect_text: Text | None = None
    """The transcript that must come back."""
    max_word_error_percent: Percent | None = None
    """Word errors allowed against `expectText`, in percent. Absent: 0."""
    expect_embedding_ref: KeyRef | None = None
    """The vector that must come back, as a JSON list."""
    min_cosine_percent: Percent | None = None
    """Least cosine with `expectEmbeddingRef`, in percent. Absent: 99."""


class Verification(Model):
    """Tests that a new pod must pass before it serves."""

    policy: VerificationPolicy
    """Required: a pod that fails gets no requests. Advisory: it serves, and the condition Verified
    tells."""
    tests: Annotated[tuple[KnownAnswerTest, ...], Keyed(8, "name")] = ()
    """The tests. Absent: only the claimed features are probed."""


class ModelVariantSpec(Model):
    """The model as it should be served."""

    engine_ref: EngineRef | None = None
    """The engine, by name. Either this or `engineSelector`."""
    engine_selector: EngineSelector | None = None
    """The engine, by what it must have; the choice is in `status.selection`."""
    served_name: PublicId | None = None
    """The public id: what clients write into `model`. May hold slashes and capitals. Absent:
    `metadata.name`. A change restarts nothing."""
    alternate_names: Annotated[tuple[PublicId, ...], SetOf(16)] = ()
    """Further exact ids, always on: an older id, or the repository's name."""
    aliases: Annotated[tuple[PublicId, ...], SetOf(16)] = ()
    """Short names such as `fast` that can be switched off for the whole gateway."""
    display_name: Annotated[str, MaxLen(100)] | None = None
    """Name for people."""
    description: Annotated[str, MaxLen(1000)] | None = None
    """What the model is good for."""
    owned_by: Annotated[str, MaxLen(63)] | None = None
    """`owned_by` of /v1/models, for example local or openai."""
    license: Annotated[str, MaxLen(100)] | None = None
    """Licence of the weights, as SPDX identifier where there is one."""
    source: Source
    """Where the weights come from."""
    download_policy: DownloadPolicy = DownloadPolicy.AUTO
    """Auto: weights are fetched when they are missing. Never: missing weights are an error. Skip: the
    engine fetches them itself."""
    engine_model_name: Annotated[str, Len(1, 200)] | None = None
    """What the engine calls the model. Absent: the source's own name."""
    args: Annotated[tuple[Text, ...], Atomic(64)] = ()
    """Arguments after those of the engine. Only with serving type Dedicated."""
    env: Annotated[tuple[VariantEnv, ...], Keyed(64, "name")] = ()
    """Environment variables besides those of the engine. Only with serving type Dedicated."""
    capabilities: Capabilities | None = None
    """What differs from the engine's capabilities."""
    performance: Performance | None = None
    """What differs from the engine's figures."""
    hardware: Hardware | None = None
    """What differs from the engine's needs. With serving type Shared only `gpu.minMemory` and
    `gpu.displayMemory`."""
    concurrency: Concurrency | None = None
    """What differs from the engine's concurrency."""
    selection: Selection = Field(default_factory=Selection)
    """By what `auto` chooses the variant."""
    pricing: Pricing | None = None
    """What a request costs. Absent: free for a Workload; unknown, so ranked as paid, for an Upstream."""
    limits: VariantLimits = Field(default_factory=VariantLimits)
    """What a request may ask for."""
    request_defaults: Opaque = Field(default_factory=dict)
    """Merged under the JSON of each request, for example {temperature: 0.7}; the request's own fields
    win."""
    replicas: Replicas = 1
    """Pods to run; with serving type Shared, copies to hold. One scaler writes it, through the scale
    subresource: leave it out of Git under an HPA, KEDA or `scaling.mode: Demand`. 0: none, to start
    cold."""
    scaling: Scaling | None = None
    """Who sets `replicas`. Absent: as the engine says."""
    rollout: Rollout | None = None
    """How a change replaces pods."""
    load_balancing: LoadBalancing | None = None
    """Which replica a request goes to. Absent: LeastInFlight."""
    fallbacks: Annotated[tuple[Fallback, ...], Atomic(8)] = ()
    """Models that answer instead, in this order. Absent: none, the client gets the error."""
    verification: Verification | None = None
    """Tests that a new pod must pass before it serves."""
    suspend: Annotated[bool, Field(strict=True)] = False
    """True: no pod runs and nothing is fetched, while `replicas` is kept."""
    realtime_variant_ref: NameRef | None = None
    """The variant that takes realtime sessions for this one, where this one cannot stream."""

    @rule(
        "has(self.engineRef) != has(self.engineSelector)",
        "exactly one of `engineRef` and `engineSelector` must be set",
    )
    def one_way_to_the_engine(self) -> bool:
        return (self.engine_ref is None) != (self.engine_selector is None)

    @rule(
        "!(has(self.servedName) && has(self.alternateNames) && self.servedName in self.alternateNames)"
        " && !(has(self.servedName) && has(self.aliases) && self.servedName in self.aliases)"
        " && !(has(self.aliases) && has(self.alternateNames)"
        " && self.aliases.exists(a, a in self.alternateNames))",
        "`servedName`, `alternateNames` and `aliases` must not repeat a name",
    )
    def names_are_distinct(self) -> bool:
        names = (self.served_name, *self.alternate_names, *self.aliases)
        return len(set(names)) == len(names)

    @rule(
        f"!(has(self.servedName) && self.servedName == '{RESERVED_SERVED_NAME}')"
        f" && !(has(self.alternateNames) && '{RESERVED_SERVED_NAME}' in self.alternateNames)"
        f" && !(has(self.aliases) && '{RESERVED_SERVED_NAME}' in self.aliases)",
        f"'{RESERVED_SERVED_NAME}' is reserved for a SelectionPolicy",
    )
    def auto_is_reserved(self) -> bool:
        return RESERVED_SERVED_NAME not in (self.served_name, *self.alternate_names, *self.aliases)

    @rule(
        "!has(self.limits) || !has(self.limits.maxDurationSeconds)"
        " || !has(self.limits.recommendedDurationSeconds)"
        " || self.limits.recommendedDurationSeconds <= self.limits.maxDurationSeconds",
        "`recommendedDurationSeconds` must be less than or equal to `maxDurationSeconds`",
    )
    def recommended_is_allowed(self) -> bool:
        longest, best = self.limits.max_duration_seconds, self.limits.recommended_duration_seconds
        return longest is None or best is None or best <= longest


class ModelVariant(Resource):
    """A model that clients can ask for by name, and the engine that serves it."""

    kind: Literal["ModelVariant"] = "ModelVariant"
    spec: ModelVariantSpec
    """The model as it should be served."""
    status: ModelVariantStatus = Field(default_factory=ModelVariantStatus)
    """The model as it is served; written by the operator."""

    name_leaves_room: ClassVar[Rule[Resource]] = child_owner_name_rule(
        ": put the public id into `spec.servedName`"
    )
