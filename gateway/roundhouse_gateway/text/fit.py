"""Whether the chosen model can do what the fields of a JSON request ask for, beyond its stage."""

from collections.abc import Sequence

from roundhouse_api.enums import RouteName
from roundhouse_gateway.errors import GatewayError, HopelessRequestError, UnsupportedValueError
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.text.errors import TooManyItemsError
from roundhouse_gateway.text.request import TextRequest

ITEMS_PARAM = {RouteName.EMBEDDINGS: "input", RouteName.RERANK: "documents"}


def asks_for_something(request: TextRequest) -> bool:
    return bool(request.gates) or request.items != 1 or request.dimensions is not None


def fitting(entries: Sequence[Entry], request: TextRequest, route: RouteName) -> Sequence[Entry]:
    """Those that can, in their order; raises where none can: of one what it lacks, of several that all do."""
    if not asks_for_something(request):
        return entries
    lacks = [lack(entry, request, route) for entry in entries]
    found = [entry for entry, lacking in zip(entries, lacks, strict=True) if lacking is None]
    if found:
        return found
    first = next(each for each in lacks if each is not None)
    if len(entries) == 1:
        raise first
    raise HopelessRequestError(f"No model that runs fits the request. {first.message}", param=first.param)


def lack(entry: Entry, request: TextRequest, route: RouteName) -> GatewayError | None:
    capabilities = entry.record.effective.capabilities
    model = entry.model.id
    for gate in request.gates:
        if gate.feature not in entry.model.features:
            return UnsupportedValueError(
                f"Model '{model}' has not the capability {gate.feature.value} that `{gate.param}` asks for.",
                param=gate.param,
            )
    limit = entry.record.text.max_batch_items
    if limit is not None and request.items > limit:
        return TooManyItemsError(ITEMS_PARAM.get(route, "input"), request.items, limit)
    vectors = capabilities.embedding if capabilities else None
    if request.dimensions is not None and vectors is not None and vectors.dimensions is not None:
        offered = {vectors.dimensions, *(vectors.output_dimensions or ())}
        if request.dimensions not in offered:
            return UnsupportedValueError(
                f"Model '{model}' makes vectors of {', '.join(map(str, sorted(offered)))} numbers, "
                f"not of {request.dimensions}.",
                param="dimensions",
            )
    return None
