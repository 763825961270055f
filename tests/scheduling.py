"""Which worker of pytest-xdist takes which file next, where whole files are dealt out (`--dist loadfile`).

Of three, one begins with what needs a whole cluster, one with what needs a control plane, and one does what
needs neither, and nothing else. So each cluster is brought up, filled with images and installed into once.
What needs no cluster evens out the end; only when nothing else is left does one of the first two take what
wants the other's cluster.
"""

from typing import Final, Literal

from typing_extensions import override
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

Need = Literal["a whole cluster", "a control plane", "no cluster"]

# A file that is counted wrongly costs time and nothing else.
_WHOLE: Final = (
    "tests/e2e/",
    "tests/cluster/weights/",
    "tests/cluster/test_local_foreign.py",
    "tests/cluster/test_local_node.py",
)
_CONTROL_PLANE: Final = (
    "tests/cluster/operator/",
    "tests/cluster/test_chart_",
    "tests/cluster/test_local_",
    "tests/conformance/api/",
    "tests/conformance/gateway/test_control_plane.py",
)
_ORDERS: Final[tuple[tuple[Need, ...], ...]] = (
    ("a whole cluster", "no cluster", "a control plane"),
    ("a control plane", "no cluster", "a whole cluster"),
    ("no cluster",),
)


def need_of(path: str) -> Need:
    """By the path of a file of tests."""
    if path.startswith(_WHOLE):
        return "a whole cluster"
    return "a control plane" if path.startswith(_CONTROL_PLANE) else "no cluster"


def next_file(waiting: list[str], worker: int) -> str | None:
    """The first of those that this worker is to take before others; None where none is for it."""
    order = _ORDERS[worker % len(_ORDERS)]
    own = [path for path in waiting if need_of(path) in order]
    return min(own, key=lambda path: order.index(need_of(path)), default=None)


class ByCluster(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    @override
    def _assign_work_unit(self, node: WorkerController) -> None:
        """One more file, where one is for it; else it finishes what it has, and ends."""
        worker = int(node.gateway.id.removeprefix("gw"))
        path = next_file(list(self.workqueue), worker)
        if path is None:
            node.shutdown()
            return
        self.workqueue.move_to_end(path, last=False)
        super()._assign_work_unit(node)
