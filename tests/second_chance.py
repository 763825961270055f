"""A plugin of pytest: where SECOND_CHANCES is set, so many failures are forgiven, and told in full.

`make test` sets it. Thousands of tests start gateways, engines, operators and clusters on whatever machine
there is, and now and then one meets a pause that it was not written for: no change is turned away for that.
A test that failed is run again, at most twice, when the pause may be over. What failed stays a fault, of
the test or of what it tests, and is to be mended; where more fail at first than are forgiven, the run fails,
as it does where a test fails each time. Soaks have one chance.
"""

import os
from collections.abc import Sequence
from typing import Final

import pytest

MOST: Final = int(os.environ.get("SECOND_CHANCES", "0"))
_RERUNS: Final = 2
_DELAY_SECONDS: Final = float(os.environ.get("SECOND_CHANCE_DELAY_SECONDS", "5"))


def pytest_configure(config: pytest.Config) -> None:
    """Where all is broken, each test of thousands fails but once."""
    if MOST:
        config.option.max_suite_reruns = _RERUNS * MOST


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if MOST and not item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.flaky(reruns=_RERUNS, reruns_delay=_DELAY_SECONDS))


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
        terminalreporter.write_line(f"More than {MOST} failures: the run has failed.", red=True)


def _failed_at_first(config: pytest.Config) -> Sequence[pytest.TestReport]:
    """In the process that hears of all workers' tests; in a worker none."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("rerun", ()) if reporter else ()
