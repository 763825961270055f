"""The gateway's settings: environment variables of prefix `ROUNDHOUSE_GATEWAY_`, with their defaults."""

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import DirectoryPath, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
GIB = 1 << 30
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,?#@]+")
STORE_SCHEMES = ("redis://", "rediss://", "unix://")


def own_namespace() -> str:
    """The namespace of the pod that this runs in, else `default`."""
    try:
        return SERVICE_ACCOUNT_NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"


class Settings(BaseSettings):
    """Every field is read from `ROUNDHOUSE_GATEWAY_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="ROUNDHOUSE_GATEWAY_", extra="forbid", frozen=True)

    namespace: str = Field(
        default_factory=own_namespace, description="The gateway's own namespace; default: that of its pod."
    )
    namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Namespaces to serve, in order, with commas: a name goes to the earliest that has it. "
        "Default: the own namespace.",
    )
    host: str = Field(default="0.0.0.0", description="Address to listen on.")  # noqa: S104 - a pod's port
    port: int = Field(default=8080, ge=0, le=65535, description="Port of the API; 0 takes a free one.")
    metrics_port: int = Field(
        default=8081,
        ge=0,
        le=65535,
        description="Port of `/metrics`, `/healthz` and `/readyz` for the cluster.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Processes that serve both ports together, each on a core; limits and metrics are those "
        "of all.",
    )
    aliases_enabled: bool = Field(
        default=True, description="Whether aliases are names that a client may use."
    )
    default_model: str = Field(
        default="auto", min_length=1, description="The model of a request that names none: an id, or `auto`."
    )
    body_limit_bytes: int = Field(
        default=GIB, ge=1, description="Longest request body; a longer one is answered 413."
    )
    json_limit_bytes: int = Field(
        default=32 << 20, ge=1024, description="Longest body of JSON; a longer one is answered 413."
    )
    json_depth_limit: int = Field(
        default=100, ge=1, description="How deep JSON may be nested; deeper is answered 400."
    )
    json_room_bytes: int = Field(
        default=256 << 20,
        ge=1024,
        description="Memory for all bodies of JSON together; 503 when it is full. Short forms of speech may "
        "take a quarter as much besides, and go the way of longer ones when that is full.",
    )
    fast_lane: bool = Field(
        default=True,
        description="Whether plain requests take a shorter way inside; the answers are the same.",
    )
    spool_dir: DirectoryPath | None = Field(
        default=None, description="Where forms wait whose file comes before `model`; default: the system's."
    )
    spool_limit_bytes: int = Field(
        default=2 * GIB, ge=0, description="Space on disk for all such forms together; 0 refuses them."
    )
    connection_limit: int = Field(
        default=10_000, ge=1, description="Connections of clients at once; one more is answered 503."
    )
    header_limit_bytes: int = Field(
        default=64 << 10,
        ge=1024,
        description="Longest line and headers of a request; longer is answered 431.",
    )
    header_seconds: float = Field(
        default=20, gt=0, description="How long a client may take to send them; longer is answered 408."
    )
    client_idle_seconds: float = Field(
        default=60,
        gt=0,
        le=3600,
        description="How long a client may send nothing of its upload, or take nothing of its answer.",
    )
    upload_bytes_per_second: int = Field(
        default=500,
        ge=0,
        description="Slowest upload, as a mean over `CLIENT_IDLE_SECONDS`; else 408.",
    )
    connect_timeout_seconds: float = Field(
        default=2, gt=0, description="How long connecting to one endpoint may take before the next is tried."
    )
    engine_idle_seconds: float = Field(
        default=1800, gt=0, description="How long an engine may take nothing and send nothing."
    )
    realtime_idle_seconds: float = Field(
        default=300, gt=0, description="How long the client of a realtime session may send nothing."
    )
    realtime_session_seconds: float = Field(
        default=14_400, gt=0, description="How long a realtime session may last."
    )
    hold_limit: int = Field(
        default=512, ge=0, description="How many requests may wait for models under `mode: Demand` at once."
    )
    hold_limit_per_variant: int = Field(default=128, ge=0, description="How many of them for the same model.")
    hold_comment_seconds: float = Field(
        default=10,
        gt=0,
        description="How often a request that asked for a stream and waits is sent a comment.",
    )
    keys_namespace: str = Field(
        default="",
        description="Namespace of the Secrets that hold API keys, and of nothing else. "
        "Empty: no key is asked for.",
    )
    limits_store_url: SecretStr = Field(
        default=SecretStr(""),
        description="`redis://` or `rediss://` URL of the Valkey or Redis in which several gateways keep the "
        "limits of keys together. Empty: each counts for itself.",
    )
    limits_store_away: Literal["open", "closed"] = Field(
        default="open",
        description="While that store does not answer: `open`, and each gateway counts for itself, or "
        "`closed`, and keys with limits are answered 503.",
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Networks of proxies, with commas, whose `X-Forwarded-For` and `X-Forwarded-Proto` "
        "count. Empty: nobody's.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins of web pages that may ask from a browser, with commas, such as "
        "`https://app.example.com`; `*` is all. Empty: none.",
    )
    tls_cert_file: Path | None = Field(
        default=None, description="Certificate and its chain, in PEM: the API's port then speaks TLS."
    )
    tls_key_file: Path | None = Field(default=None, description="The certificate's key, in PEM.")
    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://.+)?$",
        description="Collector that spans are exported to, by OTLP over HTTP. Empty: none are made.",
    )
    drain_delay_seconds: float = Field(
        default=3, ge=0, description="After SIGTERM: how long new connections are still taken while unready."
    )
    drain_seconds: float = Field(
        default=30, ge=0, description="After that: how long running requests may go on before they are cut."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="Form of a line of the log.")

    @field_validator("namespaces", "trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @field_validator("limits_store_url")
    @classmethod
    def _check_store(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url and not url.startswith(STORE_SCHEMES):
            raise ValueError(f"must begin with one of {', '.join(STORE_SCHEMES)}")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: write scheme, host and port, as a browser does")
        return value

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE go together: set both or none")
        return self

    @property
    def served_namespaces(self) -> tuple[str, ...]:
        return self.namespaces or (self.namespace,)
