"""The operator's settings: environment variables of prefix `ROUNDHOUSE_OPERATOR_`, with their defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from roundhouse_operator.core.weights.loader import UNTOLD, LoaderImage

PREFIX: Final = "ROUNDHOUSE_OPERATOR_"
ALL_NAMESPACES: Final = "*"
_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "text"]


def own_namespace() -> str:
    """The namespace of the pod that this runs in, else `default`."""
    try:
        return _OWN_NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"


class Settings(BaseSettings):
    """Every field is read from `ROUNDHOUSE_OPERATOR_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    namespace: str = Field(
        default_factory=own_namespace,
        description="The operator's own namespace, where its Lease lies; default: that of its pod.",
    )
    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Namespaces to serve, with commas, or `*` for all. Default: the own namespace.",
    )
    release: str = Field(
        default="roundhouse",
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Name of this installation; part of the Lease's name and of the field manager.",
    )
    metrics_port: int = Field(
        default=8081,
        ge=0,
        le=65535,
        description="Port of `/metrics`, `/healthz` and `/readyz`; 0: any free one.",
    )
    lease_seconds: int = Field(
        default=10,
        ge=5,
        le=300,
        description="How long the Lease lasts without being renewed: so soon another takes over from one "
        "that was killed. A leader that cannot renew ends after seven tenths of it.",
    )
    workers: int = Field(default=16, ge=1, le=256, description="Passes over resources that run at once.")
    loader_image: str = Field(
        default=UNTOLD.image,
        description="Image of the loader, which fetches weights.",
    )
    loader_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = Field(
        default="", description="When the kubelet pulls the loader's image."
    )
    loader_env: Annotated[tuple[tuple[str, str], ...], NoDecode] = Field(
        default=(),
        description="Environment of every loader, as a JSON object: proxies, `HF_ENDPOINT`.",
    )
    loader_ca_certificates: str = Field(
        default="",
        description="Authorities that loaders believe beside the public ones, in PEM form.",
    )
    sweep_after_seconds: int = Field(
        default=600,
        ge=0,
        le=30 * 24 * 3600,
        description="How long fetched weights are kept that no variant wants any more.",
    )
    log_level: LogLevel = Field(default="info", description="Least severe level that is logged.")
    log_format: LogFormat = Field(default="json", description="Form of a line of the log.")

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @field_validator("loader_env", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if isinstance(value, str):
            value = json.loads(value or "{}")
        return tuple(sorted(value.items())) if isinstance(value, dict) else value

    @property
    def loader(self) -> LoaderImage:
        told = self.authorities if self.loader_ca_certificates else ""
        return LoaderImage(self.loader_image, self.loader_pull_policy, self.loader_env, told)

    @property
    def authorities(self) -> str:
        """The ConfigMap that holds the loaders' authorities, in each namespace that loads weights."""
        return f"roundhouse-{self.release}-loader"

    @property
    def served_namespaces(self) -> tuple[str, ...] | None:
        """None: all of them."""
        if ALL_NAMESPACES in self.namespaces:
            return None
        return self.namespaces or (self.namespace,)

    @property
    def field_manager(self) -> str:
        """Signs what this installation writes, so that two installations never overwrite each other."""
        return f"roundhouse/{self.namespace}/{self.release}"

    @property
    def lease(self) -> str:
        return f"roundhouse-{self.release}-operator"
