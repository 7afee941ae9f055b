"""A plugin for pytest: skips tests whose service is missing, and lists at the end what to install for them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

#: How a reason to skip a test begins if a service is missing.
_MARK = "missing: "
#: What was used in place of a missing service, and how to get that one.
REPLACED = pytest.StashKey[str]()


def is_ci() -> bool:
    """Return whether a missing service is a failure."""
    return os.environ.get("CI") == "true"


def missing(what: object) -> None:
    """Skip the test, because a service is missing; in CI, fail. `what` says what is missing and how to get it."""
    if is_ci():
        pytest.fail(f"{_MARK}{what}", pytrace=False)
    pytest.skip(f"{_MARK}{what}")


def _skipped(config: pytest.Config) -> Counter[str]:
    """Return how many tests were skipped, by what they miss."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    reports = reporter.stats.get("skipped", ()) if reporter else ()
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in reports]
    return Counter(reason.removeprefix(_MARK) for reason in reasons if reason.startswith(_MARK))


# Innermost, so that it ends before pytest-cov compares the coverage with its limit.
@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, Any, Any]:
    """Do not judge the coverage if tests were skipped because a service is missing."""
    result = yield
    if (coverage := session.config.pluginmanager.getplugin("_cov")) and _skipped(session.config):
        coverage.options.cov_fail_under = 0
    return result


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the missing services."""
    skipped, replaced = _skipped(config), config.stash.get(REPLACED, None)
    if skipped or replaced:
        terminalreporter.section("services that are missing here")
    if replaced:
        terminalreporter.line(replaced)
    for what, count in skipped.most_common():
        terminalreporter.line(f"{count} {'test' if count == 1 else 'tests'} skipped: {what}")
    if skipped and config.pluginmanager.getplugin("_cov"):
        terminalreporter.line("The coverage is not judged, because not every test ran.")
