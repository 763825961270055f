"""`GET /progress` and `GET /healthz` on a port of their own, for a few callers at once and not for long."""

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from typing_extensions import override

from .progress import Progress

MOST_CALLERS: Final = 16
CALLER_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


class StatusServer(ThreadingHTTPServer):
    """Answers on `port` of every address; 0 takes a free one."""

    daemon_threads = True

    def __init__(self, port: int, progress: Progress) -> None:
        self.progress = progress
        self._callers = threading.BoundedSemaphore(MOST_CALLERS)
        self.address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        super().__init__(("", port), _Handler)

    @override
    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        if self._callers.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    @override
    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._callers.release()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: a caller that broke off is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: StatusServer
    timeout = CALLER_SECONDS
    server_version = "roundhouse-loader"
    sys_version = ""

    def do_GET(self) -> None:
        match self.path:
            case "/progress":
                body = json.dumps(self.server.progress.report().as_json())
            case "/healthz":
                body = '{"status":"ok"}'
            case _:
                self.send_error(404)
                return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    @override
    def log_message(self, *_: object) -> None:
        """Says nothing: the operator asks every few seconds."""


@contextmanager
def serving(port: int, progress: Progress) -> Iterator[None]:
    """Answer meanwhile. A port that is taken costs the progress, not the download."""
    try:
        server = StatusServer(port, progress)
    except OSError as error:
        log.warning("no progress to be asked for", extra={"port": port, "error": str(error)})
        yield
        return
    log.info("answering", extra={"port": server.server_port})
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
