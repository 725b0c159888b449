"""How a test run reports, and when it gives a test up. Fixtures live beside the tests that use them, but one of all folders.

--brief      one line a test file, with its counts and seconds; failures are told in full at the end, as always
--no-skips   a skipped test fails the run: on a machine that has everything, it would be a hole that nobody sees

Both work in one process and in several (-n 2 --dist loadfile). The marker `long` is for what `make check` leaves to
`make test`; whatever is not in one of CHECKED bears it by itself.
"""

import gc
import os
import signal
from pathlib import Path

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

TESTS = Path(__file__).parent
# The folders of `make check`. In the others real daemons, web servers and machines take their time.
CHECKED = ("unit", "simulation", "fuzz")
# Setup, call and teardown of a test each, unless it says otherwise: `@pytest.mark.long(seconds=…)`. The slowest of the others
# (a mesh of 20 daemons on two busy cores) takes a fifth of it.
PHASE_SECONDS_MAX = 180.0

set_hypothesis_home_dir(TESTS.parent / ".cache" / "hypothesis")  # beside the other tools' caches
# No deadline: on a busy machine, and measured, it would tell of the machine. What fails says how to see it fail again.
hypothesis.settings.register_profile("bdserver", deadline=None, print_blob=True)
hypothesis.settings.load_profile("bdserver")
# For `make check`; `make test` runs the same tests once more with all examples.
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("bdserver"), max_examples=25)


def pytest_addoption(parser):
    group = parser.getgroup("bdserver")
    group.addoption("--brief", action="store_true", help="one line a test file; failures in full")
    group.addoption("--no-skips", action="store_true", help="a skipped test fails the run")


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # of xdist: it has nothing to report on, its controller has
        return
    if config.option.brief:
        os.environ.pop("CI", None)  # with it, pytest tells a difference of two long lists in as many lines
        config.pluginmanager.register(Brief(config))
    if config.option.no_skips:
        config.pluginmanager.register(NoSkips())


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    for item in items:
        if not any(TESTS / folder in item.path.parents for folder in CHECKED):
            item.add_marker("long")


def pytest_collection_finish():
    """What has been imported and collected stays: neither we nor the processes that tests fork look through it for garbage."""
    gc.freeze()


@pytest.fixture
def shared_path(tmp_path):
    """tmp_path, where other users of this machine can come too: pytest makes it, and its own folders above it, for us alone."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder != tmp_path and not folder.name.startswith(("pytest-", "popen-")):
            break
        folder.chmod(0o755)
    return tmp_path


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
        long = item.get_closest_marker("long")
        self.seconds = long.kwargs.get("seconds", PHASE_SECONDS_MAX) if long else PHASE_SECONDS_MAX

    def __enter__(self):
        signal.signal(signal.SIGALRM, self._give_up)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *exception):
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _give_up(self, number, frame):
        pytest.fail(f"{self.item.nodeid} took more than {self.seconds:.0f} s")


# --- reporting ----------------------------------------------------------------------------------------------------


class File:
    """What has come of one test file so far."""

    def __init__(self, name):
        self.name = name
        self.counts = {}
        self.started, self.stopped = float("inf"), 0.0

    def add(self, category, report):
        """One more report; "" is the category of a setup or teardown that went well."""
        if category:
            self.counts[category] = self.counts.get(category, 0) + 1
        self.started, self.stopped = min(self.started, report.start), max(self.stopped, report.stop)

    def __str__(self):
        counts = ", ".join(f"{count} {category}" for category, count in self.counts.items())
        return f"{self.name} {counts} in {self.stopped - self.started:.1f} s"


class Brief:
    """`tests/unit/test_wire.py 42 passed in 1.3 s`, as soon as that process is at its next file."""

    def __init__(self, config):
        self.config = config
        self.running = {}  # process (None: the only one) -> the File that it is at

    @property
    def reporter(self):
        return self.config.pluginmanager.getplugin("terminalreporter")

    def pytest_sessionstart(self):
        self.reporter.showfspath = False

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self):
        category, _, _ = yield
        return category, "", ""

    def pytest_runtest_logreport(self, report):
        process, name = getattr(report, "node", None), report.nodeid.partition("::")[0]
        if process in self.running and self.running[process].name != name:
            self.reporter.write_line(str(self.running.pop(process)))
        category = self.config.hook.pytest_report_teststatus(report=report, config=self.config)[0]
        self.running.setdefault(process, File(name)).add(category, report)

    def pytest_sessionfinish(self):
        for file in self.running.values():
            self.reporter.write_line(str(file))


class NoSkips:
    """Exit status 1 when something was skipped, and a line for each that says what and why."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session, exitstatus):
        skipped = session.config.pluginmanager.getplugin("terminalreporter").stats.get("skipped")
        if skipped and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for report in terminalreporter.stats.get("skipped", []):
            terminalreporter.line(f"FAILED {report.nodeid}: nothing may be skipped here: {report.longrepr[2]}", red=True)
