"""Which model answers a request: the rules that operator and gateway share.

`Catalogue` resolves a name (exact id, then alternate name, then alias), `ranked` is what `auto` chooses from,
`explain` says of each candidate why or why not. All of it works on plain frozen values; finding out what
runs, and telling an HTTP client, is left to the programs.
"""

from roundhouse_api.selection.catalogue import Catalogue, UnknownModelError
from roundhouse_api.selection.choose import (
    NothingFitsError,
    Verdict,
    explain,
    nothing_fits,
    ranked,
    without_guesses,
)
from roundhouse_api.selection.fit import mismatch
from roundhouse_api.selection.model import ANY_LANGUAGE, Model, ModelStatus
from roundhouse_api.selection.needs import Mismatch, MismatchReason, Needs, Tier, primary_language
from roundhouse_api.selection.ranking import Ranking
from roundhouse_api.selection.tasks import TASKS, Task

__all__ = [
    "ANY_LANGUAGE",
    "TASKS",
    "Catalogue",
    "Mismatch",
    "MismatchReason",
    "Model",
    "ModelStatus",
    "Needs",
    "NothingFitsError",
    "Ranking",
    "Task",
    "Tier",
    "UnknownModelError",
    "Verdict",
    "explain",
    "mismatch",
    "nothing_fits",
    "primary_language",
    "ranked",
    "without_guesses",
]
