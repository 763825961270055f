"""Where weights come from: `ROUNDHOUSE_SOURCE`, the JSON of `spec.source` without its secrets. Pure.

Checks shape and values; whether the place exists is found out by `sources`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, cast
from urllib.parse import urlsplit

from .failure import LoadError, Reason

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class WeightFormat(StrEnum):
    """How weights are stored; the words are those of the API."""

    CTRANSLATE2 = "CTranslate2"
    SAFETENSORS = "Safetensors"
    PYTORCH = "PyTorch"
    NEMO = "NeMo"
    GGUF = "GGUF"
    ONNX = "ONNX"
    SPHINX = "Sphinx"
    OTHER = "Other"


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """A repository of the Hugging Face Hub or of a mirror of it."""

    repo: str
    revision: str = "main"
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class S3:
    """What lies below a prefix of a bucket; `endpoint_url` where the store is not AWS."""

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class GCS:
    """What lies below a prefix of a Google Cloud Storage bucket."""

    bucket: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class OCI:
    """A directory of an image, or an artifact, of a container registry."""

    image: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class HTTP:
    """A file, or an archive that is unpacked, and the digest of its bytes."""

    url: str
    sha256: str


Place = HuggingFace | S3 | GCS | OCI | HTTP


@dataclass(frozen=True, slots=True)
class Source:
    """A place, the format of what is there, and the risks that its user takes."""

    place: Place
    format: WeightFormat | None = None
    unsafe_formats: bool = False
    """Pickled weights, which can run code, may be loaded."""
    remote_code: bool = False
    """The model's own Python code may be run."""


def parse_source(text: str) -> Source:
    """The source that `text` describes; raises LoadError InvalidSource."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise _invalid("ROUNDHOUSE_SOURCE", f"is not JSON ({error})") from error
    if not isinstance(given, dict):
        raise _invalid("ROUNDHOUSE_SOURCE", "must be a JSON object, as `spec.source` is")
    allow = _texts(given, "allow", "allow")
    return Source(
        place=_place(given),
        format=_format(given),
        unsafe_formats="UnsafeFormats" in allow,
        remote_code="RemoteCode" in allow,
    )


def pinned(source: Source, revision: str) -> Source:
    """As it was when it was resolved to `revision`: what a branch or tag names may be another one by now.

    Places without such a name stay as they are, and so does all if `revision` is empty.
    """
    place = source.place
    if revision and isinstance(place, HuggingFace):
        return replace(source, place=replace(place, revision=revision))
    if revision and isinstance(place, OCI):
        return replace(source, place=replace(place, image=f"{_untagged(place.image)}@{revision}"))
    return source


def _untagged(image: str) -> str:
    """The repository, as in `registry.example.org:5000/models/kws`."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _place(given: Mapping[str, Any]) -> Place:
    match given.get("type"):
        case "HuggingFace":
            return _hugging_face(_member(given, "huggingFace"))
        case "S3":
            return _s3(_member(given, "s3"))
        case "GCS":
            member = _member(given, "gcs")
            return GCS(_text(member, "bucket", "gcs"), _text(member, "prefix", "gcs", ""))
        case "OCI":
            member = _member(given, "oci")
            return OCI(_text(member, "image", "oci"), _text(member, "path", "oci", "").strip("/"))
        case "HTTP":
            return _http(_member(given, "http"))
        case "PVC" | "Builtin" as kind:
            raise _invalid("type", f"is {kind}, and its weights are in place already: no loader is needed")
        case other:
            raise _invalid("type", f"is {other!r}; use HuggingFace, S3, GCS, OCI or HTTP")


def _hugging_face(member: Mapping[str, Any]) -> HuggingFace:
    return HuggingFace(
        repo=_text(member, "repo", "huggingFace"),
        revision=_text(member, "revision", "huggingFace", "main"),
        include=_texts(member, "include", "huggingFace.include"),
    )


def _s3(member: Mapping[str, Any]) -> S3:
    endpoint = _text(member, "endpointURL", "s3", "")
    if endpoint:
        _check_address(endpoint, "s3.endpointURL")
    return S3(
        bucket=_text(member, "bucket", "s3"),
        prefix=_text(member, "prefix", "s3", ""),
        endpoint_url=endpoint or None,
        region=_text(member, "region", "s3", "") or None,
    )


def _http(member: Mapping[str, Any]) -> HTTP:
    url, sha256 = _text(member, "url", "http"), _text(member, "sha256", "http")
    _check_address(url, "http.url")
    if not _SHA256.fullmatch(sha256):
        raise _invalid("http.sha256", f"is {sha256!r}; give 64 lower-case hexadecimal digits")
    return HTTP(url, sha256)


def _check_address(address: str, field: str) -> None:
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError as error:
        raise _invalid(field, f"is no address ({error})") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise _invalid(field, "must be an address that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise _invalid(field, "holds a user or password; put credentials into a Secret")


def _format(given: Mapping[str, Any]) -> WeightFormat | None:
    if (name := given.get("format")) is None:
        return None
    try:
        return WeightFormat(name)
    except ValueError:
        raise _invalid("format", f"is {name!r}; use one of {', '.join(WeightFormat)}") from None


def _member(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    member = given.get(name)
    if not isinstance(member, dict):
        raise _invalid(name, f"is missing, and `type` is {given['type']!r}")
    return cast("Mapping[str, Any]", member)


def _text(member: Mapping[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = member.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not (value or default is not None):
        raise _invalid(f"{where}.{name}", "must be a text and not empty")
    return value


def _texts(member: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = member.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _invalid(where, "must be a list of texts")
    return tuple(value)


def _invalid(field: str, problem: str) -> LoadError:
    where = field if field.startswith("ROUNDHOUSE_") else f"spec.source.{field}"
    return LoadError(Reason.INVALID_SOURCE, f"{where} {problem}")
