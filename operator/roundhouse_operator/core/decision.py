"""What was decided of a variant: filled as far as the rules were reached."""

from __future__ import annotations

from dataclasses import dataclass

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec
from roundhouse_operator.core.desired import Intent
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.effective import Merged
from roundhouse_operator.core.ids import Award
from roundhouse_operator.core.placement import Survey
from roundhouse_operator.core.plan import NOTHING, Plan
from roundhouse_operator.core.rollout import Strategy, Turn
from roundhouse_operator.core.rollout.turn import NO_TURN
from roundhouse_operator.core.scaling import Policy
from roundhouse_operator.core.selection import Choice
from roundhouse_operator.core.sharing import shares_pods
from roundhouse_operator.core.verification.exam import Exam
from roundhouse_operator.core.weights.supply import Supply, Weights


@dataclass(frozen=True, slots=True)
class Decision:
    """What was not reached is None."""

    award: Award
    refused: Trouble | None = None
    """Why the variant itself is not accepted."""
    choice: Choice | None = None
    engine: EngineSpec | None = None
    """Of the chosen engine, once that is accepted."""
    engine_refused: Trouble | None = None
    merged: Merged | None = None
    weights: Weights | None = None
    supply: Supply | None = None
    """How the weights come to the pods, once there is an engine."""
    stores: frozenset[str] = frozenset()
    """Weights that must be kept for it: names of stores, or a key where no store is known."""
    survey: Survey | None = None
    placement: Manifest | None = None
    intent: Intent | None = None
    exam: Exam | None = None
    held: Trouble | None = None
    """Why the children stay although other ones are wanted."""
    leaving: Trouble | None = None
    """What serves it is of an engine that it is to leave, once the other one answers."""
    unplaced: Trouble | None = None
    """Why no pod can be described that would get its devices."""
    turn: Turn = NO_TURN
    strategy: Strategy | None = None
    scaling: Policy | None = None
    """How many pods there are to be, where the operator itself decides it."""
    rival: Trouble | None = None
    """Why it does not, though it should."""
    edited: bool = False
    """The variant's author asked for other pods than those that were made."""
    plan: Plan = NOTHING
    again_seconds: int | None = None
    """When what pods wait for must have come, or what is written now has taken effect."""

    @property
    def revisit_seconds(self) -> int | None:
        """When it is to be looked at again although nobody reports a change."""
        seconds = (self.supply.revisit_seconds if self.supply else None, self.again_seconds)
        return min((one for one in seconds if one), default=None)

    @property
    def shares(self) -> bool:
        """Whether its pods are the engine's, which holds several variants in one."""
        spec = self.choice.engine.spec if self.choice and self.choice.engine else None
        return isinstance(spec, EngineSpec) and shares_pods(spec)

    @property
    def stays(self) -> Trouble | None:
        """Why the pods stay as they are although others are wanted, for ever or for now."""
        return self.held or self.turn.waits or self.leaving
