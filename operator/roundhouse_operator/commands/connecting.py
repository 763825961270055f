"""What commands that read a cluster have in common: options, the connection, and how failing is told."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import yaml

from roundhouse_operator.cluster import Cluster
from roundhouse_operator.commands.exits import FAILURE, complain
from roundhouse_operator.configuration import SERVICE_ACCOUNT, load_configuration
from roundhouse_operator.errors import ClusterError, ConfigurationError
from roundhouse_operator.settings import own_namespace

NOT_SO: Final = 3
"""The question was answered, and the answer is no: not ready, or it would be refused."""


def add_options(parser: argparse.ArgumentParser) -> None:
    # Unset, it leaves the one that stands before the command, as kubectl has it too.
    parser.add_argument(
        "-n", "--namespace", default=argparse.SUPPRESS, help="default: that of the kubeconfig's context"
    )
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")


def ask(
    arguments: argparse.Namespace, field_manager: str, question: Callable[[Cluster, str], Awaitable[int]]
) -> int:
    """The exit status of `question`, which gets a connection and the namespace."""
    namespace = arguments.namespace or _context_namespace()

    async def asked() -> int:
        cluster = Cluster(await load_configuration(), field_manager=field_manager)
        try:
            return await question(cluster, namespace)
        finally:
            await cluster.close()

    try:
        return asyncio.run(asked())
    except ConfigurationError as error:
        return complain(f"No cluster to talk to: {error}", FAILURE)
    except ClusterError as error:
        return complain(f"The cluster does not answer as it should: {error}", FAILURE)


def _context_namespace() -> str:
    """As kubectl has it; in a pod, its own."""
    if "KUBECONFIG" not in os.environ and SERVICE_ACCOUNT.exists():
        return own_namespace()
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    path = Path(named) if named else Path.home() / ".kube/config"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError):
        return "default"
    contexts = {one.get("name"): one.get("context") or {} for one in config.get("contexts") or ()}
    return str(contexts.get(config.get("current-context"), {}).get("namespace") or "default")
