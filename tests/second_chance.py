"""A plugin of pytest: where SECOND_CHANCES is set, so many tests that failed are run again, and told in full.

`make test` sets it. Thousands of tests start gateways, engines, operators and clusters on whatever machine
there is, and now and then one meets a pause that it was not written for: no change is turned away for that.
It stays a fault, of the test or of what it tests, and is to be mended; where more fail at first than have a
chance, the run fails. Tests within one process (tests/unit) and soaks have none.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

MOST: Final = int(os.environ.get("SECOND_CHANCES", "0"))
IN_ONE_PROCESS: Final = Path(__file__).parent / "unit"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if MOST and not item.path.is_relative_to(IN_ONE_PROCESS) and not item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK and len(_failed_at_first(session.config)) > MOST:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    failed = _failed_at_first(terminalreporter.config)
    if not failed:
        return
    terminalreporter.section(f"{len(failed)} FAILED AT FIRST: mend them, or what they test", red=True)
    for report in failed:
        terminalreporter.section(report.nodeid, sep="-", red=True)
        terminalreporter.write_line(report.longreprtext)
    if len(failed) > MOST:
        terminalreporter.write_line(f"More than {MOST} tests failed at first: the run has failed.", red=True)


def _failed_at_first(config: pytest.Config) -> Sequence[pytest.TestReport]:
    """In the process that hears of all workers' tests; in a worker none."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("rerun", ()) if reporter else ()
