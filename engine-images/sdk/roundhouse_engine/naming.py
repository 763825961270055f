"""The name that clients know a model by, where whoever passes their requests on tells it.

To a gateway's clients a model has a public id, and the engine's own name for it may be that of a file.
Answers and errors say what the client has asked for; the log and the metrics have the engine's name.
"""

import re
from dataclasses import replace
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from roundhouse_engine.errors import Problem
from roundhouse_engine.metrics import UNKNOWN_MODEL

HEADER: Final = "x-roundhouse-model"
_NAME: Final = re.compile("[!-~]{1,256}")


def public_name(scope: Scope, model: str) -> str:
    """That of the request's header; the engine's own where there is none, or none that could be shown."""
    told = Headers(scope=scope).get(HEADER, "")
    return told if _NAME.fullmatch(told) else model


def renamed(problem: Problem, scope: Scope) -> Problem:
    """The same of the model that the request is for, by the name that its client knows."""
    model = scope.get("roundhouse.model", UNKNOWN_MODEL)
    name = public_name(scope, model)
    if model in (UNKNOWN_MODEL, name):
        return problem
    return replace(problem, message=problem.message.replace(repr(model), repr(name)))
