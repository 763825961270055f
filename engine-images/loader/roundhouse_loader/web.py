"""HTTP as all sources use it: streams into a sink, redirects without leaking credentials, errors sorted.

What may pass (a 5xx, a 429, a broken connection) becomes a TransientError here; what a refusal means, the
source that asked says itself, by `RefusedError`.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

import httpx2

from .failure import LoadError, Reason, TransientError
from .listing import UNKNOWN
from .partial import CHUNK_BYTES, Sink
from .redact import shown

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
MOST_REDIRECTS: Final = 5
MOST_TEXT_BYTES: Final = 8 << 20
"""A manifest or a token may be so long."""
TRANSIENT_STATUSES: Final = {408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529}
_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class RefusedError(Exception):
    """The source answered with a status that will not pass: 401, 403, 404 …"""

    def __init__(self, url: str, status: int, headers: httpx2.Headers, body: str) -> None:
        super().__init__(f"{shown(url)} answered {status}")
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body


class Web:
    """A client for all threads. It keeps no cookies and no credentials of its own."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        timeout = httpx2.Timeout(timeout_seconds, connect=min(timeout_seconds, 30.0))
        self.client = httpx2.Client(timeout=timeout, headers={"User-Agent": "roundhouse-loader"})

    def download(self, url: str, sink: Sink, *, secret_headers: Mapping[str, str] = NOTHING) -> None:
        """Write what is at `url` into `sink`, from where it stands."""
        headers = {"Accept-Encoding": "identity"}
        if sink.offset:
            headers["Range"] = f"bytes={sink.offset}-"
        with self.stream("GET", url, headers=headers, secret_headers=secret_headers) as response:
            if response.status_code == 416:
                _past_the_end(response, sink)
                return
            _begin(response, sink)
            for data in response.iter_raw():
                sink.write(data)

    def text(
        self, url: str, *, headers: Mapping[str, str] = NOTHING, secret_headers: Mapping[str, str] = NOTHING
    ) -> tuple[bytes, httpx2.Headers]:
        """A short body, and its headers."""
        with self.stream("GET", url, headers=headers, secret_headers=secret_headers) as response:
            body = bytearray()
            for data in response.iter_bytes(CHUNK_BYTES):
                body += data
                if len(body) > MOST_TEXT_BYTES:
                    raise LoadError(
                        Reason.INVALID_SOURCE,
                        f"{shown(url)} answers with more than {MOST_TEXT_BYTES} bytes where a description "
                        "of the weights is expected; check the address",
                    )
            return bytes(body), response.headers

    def post(self, url: str, form: Mapping[str, str]) -> bytes:
        """The short answer to a form, which may hold secrets."""
        with connection_errors(url), self.client.stream("POST", url, data=dict(form)) as response:
            _check(url, response)
            return b"".join(response.iter_bytes())

    @staticmethod
    def with_query(url: str, query: Mapping[str, str]) -> str:
        return str(httpx2.URL(url).copy_merge_params(dict(query)))

    @contextmanager
    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], secret_headers: Mapping[str, str]
    ) -> Iterator[httpx2.Response]:
        """The answer after redirects; raises TransientError or RefusedError where it is none of use."""
        secrets = dict(secret_headers)
        for _ in range(MOST_REDIRECTS + 1):
            with (
                connection_errors(url),
                self.client.stream(method, url, headers={**headers, **secrets}) as response,
            ):
                if not response.is_redirect:
                    _check(url, response)
                    yield response
                    return
                target = str(response.url.join(response.headers["Location"]))
            if not _same_origin(url, target):
                secrets = {}
            _check_redirect(url, target)
            url = target
        raise LoadError(
            Reason.SOURCE_UNREACHABLE,
            f"{shown(url)} redirects more than {MOST_REDIRECTS} times",
            retryable=True,
        )


@contextmanager
def connection_errors(url: str) -> Iterator[None]:
    """Broken connections and silence become TransientError."""
    where = httpx2.URL(url).netloc.decode().rpartition("@")[2]
    try:
        yield
    except httpx2.TimeoutException as error:
        raise TransientError(f"{where} did not answer in time ({type(error).__name__})") from error
    except httpx2.RemoteProtocolError as error:
        raise TransientError(f"{where} ended the connection early ({error})", ended_early=True) from error
    except httpx2.UnsupportedProtocol as error:
        raise LoadError(Reason.INVALID_SOURCE, f"{shown(url)} cannot be fetched ({error})") from error
    except httpx2.TransportError as error:
        raise TransientError(f"{where} cannot be reached ({str(error) or type(error).__name__})") from error
    except httpx2.DecodingError as error:
        raise TransientError(f"{where} sent a body that cannot be decoded ({error})") from error


def retry_after(headers: httpx2.Headers) -> float:
    """The seconds that the source asks to wait; 0 where it names none."""
    wait = headers.get("Retry-After", "")
    return float(wait) if wait.isdecimal() else 0.0


def _check(url: str, response: httpx2.Response) -> None:
    status = response.status_code
    if status in {200, 206, 416}:
        return
    if status in TRANSIENT_STATUSES:
        raise TransientError(f"{shown(url)} answered {status}", wait_seconds=retry_after(response.headers))
    raise RefusedError(url, status, response.headers, _start(response))


def _start(response: httpx2.Response) -> str:
    for data in response.iter_bytes(4096):
        return data.decode(errors="replace")
    return ""


def _begin(response: httpx2.Response, sink: Sink) -> None:
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdecimal() else UNKNOWN
    if response.status_code == 200:
        sink.begin(0, size)
        return
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None or found[1] is None or int(found[1]) != sink.offset:
        raise TransientError(f"{shown(str(response.url))} answers with another range than it was asked for")
    sink.begin(sink.offset, UNKNOWN if found[3] == "*" else int(found[3]))


def _past_the_end(response: httpx2.Response, sink: Sink) -> None:
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    total = int(found[3]) if found and found[3] != "*" else UNKNOWN
    if total == sink.offset:
        sink.begin(sink.offset, total)
        return
    # What was fetched so far is longer than what is there: it was something else.
    sink.begin(0, total)
    raise TransientError(f"{shown(str(response.url))} has fewer bytes than were fetched of it")


def _same_origin(one: str, other: str) -> bool:
    first, second = httpx2.URL(one), httpx2.URL(other)
    return (first.scheme, first.netloc) == (second.scheme, second.netloc)


def _check_redirect(url: str, target: str) -> None:
    if url.startswith("https:") and not target.startswith("https:"):
        raise LoadError(
            Reason.INVALID_SOURCE,
            f"{shown(url)} redirects to {shown(target)}, which is not encrypted; use an address that is",
        )
