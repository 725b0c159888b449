"""How a test run reports, and when it gives a test up. Fixtures live beside the tests that use them.

--brief      one line a test file, with its counts and seconds; failures are told in full at the end, as always
--no-skips   a skipped test fails the run: on a machine that has everything, it would be a hole that nobody sees
"""

import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(Path(__file__).parents[1] / ".cache" / "hypothesis")  # beside the other tools' caches

# Setup, call and teardown of a test each. The slowest (a mesh of 20 daemons on two busy cores) takes a fifth of it.
PHASE_SECONDS_MAX = 180.0


def pytest_addoption(parser):
    group = parser.getgroup("bdserver")
    group.addoption("--brief", action="store_true", help="one line a test file; failures in full")
    group.addoption("--no-skips", action="store_true", help="a skipped test fails the run")


def pytest_configure(config):
    if config.option.brief:
        os.environ.pop("CI", None)  # with it, pytest tells a difference of two long lists in as many lines
        config.pluginmanager.register(Brief())
    if config.option.no_skips:
        config.pluginmanager.register(NoSkips())


# --- giving up ----------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with _time_limit(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with _time_limit(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    with _time_limit(item):
        return (yield)


class _time_limit:
    """Fails whatever hangs, with the traceback of where; its fixtures are torn down and the run goes on."""

    def __init__(self, item):
        self.item = item

    def __enter__(self):
        signal.signal(signal.SIGALRM, self._give_up)
        signal.setitimer(signal.ITIMER_REAL, PHASE_SECONDS_MAX)

    def __exit__(self, *exception):
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _give_up(self, number, frame):
        pytest.fail(f"{self.item.nodeid} took more than {PHASE_SECONDS_MAX:.0f} s")


# --- reporting ----------------------------------------------------------------------------------------------------


def _stats(config):
    """category -> reports so far; "" is the setups and teardowns that went well."""
    return config.pluginmanager.getplugin("terminalreporter").stats


class Brief:
    """`tests/unit/test_wire.py 42 passed in 1.3 s`, and a letter for each test that did not pass."""

    def __init__(self):
        self.counted = {}
        self.started = 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report):
        if report.passed and not hasattr(report, "wasxfail"):
            return ("passed" if report.when == "call" else ""), "", ""
        return None

    def pytest_runtest_logstart(self):
        self.started = self.started or time.monotonic()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        result = yield
        if nextitem is None or nextitem.path != item.path:
            counts = {category: len(reports) for category, reports in _stats(item.config).items() if category}
            new = {category: count - self.counted.get(category, 0) for category, count in counts.items()}
            text = ", ".join(f"{count} {category}" for category, count in new.items() if count)
            reporter = item.config.pluginmanager.getplugin("terminalreporter")
            reporter.write(f" {text} in {time.monotonic() - self.started:.1f} s")
            self.counted, self.started = counts, 0.0
        return result


class NoSkips:
    """Exit status 1 when something was skipped, and a line for each that says what and why."""

    def pytest_sessionfinish(self, session, exitstatus):
        if _stats(session.config).get("skipped") and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for report in terminalreporter.stats.get("skipped", []):
            terminalreporter.line(f"FAILED {report.nodeid}: nothing may be skipped here: {report.longrepr[2]}", red=True)
