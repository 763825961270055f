"""Where the weights of a model or of an adapter come from."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Len, MaxLen
from pydantic import Field

from roundhouse_api.enums import Allowance, SourceType, WeightFormat
from roundhouse_api.metadata import KeyRef, NameRef
from roundhouse_api.model import Model, rule
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

    _MEMBERS: ClassVar[dict[SourceType, str]] = {
        SourceType.HUGGING_FACE: "hugging_face",
        SourceType.S3: "s3",
        SourceType.GCS: "gcs",
        SourceType.OCI: "oci",
        SourceType.HTTP: "http",
        SourceType.PVC: "pvc",
    }

    @rule(
        "(self.type == 'HuggingFace') == has(self.huggingFace) && (self.type == 'S3') == has(self.s3)"
        " && (self.type == 'GCS') == has(self.gcs) && (self.type == 'OCI') == has(self.oci)"
        " && (self.type == 'HTTP') == has(self.http) && (self.type == 'PVC') == has(self.pvc)",
        "exactly the member named by `type` must be set",
    )
    def member_matches_type(self) -> bool:
        return all(
            (self.type is kind) == (getattr(self, member) is not None)
            for kind, member in self._MEMBERS.items()
        )
