"""Which authorities all clients of sources believe: the public ones, or a bundle's, and one's own."""

import re
import ssl
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from certifi import where

from .failure import LoadError, Reason

OWN: Final = "ROUNDHOUSE_CA_CERTIFICATES"
# Each client reads another one of these; one bundle for all of them is what anybody means.
_BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE")
# What stands between them is words for people, in whatever alphabet.
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]*CERTIFICATE)-----.*?-----END \1-----", re.DOTALL)


def trust(environ: MutableMapping[str, str]) -> None:
    """Names one bundle for all clients, where any is named, with one's own authorities beside what is in it.

    A variable holds those as text, because a file would have to be in every namespace that loads weights.
    """
    given = next((environ[name] for name in _BUNDLES if environ.get(name)), None)
    own = environ.get(OWN, "").strip()
    if not own:
        for name in _BUNDLES if given else ():
            environ.setdefault(name, str(given))
        return
    joined = _joined(given or where(), own)
    for name in _BUNDLES:
        environ[name] = joined


def _joined(bundle: str, own: str) -> str:
    blocks = "\n".join(found.group() for found in _BLOCK.finditer(own))
    try:
        ssl.create_default_context(cadata=blocks or own)
    except (ssl.SSLError, ValueError, TypeError) as error:  # TypeError: a block is not of ASCII alone
        raise LoadError(
            Reason.LOADER_FAILED,
            f"{OWN} holds no certificates in PEM form ({error}); see `loader.caCertificates`",
        ) from error
    try:
        public = Path(bundle).read_bytes()
        with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
            file.write(b"%b\n%b\n" % (public, blocks.encode("ascii")))
    except OSError as error:
        raise LoadError(
            Reason.LOADER_FAILED,
            f"the certificates of {bundle!r} cannot be joined with those of {OWN}: {error}",
        ) from error
    return file.name
