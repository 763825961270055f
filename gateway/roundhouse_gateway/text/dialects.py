"""Where engines of each dialect serve the JSON routes, where that is not where OpenAI has them."""

from roundhouse_api.enums import Dialect, RouteName
from roundhouse_gateway.entry import VERSION_PREFIX, Entry

TEI_RERANK = "/rerank"


def is_tei(entry: Entry) -> bool:
    """Hugging Face's text-embeddings-inference, whose rerank is its own."""
    return entry.record.effective.dialect == Dialect.TEI


def url_of(entry: Entry, base_url: str, route: RouteName) -> str:
    """The address of the route at one endpoint; what the engine's resource says goes first."""
    if route is RouteName.RERANK and is_tei(entry):
        told = entry.engine.spec.api.routes if entry.engine else ()
        if not any(each.name == route for each in told):
            return base_url.rstrip("/").removesuffix(VERSION_PREFIX) + TEI_RERANK
    return entry.url(base_url, route)
