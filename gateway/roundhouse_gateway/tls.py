"""TLS of the listener for clients: a certificate that is read again when its files change.

A Secret that is mounted changes all its files at once, but a file on disk may be looked at half-written: what
cannot be read, or does not fit together, leaves the certificate that was there in use.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

log = logging.getLogger("roundhouse.gateway.tls")

LOOK_SECONDS: Final = 5.0
_Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """`context` is what the listener gets; new connections see what `look` has found. Raises OSError."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._files = (cert_file, key_file)
        self._stamp = self._stamp_now()
        self.context = self._loaded()

    async def run(self) -> None:
        """Looks now and then, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Takes the files up where they have changed."""
        try:
            stamp = self._stamp_now()
            if stamp == self._stamp:
                return
            self._loaded()  # of its own, because a pair that does not match would spoil the one in use
            self.context.load_cert_chain(*self._files)
        except OSError as error:
            log.warning("the certificate %s cannot be taken up: %s; the old one stays", self._files[0], error)
            return
        self._stamp = stamp
        log.info("the certificate %s was read again", self._files[0])

    def _stamp_now(self) -> _Stamp:
        found = [path.stat() for path in self._files]
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._files)
        return context


@asynccontextmanager
async def certified(cert_file: Path | None, key_file: Path | None) -> AsyncIterator[ssl.SSLContext | None]:
    """A context whose certificate is followed during the block; None where no files are named."""
    if cert_file is None or key_file is None:
        yield None
        return
    certificate = Certificate(cert_file, key_file)
    looking = asyncio.create_task(certificate.run())
    try:
        yield certificate.context
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
