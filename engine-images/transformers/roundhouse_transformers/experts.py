"""Models with experts on a GPU: each layer chooses by its number of tokens how its experts are computed.

One token is soonest done with copies of the weights that it is sent to; of a prompt's they take tens of
gigabytes. The library's `generate` changes the model from one way to the other while it writes, for all
threads at once, so that the prompts of requests that come meanwhile are read in the wrong one.
"""

from typing import Any, Final

from transformers.integrations.finegrained_fp8 import ALL_FP8_EXPERTS_FUNCTIONS
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

_OF_ONE: Final = "batched_mm"
_OF_MANY: Final = "grouped_mm"
_BY_NUMBER: Final = "by_number_of_tokens"


def choose_by_number_of_tokens(model: Any) -> None:  # noqa: ANN401 - a model of the library's
    """Where a part of the model has the way for many tokens. `generate` finds nothing to change then."""
    for functions in (ALL_EXPERTS_FUNCTIONS, ALL_FP8_EXPERTS_FUNCTIONS):
        functions[_BY_NUMBER] = _chosen(functions)
    there = model.get_experts_implementation()
    wanted = {part: _BY_NUMBER if way == _OF_MANY else way for part, way in there.items()}
    model.set_experts_implementation(wanted)


def _chosen(functions: Any) -> Any:  # noqa: ANN401 - the library's table of ways
    def compute(layer: Any, hidden: Any, *routed: Any) -> Any:  # noqa: ANN401 - [tokens, width] of torch's
        return functions[_OF_ONE if len(hidden) == 1 else _OF_MANY](layer, hidden, *routed)

    return compute
