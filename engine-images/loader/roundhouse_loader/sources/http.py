"""A file at an address, pinned by its SHA-256."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from roundhouse_loader.failure import LoadError, Reason
from roundhouse_loader.listing import UNKNOWN, Algorithm, Digest, Listing, Part, RemoteFile
from roundhouse_loader.packing import ARCHIVES
from roundhouse_loader.partial import Sink
from roundhouse_loader.redact import shown
from roundhouse_loader.selection import choose
from roundhouse_loader.source import HTTP, Source
from roundhouse_loader.web import RefusedError, Web

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# They say how the body travels, which is not the Secret's to decide.
_RESERVED: Final = {"host", "content-length", "transfer-encoding", "connection", "range", "accept-encoding"}
_NAMELESS: Final = "weights"


class HTTPFetcher:
    """Fetches `place.url`; each credential is a request header."""

    def __init__(self, place: HTTP, source: Source, credentials: Mapping[str, str], web: Web) -> None:
        self._place = place
        self._source = source
        self._headers = _checked(credentials)
        self._web = web

    def listing(self) -> Listing:
        name = file_name(self._place.url)
        digest = Digest(Algorithm.SHA256, self._place.sha256)
        file = RemoteFile(name, UNKNOWN, f"sha256:{digest.value}", self._place.url, digest)
        if name.lower().endswith(ARCHIVES):
            return Listing(file.identity, (file,), (Part(name, "archive"),))
        choose([name], self._source)
        return Listing(file.identity, (file,))

    def fetch(self, file: RemoteFile, sink: Sink, /) -> None:
        try:
            self._web.download(file.remote, sink, secret_headers=self._headers)
        except RefusedError as refused:
            raise self._explained(refused) from refused

    def _explained(self, refused: RefusedError) -> LoadError:
        where = f"{shown(refused.url)} answered {refused.status}"
        match refused.status:
            case 401 | 403 | 407:
                sent = (
                    "the headers of `headersSecretRef` are not accepted"
                    if self._headers
                    else "it wants credentials"
                )
                return LoadError(
                    Reason.UNAUTHORIZED, f"{where}: {sent}; put a valid header into the Secret that it names"
                )
            case 404 | 410:
                return LoadError(Reason.SOURCE_NOT_FOUND, f"{where}: there is no such file; mend `http.url`")
            case _:
                return LoadError(Reason.SOURCE_UNREACHABLE, f"{where}, which is no file; check `http.url`")


def file_name(url: str) -> str:
    """The name that the file gets: the last part of the address."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return name if name.strip(".") else _NAMELESS


def _checked(credentials: Mapping[str, str]) -> dict[str, str]:
    for name, value in credentials.items():
        if not _NAME.fullmatch(name) or name.lower() in _RESERVED:
            raise LoadError(
                Reason.INVALID_SOURCE,
                f"the Secret of `headersSecretRef` has the key {name!r}, which is no header that may be sent",
            )
        if not value.isprintable() or not value.isascii():
            raise LoadError(
                Reason.INVALID_SOURCE,
                f"the Secret's value of the header {name!r} holds line breaks or other characters "
                "that no header may have",
            )
    return dict(credentials)
