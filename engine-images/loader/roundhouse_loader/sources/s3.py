"""What lies below a prefix of an S3 bucket, or of any store that speaks S3."""

import base64
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from botocore import UNSIGNED
from botocore import exceptions as faults
from botocore.config import Config
from botocore.session import get_session

from roundhouse_loader.failure import LoadError, Reason, TransientError
from roundhouse_loader.listing import UNKNOWN, Algorithm, Digest, Listing, RemoteFile
from roundhouse_loader.partial import Sink
from roundhouse_loader.selection import choose
from roundhouse_loader.source import S3, Source
from roundhouse_loader.web import TRANSIENT_STATUSES

from . import prefix

_Client = Any  # botocore makes its class when it is asked for one

CHUNK_BYTES: Final = 64 << 10
_MD5: Final = re.compile(r'"?([0-9a-f]{32})"?')
_TOTAL: Final = re.compile(r"bytes \d+-\d+/(\d+)")
_CHECKSUMS: Final = (
    ("ChecksumSHA256", Algorithm.SHA256),
    ("ChecksumCRC32C", Algorithm.CRC32C),
    ("ChecksumCRC32", Algorithm.CRC32),
)
_TRANSIENT_CODES: Final = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"}
_REGION_CODES: Final = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}


class S3Fetcher:
    """Fetches `place` with the credentials given, else with the pod's own identity, else as a stranger."""

    def __init__(
        self,
        place: S3,
        source: Source,
        credentials: Mapping[str, str],
        timeout_seconds: float,
        environ: MutableMapping[str, str],
    ) -> None:
        self._place = place
        self._source = source
        self._where = f"the S3 bucket {place.bucket!r}" + (
            f" at {place.endpoint_url}" if place.endpoint_url else ""
        )
        with self._errors():
            self._client = _client(place, credentials, timeout_seconds, environ)

    def listing(self) -> Listing:
        with self._errors():
            keys = self._keys()
            paths = {prefix.relative(key, self._place.prefix): key for key in keys}
            if not paths:
                raise prefix.nothing("S3", self._place.bucket, self._place.prefix)
            choice = choose(sorted(paths), self._source)
            files = tuple(self._file(path, paths[path]) for path in choice.wanted)
        return Listing(prefix.revision(files), files, left_out=choice.left_out)

    def fetch(self, file: RemoteFile, sink: Sink, /) -> None:
        asked: dict[str, str] = {"Range": f"bytes={sink.offset}-"} if sink.offset else {}
        with self._errors():
            found = self._client.get_object(
                Bucket=self._place.bucket, Key=file.remote, IfMatch=file.identity, **asked
            )
            total = _TOTAL.fullmatch(found.get("ContentRange", ""))
            start = sink.offset if total else 0
            sink.begin(start, int(total[1]) if total else found.get("ContentLength", UNKNOWN))
            for data in found["Body"].iter_chunks(CHUNK_BYTES):
                sink.write(data)

    def _keys(self) -> list[str]:
        below = prefix.folder(self._place.prefix)
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._place.bucket, Prefix=below
        )
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        keys = [key for key in keys if not prefix.is_folder_mark(key)]
        return keys or self._itself()

    def _itself(self) -> list[str]:
        """The object that the prefix names, where it is no folder."""
        key = self._place.prefix.strip("/")
        if not key:
            return []
        try:
            self._client.head_object(Bucket=self._place.bucket, Key=key)
        except faults.ClientError as error:
            if _status(error) == 404:
                return []
            raise
        return [key]

    def _file(self, path: str, key: str) -> RemoteFile:
        found = self._client.head_object(Bucket=self._place.bucket, Key=key, ChecksumMode="ENABLED")
        return RemoteFile(path, found["ContentLength"], found["ETag"], key, _digest(found))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except faults.ClientError as error:
            raise self._explained(error) from error
        except (faults.NoCredentialsError, faults.PartialCredentialsError) as error:
            raise self._unauthorized(str(error)) from error
        except (faults.ParamValidationError, ValueError) as error:
            raise LoadError(Reason.INVALID_SOURCE, f"{self._where} cannot be asked for: {error}") from error
        except (faults.HTTPClientError, faults.IncompleteReadError, faults.ResponseStreamingError) as error:
            early = isinstance(error, (faults.IncompleteReadError, faults.ResponseStreamingError))
            raise TransientError(f"{self._where}: {error}", ended_early=early) from error
        except faults.BotoCoreError as error:
            raise TransientError(f"{self._where}: {error}") from error

    def _explained(self, error: faults.ClientError) -> LoadError | TransientError:
        status, code = _status(error), str(error.response.get("Error", {}).get("Code", ""))
        if status in TRANSIENT_STATUSES or code in _TRANSIENT_CODES:
            return TransientError(f"{self._where} answered {status} {code}")
        if code in _REGION_CODES or status in {301, 307}:
            return LoadError(
                Reason.INVALID_SOURCE, f"{self._where} is in another region ({code}); set `s3.region`"
            )
        if status == 412:
            return LoadError(
                Reason.DIGEST_MISMATCH, f"{self._where} changed during the download", retryable=True
            )
        if status == 404 or code in {"NoSuchBucket", "NoSuchKey"}:
            what = "does not exist" if code == "NoSuchBucket" else f"has not what `prefix` names ({code})"
            return LoadError(Reason.SOURCE_NOT_FOUND, f"{self._where} {what}; check `bucket` and `prefix`")
        return self._unauthorized(f"{status} {code}")

    def _unauthorized(self, what: str) -> LoadError:
        return LoadError(
            Reason.UNAUTHORIZED,
            f"{self._where} refuses the credentials ({what}); check AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY in the Secret of `credentialsSecretRef`, and that they may list and read",
        )


def _client(
    place: S3, credentials: Mapping[str, str], timeout_seconds: float, environ: MutableMapping[str, str]
) -> _Client:
    if place.endpoint_url:
        # Amazon's address for a machine's identity is no part of another maker's store.
        environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    session = get_session()
    given = {
        "aws_access_key_id": credentials.get("AWS_ACCESS_KEY_ID"),
        "aws_secret_access_key": credentials.get("AWS_SECRET_ACCESS_KEY"),
        "aws_session_token": credentials.get("AWS_SESSION_TOKEN"),
    }
    stranger = not given["aws_access_key_id"] and session.get_credentials() is None
    config = Config(
        signature_version=UNSIGNED if stranger else None,
        connect_timeout=min(timeout_seconds, 30),
        read_timeout=timeout_seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": "path" if place.endpoint_url else "auto"},
        response_checksum_validation="when_required",
        max_pool_connections=32,
    )
    region = place.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return session.create_client(
        "s3", region_name=region, endpoint_url=place.endpoint_url, config=config, **given
    )


def _digest(found: Mapping[str, Any]) -> Digest | None:
    """The strongest that the store has of the whole object; its ETag is an MD5 only where nothing says no."""
    if found.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
        for name, algorithm in _CHECKSUMS:
            # That of an object in parts is a digest of digests, marked by `-` and their number.
            if (value := found.get(name)) and "-" not in value:
                return Digest(algorithm, base64.b64decode(value).hex())
    plain = found.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in found
    tag = _MD5.fullmatch(found.get("ETag", ""))
    return Digest(Algorithm.MD5, tag[1]) if plain and tag else None


def _status(error: faults.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
