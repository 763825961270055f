"""One module for each place that weights come from. Each lists what is there and fetches a file of it."""

from collections.abc import Mapping

from roundhouse_loader.failure import LoadError, Reason
from roundhouse_loader.fetch import Fetcher
from roundhouse_loader.settings import Settings
from roundhouse_loader.source import GCS, HTTP, OCI, S3, HuggingFace
from roundhouse_loader.web import Web


def open_source(settings: Settings, credentials: Mapping[str, str], environ: Mapping[str, str]) -> Fetcher:
    """The fetcher for the settings' source. Imports only what that source needs: a client takes its time."""
    web = Web(settings.timeout_seconds)
    source = settings.source
    match source.place:
        case HTTP():
            from .http import HTTPFetcher  # noqa: PLC0415 - see above

            return HTTPFetcher(source.place, source, credentials, web)
        case HuggingFace():
            from .hugging_face import HuggingFaceFetcher  # noqa: PLC0415

            return HuggingFaceFetcher(source.place, source, credentials, web, environ)
        case S3() | GCS() | OCI():
            kind = type(source.place).__name__
            raise LoadError(Reason.INVALID_SOURCE, f"weights from {kind} cannot be fetched yet")
