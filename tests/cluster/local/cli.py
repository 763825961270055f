"""The commands that a person types. Parses and prints; the work is done in the modules it calls."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator

from . import claims, exposing, foreign, lifecycle, loading
from .addresses import COUNT, addresses
from .build import ensure_binaries
from .errors import ClusterError
from .layout import Layout, Mode
from .packages import install_packages
from .paths import cache_root
from .processes import say_to_stderr as say

Command = Callable[[argparse.Namespace], None]
PROGRAM = "python -m tests.cluster.local"
NUMBER_VARIABLE = "ROUNDHOUSE_CLUSTER"


def main() -> None:
    arguments = _parser().parse_args()
    command: Command = arguments.run
    try:
        command(arguments)
    except (ClusterError, OSError) as error:
        # A full disk, for one, comes as the system's own error, which names the file.
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where this one was")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Command, text: str, *, numbered: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        if numbered:
            added.add_argument(
                "--number",
                type=int,
                default=os.environ.get(NUMBER_VARIABLE, "0"),
                help=f"which cluster, 0 to {COUNT - 1} (default: {NUMBER_VARIABLE}, else 0)",
            )
        return added

    def take_mode(added: argparse.ArgumentParser) -> None:
        added.add_argument("--control-plane", action="store_true", help="no kubelet, but fake nodes")

    take_mode(add("install", _install, "install the system packages that a cluster needs", numbered=False))
    add("build", _build, "build what is missing of the binaries into the cache", numbered=False)
    take_mode(add("up", _up, "bring a cluster up"))
    added = add("down", _down, "end a cluster and leave nothing but the cache of binaries")
    added.add_argument("--all", action="store_true", help="every cluster of this machine that no tests use")
    add("env", _env, "print the shell lines that point tools at the cluster")
    add("status", _status, "print what runs", numbered=False)
    added = add("load", _load, "put image archives into the cluster")
    added.add_argument(
        "archives", nargs="+", metavar="ARCHIVE", help="docker or OCI archive, or - for standard input"
    )
    added = add("expose", _expose, "forward a port of 127.0.0.1 to a Service")
    added.add_argument("--service", required=True, metavar="NAMESPACE/NAME")
    added.add_argument("--port", type=int, help="on 127.0.0.1 (default: the one that `env` prints)")
    added.add_argument("--target", metavar="PORTNAME", help="which port of the Service (default: its first)")
    return parser


def _install(arguments: argparse.Namespace) -> None:
    install_packages(_mode(arguments), say)


def _build(_: argparse.Namespace) -> None:
    print(ensure_binaries(say, full_check=True))


def _up(arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    context = foreign.named_context()
    if context:
        foreign.connect(context, say)
        say(f"using the kube context {context!r}, as {foreign.VARIABLE} says")
    else:
        layout = lifecycle.up(arguments.number, _mode(arguments), say)
        say(f"cluster {layout.addresses.number} is ready ({time.monotonic() - began:.1f} s)")
    _env(arguments)


def _down(arguments: argparse.Namespace) -> None:
    context = foreign.named_context()
    if context:
        gone = foreign.disconnect(context)
        say(f"the cluster of context {context!r} is left alone{'; its forwarders are gone' if gone else ''}")
        return
    for number in _unused(lifecycle.known()) if arguments.all else [arguments.number]:
        gone = lifecycle.down(number, say)
        say(f"cluster {number}: {'gone' if gone else 'there was none'}")
    if left := lifecycle.known():
        numbers = ", ".join(map(str, left))
        say(f"clusters of other numbers stay: {numbers}; `{PROGRAM} down --all` ends those that no tests use")
    say(f"the binaries stay for the next time: {cache_root()}")


def _unused(numbers: list[int]) -> Iterator[int]:
    for number in numbers:
        try:
            claims.refuse_while_used(number)
        except ClusterError as error:
            say(str(error))
        else:
            yield number


def _env(arguments: argparse.Namespace) -> None:
    context = foreign.named_context()
    cluster = foreign.connect(context, say) if context else _running(arguments.number)
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"export ROUNDHOUSE_URL={addresses(arguments.number).gateway_url}")
    # kubectl and helm of the cluster's own version; the person may have none.
    print(f"export PATH={cluster.binaries}:$PATH")


def _status(_: argparse.Namespace) -> None:
    context = foreign.named_context()
    if context:
        print(f"context {context!r}, named by {foreign.VARIABLE}")
        for port, holder in foreign.forwards(context).items():
            print(f"  127.0.0.1:{port}: {holder or 'nobody listens yet'}")
    known = lifecycle.known()
    for number in known:
        _print_status(number)
    if not known and not context:
        print(f"no local cluster; `{PROGRAM} up` makes one")


def _print_status(number: int) -> None:
    layout = lifecycle.find(number)
    if layout is None:
        print(f"cluster {number}: dead; `down --number {number}` removes what it left, `up` starts it anew")
        return
    own = layout.addresses
    print(f"cluster {number} ({layout.mode}): API server {own.api_url}, KUBECONFIG={layout.kubeconfig}")
    try:
        components = lifecycle.components(layout)
    except OSError:
        print("  not ready yet")
        return
    for name, state in components.items():
        doing = "running" if state["pid"] else "waiting to start again"
        print(f"  {name}: {doing}, {state['restarts']} restarts")


def _load(arguments: argparse.Namespace) -> None:
    context = foreign.named_context()
    if context:
        raise ClusterError(
            f"images cannot be loaded into the cluster of context {context!r}: push them to a registry that "
            f"it pulls from, and name that registry in the chart's image.registry"
        )
    loading.load(_running(arguments.number), arguments.archives, say)


def _expose(arguments: argparse.Namespace) -> None:
    namespace, slash, service = arguments.service.partition("/")
    if not (namespace and slash and service):
        raise ClusterError(f"--service is NAMESPACE/NAME, not {arguments.service!r}")
    port = arguments.port or addresses(arguments.number).gateway_port_on_host
    context = foreign.named_context()
    if context:
        address = foreign.expose(foreign.connect(context, say), namespace, service, port, arguments.target)
    else:
        address = exposing.expose(_running(arguments.number), namespace, service, port, arguments.target)
    print(f"http://{address}")


def _mode(arguments: argparse.Namespace) -> Mode:
    return "control-plane" if arguments.control_plane else "full"


def _running(number: int) -> Layout:
    layout = lifecycle.find(number)
    if layout is None:
        raise ClusterError(f"cluster {number} is not running: `{PROGRAM} up --number {number}`")
    return layout
