"""The commands that a person types. Parses and prints; the work is done in the modules it calls."""

import argparse
import sys
import time

from . import lifecycle
from .addresses import COUNT
from .build import ensure_binaries
from .errors import ClusterError


def main() -> None:
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except ClusterError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where this one was")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.local", description="A real Kubernetes on this machine."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str, *, numbered: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        if numbered:
            added.add_argument(
                "--number", type=int, default=0, help=f"which cluster, 0 to {COUNT - 1} (default 0)"
            )
        return added

    command("build", _build, "build what is missing of the cluster's binaries into the cache", numbered=False)
    added = command("up", _up, "bring a cluster up")
    added.add_argument(
        "--control-plane", action="store_true", help="no kubelet: API server, scheduler and fake nodes"
    )
    added = command("down", _down, "take a cluster down and leave nothing behind but the cache of binaries")
    added.add_argument("--all", action="store_true", help="every local cluster of this machine")
    command("env", _env, "print the shell lines that point tools at the cluster")
    command("status", _status, "print what runs", numbered=False)
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _build(arguments: argparse.Namespace) -> None:
    print(ensure_binaries(_say, full_check=True))


def _up(arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    layout = lifecycle.up(arguments.number, "control-plane" if arguments.control_plane else "full", _say)
    _say(f"cluster {arguments.number} is ready ({time.monotonic() - began:.1f} s)")
    print(f"export KUBECONFIG={layout.kubeconfig}")


def _down(arguments: argparse.Namespace) -> None:
    for number in lifecycle.known() if arguments.all else [arguments.number]:
        gone = lifecycle.down(number, _say)
        _say(f"cluster {number}: {'gone' if gone else 'there was none'}")


def _env(arguments: argparse.Namespace) -> None:
    layout = lifecycle.find(arguments.number)
    if layout is None:
        raise ClusterError(
            f"cluster {arguments.number} is not running: `python -m tests.cluster.local up --number {arguments.number}`"
        )
    print(f"export KUBECONFIG={layout.kubeconfig}")
    print(f"export ROUNDHOUSE_URL={layout.addresses.gateway_url}")


def _status(arguments: argparse.Namespace) -> None:
    for number in lifecycle.known():
        layout = lifecycle.find(number)
        if layout is None:
            print(
                f"cluster {number}: dead; `down --number {number}` removes what it left, `up` starts it anew"
            )
            continue
        print(
            f"cluster {number}: {layout.mode}, API server {layout.addresses.api_url}, KUBECONFIG={layout.kubeconfig}"
        )
        components = lifecycle.ask(layout, {"do": "status"})["components"]
        for name, state in components.items() if isinstance(components, dict) else []:
            print(
                f"  {name}: {'running' if state['pid'] else 'waiting to start again'}, {state['restarts']} restarts"
            )
