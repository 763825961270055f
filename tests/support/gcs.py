"""As much of Google Cloud Storage as its own client needs to list and to download, and its token service."""

import base64
import json
import re
from typing import Any, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google_crc32c import Checksum
from typing_extensions import override

from .origin import Fault, Origin, OriginHandler, Seen

OBJECT = re.compile(r"/(?P<download>download/)?storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>.+)")
OBJECTS = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)/o")
PAGE = 2
"""Objects a page, so that clients have to ask for the next one."""


class Buckets(Origin):
    """Serves `files`, by `<bucket>/<name>`, while its context is open."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__(host=host)
        self.private = False
        self.generations: dict[str, int] = {}
        self.access_token = "ya29.token-of-the-emulator"  # noqa: S105 - of a server on loopback

    @override
    def handler(self) -> type[OriginHandler]:
        return _Handler

    def account(self) -> str:
        """The key of a service account, as Google gives it out."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "tests",
                "private_key_id": "0123456789abcdef",
                "private_key": pem.decode(),
                "client_email": "loader@tests.example",
                "client_id": "1",
                "token_uri": f"{self.url}/token",
            }
        )


class _Handler(OriginHandler):
    @property
    def buckets(self) -> Buckets:
        return cast("Buckets", self.server)

    do_POST = OriginHandler.do_GET  # noqa: N815 - the name is the base class's

    @override
    def route(self, seen: Seen, fault: Fault) -> None:
        # An object's name is one part of the path with its slashes quoted.
        path = urlsplit(self.path).path
        if path == "/token":
            self.rfile.read(int(self.headers["Content-Length"]))
            self._json(
                {"access_token": self.buckets.access_token, "expires_in": 3600, "token_type": "Bearer"}
            )
        elif (
            self.buckets.private
            and seen.headers.get("authorization") != f"Bearer {self.buckets.access_token}"
        ):
            self.answer(401)
        elif found := OBJECT.fullmatch(path):
            self._object(unquote(found["name"]), found["bucket"], bool(found["download"]), fault)
        elif found := OBJECTS.fullmatch(path):
            self._list(found["bucket"], parse_qs(seen.query))
        else:
            self.answer(404)

    def _object(self, name: str, bucket: str, download: bool, fault: Fault) -> None:
        body = self.buckets.files.get(f"{bucket}/{name}")
        if body is None:
            self.answer(404)
        elif download:
            self.send_file(body, fault)
        else:
            self._json(self._described(bucket, name, body))

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        if not any(name.startswith(f"{bucket}/") for name in self.buckets.files):
            self.answer(404)
            return
        prefix = query.get("prefix", [""])[0]
        names = sorted(
            name.removeprefix(f"{bucket}/")
            for name in self.buckets.files
            if name.startswith(f"{bucket}/{prefix}")
        )
        start = int(query.get("pageToken", ["0"])[0])
        page = names[start : start + PAGE]
        said: dict[str, Any] = {
            "items": [self._described(bucket, name, self.buckets.files[f"{bucket}/{name}"]) for name in page]
        }
        if start + PAGE < len(names):
            said["nextPageToken"] = str(start + PAGE)
        self._json(said)

    def _described(self, bucket: str, name: str, body: bytes) -> dict[str, Any]:
        checksum = base64.b64encode(Checksum(body).digest()).decode()  # type: ignore[no-untyped-call]
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(body)),
            "generation": str(self.buckets.generations.get(name, 1)),
            "crc32c": checksum,
            "mediaLink": f"{self.buckets.url}/download{object_path(bucket, name)}?alt=media",
        }

    def _json(self, content: object) -> None:
        self.answer(200, json.dumps(content).encode(), kind="application/json")


def object_path(bucket: str, name: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
