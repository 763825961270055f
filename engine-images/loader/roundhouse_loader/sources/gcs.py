"""What lies below a prefix of a Google Cloud Storage bucket, or of an emulator (STORAGE_EMULATOR_HOST)."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Final, cast

import google.auth
import requests
import urllib3
from google.api_core import exceptions as faults
from google.auth import exceptions as logins
from google.cloud import storage

from roundhouse_loader.failure import LoadError, Reason, TransientError
from roundhouse_loader.listing import UNKNOWN, Algorithm, Digest, Listing, RemoteFile
from roundhouse_loader.partial import Sink
from roundhouse_loader.selection import choose
from roundhouse_loader.source import GCS, Source
from roundhouse_loader.web import TRANSIENT_STATUSES

from . import prefix

# Untyped, unlike its neighbours.
_from_key: Final[Any] = google.auth.load_credentials_from_dict
_SCOPES: Final = ("https://www.googleapis.com/auth/devstorage.read_only",)
_KEYS: Final = ("credentials.json", "key.json")


class GCSFetcher:
    """Fetches `place` with the key given, else with the pod's own identity, else as a stranger."""

    def __init__(
        self,
        place: GCS,
        source: Source,
        credentials: Mapping[str, str],
        timeout_seconds: float,
        *,
        emulated: bool,
    ) -> None:
        self._place = place
        self._source = source
        self._where = f"the GCS bucket {place.bucket!r}"
        self._timeout = (min(timeout_seconds, 30), timeout_seconds)
        self._client = _client(credentials, emulated=emulated)
        self._bucket = self._client.bucket(place.bucket)

    def listing(self) -> Listing:
        with self._errors():
            blobs = {prefix.relative(blob.name, self._place.prefix): blob for blob in self._blobs()}
        if not blobs:
            raise prefix.nothing("GCS", self._place.bucket, self._place.prefix)
        choice = choose(sorted(blobs), self._source)
        files = tuple(_file(path, blobs[path]) for path in choice.wanted)
        return Listing(prefix.revision(files), files, left_out=choice.left_out)

    def fetch(self, file: RemoteFile, sink: Sink, /) -> None:
        generation = int(file.identity)
        blob = self._bucket.blob(file.remote, generation=generation)
        sink.begin(sink.offset, UNKNOWN)
        with self._errors():
            blob.download_to_file(
                cast("IO[bytes]", sink),
                start=sink.offset or None,
                raw_download=True,
                checksum=None,
                retry=None,
                timeout=self._timeout,
            )

    def _blobs(self) -> list[storage.Blob]:
        below = prefix.folder(self._place.prefix)
        found = self._client.list_blobs(self._bucket, prefix=below, timeout=self._timeout, retry=None)
        blobs = [blob for blob in found if not prefix.is_folder_mark(blob.name)]
        if blobs or not below:
            return blobs
        itself = self._bucket.get_blob(below.rstrip("/"), timeout=self._timeout, retry=None)
        return [itself] if itself else []

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except faults.GoogleAPICallError as error:
            raise self._explained(error) from error
        except logins.TransportError as error:
            raise TransientError(f"{self._where}: no token: {error}") from error
        except logins.GoogleAuthError as error:
            raise self._unauthorized(str(error)) from error
        except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError) as error:
            raise TransientError(f"{self._where} ended the connection early", ended_early=True) from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
            raise TransientError(f"{self._where} cannot be reached ({error})") from error

    def _explained(self, error: faults.GoogleAPICallError) -> LoadError | TransientError:
        status = int(error.code or 0)
        if status in TRANSIENT_STATUSES:
            return TransientError(f"{self._where} answered {status}")
        if status == 404:
            return LoadError(
                Reason.SOURCE_NOT_FOUND,
                f"{self._where} does not exist, or lost a file during the download; check `gcs.bucket`",
            )
        if status in {401, 403}:
            return self._unauthorized(f"status {status}")
        return LoadError(Reason.SOURCE_UNREACHABLE, f"{self._where} answered {status}: {error.message}")

    def _unauthorized(self, what: str) -> LoadError:
        return LoadError(
            Reason.UNAUTHORIZED,
            f"{self._where} refuses the credentials ({what}); check the key in the Secret of "
            "`credentialsSecretRef`, and that its account may list and read objects",
        )


def _client(credentials: Mapping[str, str], *, emulated: bool) -> storage.Client:
    text = next((credentials[key] for key in _KEYS if key in credentials), None)
    if emulated and text is None:
        return storage.Client.create_anonymous_client()
    try:
        if text is None:
            identity, _ = google.auth.default(scopes=_SCOPES)
        else:
            identity, _ = _from_key(json.loads(text), scopes=_SCOPES)
    except logins.DefaultCredentialsError as error:
        if text is None:
            return storage.Client.create_anonymous_client()
        raise _no_key(error) from error
    except (ValueError, logins.GoogleAuthError) as error:
        raise _no_key(error) from error
    return storage.Client(project="none", credentials=identity)


def _no_key(error: Exception) -> LoadError:
    return LoadError(
        Reason.INVALID_SOURCE,
        "the Secret of `credentialsSecretRef` holds no Google key under credentials.json or key.json "
        f"({type(error).__name__}); put the JSON of a service account's key there",
    )


def _file(path: str, blob: storage.Blob) -> RemoteFile:
    if blob.content_encoding == "gzip":
        raise LoadError(
            Reason.INVALID_SOURCE,
            f"{blob.name!r} is stored with Content-Encoding gzip; upload it as it is (gcloud: no --gzip)",
        )
    digest = Digest(Algorithm.CRC32C, base64.b64decode(blob.crc32c).hex()) if blob.crc32c else None
    size = UNKNOWN if blob.size is None else int(blob.size)
    return RemoteFile(path, size, str(blob.generation or 0), blob.name, digest)
