"""Files of tests go to the workers that have the clusters for them."""

from tests.scheduling import next_file

E2E, OPERATOR, CHART, GATEWAY, UNIT = (
    "tests/e2e/test_keys.py",
    "tests/cluster/operator/test_pods.py",
    "tests/cluster/test_chart_install.py",
    "tests/conformance/gateway/test_text.py",
    "tests/unit/test_tree.py",
)


def dealt(worker: int) -> list[str]:
    """The files in the order in which a worker that is alone takes them."""
    waiting, taken = [OPERATOR, CHART, GATEWAY, E2E, UNIT], []
    while (path := next_file(waiting, worker)) is not None:
        taken.append(path)
        waiting.remove(path)
    return taken


def test_each_begins_with_its_own_cluster_and_ends_with_the_others() -> None:
    assert dealt(0) == [E2E, GATEWAY, UNIT, OPERATOR, CHART]
    assert dealt(1) == [OPERATOR, CHART, GATEWAY, UNIT, E2E]
    assert dealt(3) == dealt(0)


def test_the_third_needs_no_cluster() -> None:
    assert dealt(2) == [GATEWAY, UNIT]
