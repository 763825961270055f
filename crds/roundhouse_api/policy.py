"""The kind SelectionPolicy: how a model is chosen for a client that does not name one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from annotated_types import MinLen
from pydantic import Field

from roundhouse_api.enums import CostTier, SpeedTier, Strategy
from roundhouse_api.metadata import Resource, Status
from roundhouse_api.model import Model, Rule, rule
from roundhouse_api.names import RESERVED_SERVED_NAME
from roundhouse_api.scalars import Atomic, Between, Keyed, PublicId, SetOf, Word

MAX_POLICY_NAME: Final = 63


class Tier(Model):
    """A ranked list of models."""

    name: CostTier
    """Premium, Budget or Fallback."""
    models: Annotated[tuple[PublicId, ...], Atomic(16)] = ()
    """Names of models, the best first; a model may stand in several tiers."""


class Task(Model):
    """What a kind of work asks of a model."""

    name: Word
    """Name of the task, as a request gives it: summarization, for example."""
    cost_tier: CostTier | None = None
    """The tier from which a model is taken."""
    speed_tier: SpeedTier | None = None
    """The speed that a model must have."""
    classes: Annotated[tuple[Word, ...], SetOf(16)] = ()
    """Classes that a model must have."""


class Weight(Model):
    """A model's share of the requests."""

    model: PublicId
    """Name of the model."""
    weight: Annotated[int, Between(0, 1000)]
    """Its share, against the sum of all weights. 0: none."""


class PolicyLimits(Model):
    """When a model is passed over."""

    requests_per_hour: Annotated[int, Between(1, 100_000_000)] | None = None
    """Requests in an hour after which a model that has no limit of its own is passed over."""
    min_success_percent: Annotated[int, Between(0, 100)] | None = None
    """Share of successful requests, in percent, below which a model is passed over. 0: never."""
    success_window_seconds: Annotated[int, Between(60, 2_592_000)] | None = None
    """Seconds over which success is counted; older requests are forgotten."""


class SelectionPolicySpec(Model):
    """The policy."""

    served_names: Annotated[tuple[PublicId, ...], MinLen(1), SetOf(8)] = (RESERVED_SERVED_NAME,)
    """The virtual ids that the policy answers to: what clients write into `model`."""
    strategy: Strategy
    """Priority: the highest `selection.priority`. FreeFirst: within a tier every free model before a
    paid one. Fastest, Cheapest: by the variants' figures. Weighted: at random, by `weights`."""
    tiers: Annotated[tuple[Tier, ...], Keyed(3, "name")] = ()
    """Ranked models by tier."""
    tasks: Annotated[tuple[Task, ...], Keyed(32, "name")] = ()
    """Kinds of work, and what each asks of a model."""
    weights: Annotated[tuple[Weight, ...], Keyed(32, "model")] | None = None
    """Shares of the requests. Set exactly with strategy Weighted."""
    fallbacks: Annotated[tuple[PublicId, ...], Atomic(16)] = ()
    """Models to take, in this order, where nothing else fits."""
    limits: PolicyLimits | None = None
    """When a model is passed over."""

    @rule(
        "(self.strategy == 'Weighted') == has(self.weights)",
        "`weights` must be set exactly when `strategy` is Weighted",
    )
    def weights_match_strategy(self) -> bool:
        return (self.strategy is Strategy.WEIGHTED) == (self.weights is not None)

    @rule(
        "!has(self.weights) || self.weights.exists(w, w.weight > 0)",
        "at least one weight must be greater than 0",
    )
    def some_weight_counts(self) -> bool:
        return self.weights is None or any(each.weight > 0 for each in self.weights)


class SelectionPolicyStatus(Status):
    """What became of the policy."""

    published_names: Annotated[tuple[PublicId, ...], Atomic(8)] = ()
    """The names that this policy won; the gateway answers to these alone."""
    unresolved_models: Annotated[tuple[PublicId, ...], Atomic(64)] = ()
    """Names in the policy that no variant answers to."""


class SelectionPolicy(Resource):
    """How a model is chosen for `auto`, or for another virtual id."""

    kind: Literal["SelectionPolicy"] = "SelectionPolicy"
    spec: SelectionPolicySpec
    """The policy."""
    status: SelectionPolicyStatus = Field(default_factory=SelectionPolicyStatus)
    """What became of the policy; written by the operator."""

    name_fits: ClassVar[Rule[Resource]] = Rule(
        f"size(self.metadata.name) <= {MAX_POLICY_NAME}",
        f"metadata.name must be at most {MAX_POLICY_NAME} characters",
        lambda policy: len(policy.metadata.name) <= MAX_POLICY_NAME,
    )
