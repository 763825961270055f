"""The proxies that the gateway is held against, set up where they can be had: each a process of its own.

nginx and the load generator come from Debian, Go's proxy is built from the file beside this, LiteLLM gets an
environment of its own in the project's cache. What cannot be had here is said, and its figures are left out.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.machine import tree
from tests.cluster.local.build import toolchain
from tests.cluster.local.paths import cache_root
from tests.support import packages
from tests.support.ports import free_port
from tests.support.waiting import wait_until

LITELLM: Final = "litellm[proxy]==1.106.2"
INSTALL_SECONDS: Final = 300
MODEL: Final = "variant-0000"
CHAT: Final = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    '{"role":"assistant","content":"hello"},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}'
)
_NGINX: Final = """\
worker_processes {workers}; daemon off; master_process {master};
pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 8192; }}
http {{
  access_log {log}; client_max_body_size 0; client_body_buffer_size 128k; keepalive_requests 100000000;
  client_body_temp_path {folder}/{name}.1; proxy_temp_path {folder}/{name}.2;
  fastcgi_temp_path {folder}/{name}.3; uwsgi_temp_path {folder}/{name}.4; scgi_temp_path {folder}/{name}.5;
  default_type application/json; sendfile on; tcp_nopush on;
  {upstream}
  server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ {location} }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    pid: int
    port: int


@contextmanager
def backend(folder: Path) -> Iterator[Peer]:
    """An engine that takes no time: nginx with one answer to everything."""
    with _nginx(folder, "backend", f"return 200 '{CHAT}';", log="off") as peer:
        yield peer


@contextmanager
def nginx(folder: Path, backend_port: int, *, workers: int = 1) -> Iterator[Peer]:
    """The proxy that others are measured by, with its access log on as the gateway's is."""
    location = (
        'proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";'
        "proxy_buffering off; proxy_request_buffering off;"
    )
    upstream = f"upstream backend {{ server 127.0.0.1:{backend_port}; keepalive 256; }}"
    name = f"nginx{workers}"
    log = f"{folder}/{name}.log combined"
    with _nginx(folder, name, location, log=log, upstream=upstream, workers=workers) as peer:
        yield peer


@contextmanager
def nginx_file(folder: Path, content: bytes) -> Iterator[Peer]:
    """The same bytes from a file, whatever is asked."""
    (folder / "list.json").write_bytes(content)
    with _nginx(folder, "files", f"root {folder}; try_files /list.json =404;", log="off") as peer:
        yield peer


@contextmanager
def go_proxy(backend_port: int) -> Iterator[Peer]:
    tools, built = toolchain(print), cache_root() / "peers" / "reverse-proxy"
    built.parent.mkdir(parents=True, exist_ok=True)
    command = [str(tools.go), "build", "-o", str(built), "."]
    subprocess.run(command, cwd=Path(__file__).with_name("proxy"), env=tools.environment, check=True)
    port = free_port()
    arguments = [str(built), f"127.0.0.1:{port}", f"http://127.0.0.1:{backend_port}"]
    with running("go", arguments, port) as peer:
        yield peer


@contextmanager
def plain_proxy(backend_port: int) -> Iterator[Peer]:
    port = free_port()
    arguments = [
        sys.executable,
        "-m",
        "tests.bench.plain_proxy",
        str(port),
        f"http://127.0.0.1:{backend_port}",
    ]
    with running("fastapi", arguments, port) as peer:
        yield peer


@contextmanager
def copier(backend_port: int) -> Iterator[Peer]:
    """The least that a proxy on asyncio can cost: it looks at nothing."""
    port = free_port()
    arguments = [sys.executable, "-m", "tests.bench.copying", str(port), str(backend_port)]
    with running("copier", arguments, port) as peer:
        yield peer


@contextmanager
def litellm(folder: Path, backend_port: int) -> Iterator[Peer | None]:
    """None where it does not install within a few minutes."""
    home = installed("litellm", LITELLM)
    if home is None:
        yield None
        return
    config = folder / "litellm.yaml"
    upstream = f"http://127.0.0.1:{backend_port}/v1"
    config.write_text(
        f"model_list: [{{model_name: {MODEL}, litellm_params: "
        f"{{model: openai/m, api_base: '{upstream}', api_key: none}}}}]\n"
    )
    port = free_port()
    arguments = [
        str(home / "bin/litellm"),
        "--config",
        str(config),
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    quiet = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # so it checks no key at all
    }
    with running("litellm", arguments, port, environment=quiet, seconds=180) as peer:
        yield peer


def install_tools() -> None:
    packages.install(["nginx-light", "wrk"], purpose="the gateway's bench")


def installed(command: str, requirement: str) -> Path | None:
    """An environment of its own with this package and its command; None where it does not install here."""
    home = cache_root() / "peers" / command
    if (home / "bin" / command).exists():
        return home
    uv = shutil.which("uv") or next(iter(sorted(map(str, cache_root().glob("uv-*/bin/uv")))), "")
    steps = (
        [uv, "venv", "-q", str(home)],
        [uv, "pip", "install", "-q", "--python", str(home / "bin/python"), requirement],
    )
    try:
        for step in steps:
            subprocess.run(step, check=True, timeout=INSTALL_SECONDS, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{requirement} does not install here ({type(error).__name__}): not measured", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        return None
    return home


@contextmanager
def _nginx(
    folder: Path, name: str, location: str, *, log: str, upstream: str = "", workers: int = 1
) -> Iterator[Peer]:
    """One process; several are workers of one more, which would outlive it."""
    port = free_port()
    config = folder / f"{name}.conf"
    how = {"workers": workers, "master": "off" if workers == 1 else "on", "upstream": upstream}
    config.write_text(_NGINX.format(folder=folder, name=name, log=log, port=port, location=location, **how))
    arguments = ["/usr/sbin/nginx", "-p", str(folder), "-c", str(config)]
    with ExitStack() as afterwards, running(name, arguments, port) as peer:
        try:
            yield peer
        finally:
            for pid in [each for each in tree(peer.pid) if each != peer.pid]:
                afterwards.callback(_end, pid)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def running(
    name: str,
    arguments: list[str],
    port: int,
    *,
    environment: dict[str, str] | None = None,
    seconds: float = 60,
) -> Iterator[Peer]:
    """A server that listens on the port; killed at the end."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        arguments, env={**os.environ, **(environment or {})}, stdout=quiet, stderr=quiet
    ) as ran:
        try:
            wait_until(lambda: _listens(ran, port), seconds=seconds, what=f"{name} listens", every=0.1)
            yield Peer(name, ran.pid, port)
        finally:
            ran.kill()


def _listens(ran: "subprocess.Popen[bytes]", port: int) -> bool:
    if ran.poll() is not None:
        raise RuntimeError(f"{ran.args!r} has ended with {ran.returncode}")
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
