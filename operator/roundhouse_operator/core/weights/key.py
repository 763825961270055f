"""The key of weights: their name in a cache, the same for every variant that may share the copy.

Made of namespace, credential and source, so that nobody is given weights that only another's token may
fetch. The keys of a release are those of every later one: a key that changes fetches everything anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Source
from roundhouse_operator.core.effective import source_name

WORD_LENGTH: Final = 24
DIGEST_LENGTH: Final = 16
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Credential:
    """A Secret, and under which file names the loader gets its keys; none: each under its own."""

    secret: str
    files: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> str:
        keys = ", ".join(repr(key) for key, _ in self.files)
        return f"Secret {self.secret!r}" + (f", key {keys}" if keys else "")


def credential(source: Source) -> Credential | None:
    """What the source is to be asked with."""
    if source.hugging_face and (token := source.hugging_face.token_secret_ref):
        return Credential(token.name, ((token.key, "token"),))
    if source.s3 and (keys := source.s3.credentials_secret_ref):
        return Credential(keys.name)
    if source.gcs and (account := source.gcs.credentials_secret_ref):
        return Credential(account.name, (("key.json", "credentials.json"),))
    if source.oci and (pull := source.oci.pull_secret_ref):
        return Credential(pull.name, ((".dockerconfigjson", ".dockerconfigjson"),))
    if source.http and (headers := source.http.headers_secret_ref):
        return Credential(headers.name)
    return None


def weights_key(namespace: str, source: Source) -> str:
    """A directory's name and a label's value: a word for people, and a digest."""
    secret = credential(source)
    what = [namespace, _identity(source), secret and [secret.secret, *(key for key, _ in secret.files)]]
    digest = _digest(json.dumps(what, separators=(",", ":"), sort_keys=True))
    return f"{_word(source)}-{digest[:DIGEST_LENGTH]}"


def store_name(key: str, place: str) -> str:
    """Of the objects that belong to the weights of a key in one place."""
    return f"weights-{key.rpartition('-')[0]}-{_digest(f'{key} {place}')[:12]}"


def movable(source: Source) -> bool:
    """Whether the source names something that may be another tomorrow, and that can be fetched as it was."""
    if source.hugging_face:
        return not _COMMIT.fullmatch(source.hugging_face.revision or "")
    return source.oci is not None and "@sha256:" not in source.oci.image


def _identity(source: Source) -> Manifest:
    """Field by field, because a default that is written out names the same weights."""
    said: Manifest = {"type": source.type.value, "allow": sorted(one.value for one in source.allow)}
    if one := source.hugging_face:
        said |= {"repo": one.repo, "revision": one.revision or "main", "include": sorted(one.include)}
        if not one.include:  # then the format decides which files are fetched
            said["format"] = source.format.value if source.format else None
    elif bucket := source.s3:
        said |= {"bucket": bucket.bucket, "prefix": (bucket.prefix or "").strip("/")}
        said |= {"endpoint": (bucket.endpoint_url or "").rstrip("/"), "region": bucket.region}
    elif store := source.gcs:
        said |= {"bucket": store.bucket, "prefix": (store.prefix or "").strip("/")}
    elif image := source.oci:
        said |= {"image": image.image, "path": (image.path or "").strip("/")}
    elif file := source.http:
        said |= {"url": file.url, "sha256": file.sha256}
    return said


def _word(source: Source) -> str:
    last = (source_name(source) or "").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9]+", "-", last)[:WORD_LENGTH].strip("-") or source.type.value.lower()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
