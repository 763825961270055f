"""What the gateway shows to the upstream of an Engine, and which certificates it believes there.

The key stands in no `repr`. Where an upstream says it, in an error, a stream or a transcript, it is blotted
out before anybody else reads it; JSON of a success passes from routes of text as it is.
Where key and certificates come from is left to `credentials`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final

from roundhouse_api.v1alpha1 import Upstream

AUTHORIZATION: Final = "authorization"
_BLOT: Final = b"***"


@dataclass(frozen=True)
class Access:
    """`trouble` says why requests cannot be sent, as far as the gateway sees it; empty where they can."""

    key: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)
    """Certificates, in PEM, that are believed besides the system's own."""
    trouble: str = ""
    upstream: Upstream | None = None
    """Whom it is meant for: nobody else is ever shown it."""

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """What goes along with each request."""
        if not self.key:
            return {}
        name = ((self.upstream and self.upstream.api_key_header) or AUTHORIZATION).lower()
        return {name: f"Bearer {self.key}" if name == AUTHORIZATION else self.key}

    @cached_property
    def lines(self) -> bytes:
        """The same as it stands in a request's head."""
        return "".join(f"{name}: {value}\r\n" for name, value in self.headers.items()).encode("ascii")

    def blotted(self, said: bytes) -> bytes:
        """What the upstream said, without the key: some repeat it in their errors."""
        return said.replace(self.key.encode(), _BLOT) if self.key else said

    def blotted_text(self, said: str) -> str:
        return said.replace(self.key, _BLOT.decode()) if self.key else said


class Blotter:
    """Blots the key out of what comes in pieces, however it is cut. What is said keeps its length."""

    def __init__(self, access: Access) -> None:
        self._key = access.key.encode()
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """What may pass on: what may be the beginning of the key waits for the next piece."""
        key = self._key
        if not key:
            return data
        data = (self._kept + data).replace(key, b"*" * len(key))
        longest = min(len(key) - 1, len(data))
        kept = next((size for size in range(longest, 0, -1) if data.endswith(key[:size])), 0)
        self._kept = data[len(data) - kept :]
        return data[: len(data) - kept]

    def rest(self) -> bytes:
        """What waited for a piece that does not come."""
        return self._kept


OPEN: Final = Access()
"""To what asks for no key and has a certificate that everybody knows, or none."""
_UNREAD: Final = "its key and certificates have not been read yet"


def needs_access(upstream: Upstream | None) -> bool:
    """Whether it is called with a key or certificates of its own."""
    return upstream is not None and (upstream.api_key_secret_ref or upstream.ca_config_map_ref) is not None


def access_to(upstream: Upstream | None, known: Access | None) -> Access:
    """What is known, where it was read for that upstream as it is now."""
    if not needs_access(upstream):
        return OPEN
    return known if known is not None and known.upstream == upstream else Access(trouble=_UNREAD)


@lru_cache(64)
def trust(ca: str) -> ssl.SSLContext:
    """Checks certificates and names, by the system's certificates and these; `ssl.SSLError` for no PEM."""
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(cadata=ca)
    return context


def distrust(error: BaseException) -> str:
    """What is wrong with the other side's certificate; empty where the error is about something else."""
    found = getattr(error, "certificate_error", error)
    return str(found.verify_message) if isinstance(found, ssl.SSLCertVerificationError) else ""
