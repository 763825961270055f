"""The net under `workload.podTemplate`, the one part of a spec whose shape no schema knows.

What is checked for is refused by name in `desired.overlay`. What nobody thought of must not end the pass,
which would be repeated for ever and say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from roundhouse_api.conditions import Reason
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.diagnose import Trouble

Made = TypeVar("Made")
_SHAPES: Final = (TypeError, ValueError, KeyError, AttributeError, IndexError)


def guarded(intent: Intent, make: Callable[[], Made]) -> Made | Trouble:
    """What `make` gives; where it fails over a pod template of an odd shape, that."""
    try:
        return make()
    except _SHAPES as error:
        if intent.workload.pod_template is None:
            raise
        return Trouble(
            Reason.INVALID_POD_TEMPLATE,
            "workload.podTemplate cannot be laid over the generated pod template: something in it has "
            f"another shape than in core/v1 ({type(error).__name__}: {error})",
        )
