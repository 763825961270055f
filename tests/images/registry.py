"""As much of an OCI registry as push and pull need, in memory, on loopback: for tests of both."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from typing_extensions import override


class Registry(ThreadingHTTPServer):
    """Serves while its context is open. Blobs and manifests are by digest; tags are `<repository>:<tag>`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @override
    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def keep(self, blob: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        self.blobs[digest] = blob
        return digest


class _Handler(BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name, _, reference = self.path.removeprefix("/v2/").rpartition("/")
        digest = self.server.tags.get(f"{name.removesuffix('/manifests')}:{reference}", reference)
        blob = self.server.blobs.get(digest, b"")
        self._answer(200 if blob or self.path == "/v2/" else 404, blob, digest=digest)

    do_HEAD = do_GET  # noqa: N815 - the name is the base class's

    def do_POST(self) -> None:
        self._body()
        self._answer(202, location=f"{self.path}upload")

    def do_PATCH(self) -> None:
        self.server.keep(self._body())
        self._answer(202, location=self.path)

    def do_PUT(self) -> None:
        body = self._body()
        repository, is_manifest, tag = self.path.removeprefix("/v2/").partition("/manifests/")
        digest = self.server.keep(body)
        if is_manifest:
            self.server.tags[f"{repository}:{tag}"] = digest
        self._answer(201)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # Grown in place: a layer comes in thousands of chunks, and copying it for each takes minutes.
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _answer(
        self, status: int, body: bytes = b"", *, digest: str = "", location: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if b'"schemaVersion"' in body:
            self.send_header("Content-Type", json.loads(body)["mediaType"])
        if digest.startswith("sha256:"):
            self.send_header("Docker-Content-Digest", digest)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @override
    def log_message(self, *_: object) -> None:
        """Says nothing: a test's output is the test's."""
