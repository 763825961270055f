"""Where the weights of a model or of an adapter come from."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Len, MaxLen
from pydantic import Field

from roundhouse_api.enums import Allowance, SourceType, WeightFormat
from roundhouse_api.metadata import KeyRef, NameRef
from roundhouse_api.model import Model, Rule, camel_case
from roundhouse_api.quantity import Quantity
from roundhouse_api.scalars import Name, Repo, SetOf, Sha256, Url

Bucket = Annotated[str, Len(1, 63)]
Location = Annotated[str, MaxLen(512)]


class HuggingFaceSource(Model):
    """A repository of the Hugging Face Hub or of a mirror of it."""

    repo: Repo
    """The repository, for example Systran/faster-whisper-base."""
    revision: Annotated[str, Len(1, 100)] | None = None
    """Branch, tag or commit. Absent: main. A commit makes the weights reproducible."""
    include: Annotated[tuple[Annotated[str, Len(1, 200)], ...], SetOf(16)] = ()
    """Patterns of the files to fetch, for example *.safetensors. Absent: all that the format needs."""
    token_secret_ref: KeyRef | None = None
    """The token for a gated or private repository."""


class S3Source(Model):
    """A prefix of an S3 bucket or of a store that speaks S3."""

    bucket: Bucket
    """The bucket."""
    prefix: Location | None = None
    """Everything below it is fetched. Absent: the whole bucket."""
    endpoint_url: Url | None = Field(default=None, alias="endpointURL")
    """The store's address where it is not AWS."""
    region: Annotated[str, Len(1, 32)] | None = None
    """The bucket's region."""
    credentials_secret_ref: NameRef | None = None
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Absent: the pod's own identity."""


class GCSSource(Model):
    """A prefix of a Google Cloud Storage bucket."""

    bucket: Bucket
    """The bucket."""
    prefix: Location | None = None
    """Everything below it is fetched. Absent: the whole bucket."""
    credentials_secret_ref: NameRef | None = None
    """Secret with a service account's key under key.json. Absent: the pod's own identity."""


class OCISource(Model):
    """An image or artifact of a container registry that holds the weights."""

    image: Annotated[str, Len(1, 512)]
    """The reference, best by digest: registry.example.org/models/x@sha256:0a1b and so on."""
    path: Location | None = None
    """Directory inside of the image. Absent: its root."""
    pull_secret_ref: NameRef | None = None
    """Secret of type kubernetes.io/dockerconfigjson for a private registry."""


class HTTPSource(Model):
    """One file, or an archive that is unpacked."""

    url: Url
    """Where to fetch it. Without user or password: use `headersSecretRef`."""
    sha256: Sha256
    """Digest that the fetched bytes must have, in lower-case hex."""
    headers_secret_ref: NameRef | None = None
    """Secret of which each key is a request header."""


class PVCSource(Model):
    """A volume that already holds the weights; nothing is downloaded."""

    claim_name: Name
    """The PersistentVolumeClaim, in the same namespace. It is mounted read-only."""
    path: Location | None = None
    """Directory inside of the volume. Absent: its root."""


def _goes_with(member: str, kind: SourceType) -> Rule[Source]:
    """A rule for each, whose message names the member that is missing or too many."""
    name = camel_case(member)
    return Rule(
        f"(self.type == '{kind.value}') == has(self.{name})",
        f"`{name}` must be set exactly when `type` is {kind.value}",
        lambda source: (source.type is kind) == (getattr(source, member) is not None),
    )


class Source(Model):
    """Where weights come from. Exactly the member that `type` names is set."""

    type: SourceType
    """HuggingFace, S3, GCS, OCI, HTTP or PVC: the member of that name says the rest. Builtin: the
    engine's image carries the model."""
    format: WeightFormat | None = None
    """Format of the weights, matched with an engine's `formats`: CTranslate2, Safetensors, PyTorch,
    NeMo, GGUF, ONNX, Sphinx or Other."""
    hugging_face: HuggingFaceSource | None = None
    """A repository of the Hugging Face Hub."""
    s3: S3Source | None = None
    """A prefix of an S3 bucket."""
    gcs: GCSSource | None = None
    """A prefix of a Google Cloud Storage bucket."""
    oci: OCISource | None = None
    """An image or artifact of a container registry."""
    http: HTTPSource | None = None
    """A file by its address and digest."""
    pvc: PVCSource | None = None
    """A volume that already holds the weights."""
    size: Quantity | None = None
    """Space that the weights take on disk, for sizing the cache before they are fetched."""
    allow: Annotated[tuple[Allowance, ...], SetOf(4)] = ()
    """Risks taken knowingly. RemoteCode: the model's own Python code is run. UnsafeFormats: pickled
    weights, which can run code, are loaded."""

    hugging_face_goes_with_its_type: ClassVar[Rule[Any]] = _goes_with("hugging_face", SourceType.HUGGING_FACE)
    s3_goes_with_its_type: ClassVar[Rule[Any]] = _goes_with("s3", SourceType.S3)
    gcs_goes_with_its_type: ClassVar[Rule[Any]] = _goes_with("gcs", SourceType.GCS)
    oci_goes_with_its_type: ClassVar[Rule[Any]] = _goes_with("oci", SourceType.OCI)
    http_goes_with_its_type: ClassVar[Rule[Any]] = _goes_with("http", SourceType.HTTP)
    pvc_goes_with_its_type: ClassVar[Rule[Any]] = _goes_with("pvc", SourceType.PVC)
