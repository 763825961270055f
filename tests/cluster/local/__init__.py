"""A real Kubernetes on this machine, for tests and the demo. See docs/guides/local-cluster.md."""

from .errors import ClusterError
from .handle import Cluster, FakeNode
from .start import down, for_tests, start

__all__ = ["Cluster", "ClusterError", "FakeNode", "down", "for_tests", "start"]
