"""One module for each place that weights come from. Each lists what is there and fetches a file of it."""

from collections.abc import Mapping, MutableMapping

from roundhouse_loader.fetch import Fetcher
from roundhouse_loader.settings import Settings
from roundhouse_loader.source import GCS, HTTP, OCI, S3, HuggingFace
from roundhouse_loader.web import Web


def open_source(
    settings: Settings, credentials: Mapping[str, str], environ: MutableMapping[str, str]
) -> Fetcher:
    """The fetcher for the settings' source. Imports only that source's client: each takes its time."""
    # ruff: noqa: PLC0415
    source, seconds = settings.source, settings.timeout_seconds
    match source.place:
        case HTTP() as place:
            from .http import HTTPFetcher

            return HTTPFetcher(place, source, credentials, Web(seconds))
        case HuggingFace() as place:
            from .hugging_face import HuggingFaceFetcher

            return HuggingFaceFetcher(place, source, credentials, Web(seconds), environ)
        case OCI() as place:
            from .oci import OCIFetcher

            plain = frozenset(environ.get("ROUNDHOUSE_PLAIN_HTTP_REGISTRIES", "").replace(",", " ").split())
            return OCIFetcher(place, credentials, Web(seconds), plain)
        case S3() as place:
            from .s3 import S3Fetcher

            return S3Fetcher(place, source, credentials, seconds, environ)
        case GCS() as place:
            from .gcs import GCSFetcher

            emulated = bool(environ.get("STORAGE_EMULATOR_HOST"))
            return GCSFetcher(place, source, credentials, seconds, emulated=emulated)
