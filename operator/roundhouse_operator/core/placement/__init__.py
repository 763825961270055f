"""Where a variant's pods can run: GPU or CPU, by which resource, and what speaks against each node.

Looks at what nodes could hold, not at what is free now: the scheduler knows that, and its word is read
from the pods. `need` states, `allocation` decides, `terms` puts it into labels, `verdict` judges a node,
`fleet` remembers, `memory` reckons and `telling` says.
"""

from __future__ import annotations

from roundhouse_operator.core.placement.allocation import keep, place
from roundhouse_operator.core.placement.fleet import Fleet, Survey
from roundhouse_operator.core.placement.need import Need, Stated, Unplaceable, state
from roundhouse_operator.core.placement.nodes import Node
from roundhouse_operator.core.placement.telling import as_status, asked_for, explain, wanted

__all__ = [
    "Fleet",
    "Need",
    "Node",
    "Stated",
    "Survey",
    "Unplaceable",
    "as_status",
    "asked_for",
    "explain",
    "keep",
    "place",
    "state",
    "wanted",
]
