"""What `--brief` and `--no-skips` say, in one process and in two, and what `make check` leaves out."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Each runs pytest in pytest, for what hardly ever changes.
pytestmark = pytest.mark.long

CONFTEST = Path(__file__).parents[1] / "conftest.py"
FILES = {
    "unit/test_well.py": "def test_a(): pass\ndef test_b(): pass\n",
    "unit/test_broken.py": "def test_a(): assert 1 == 2\ndef test_b(): pass\n",
    "unit/test_skipped.py": "import pytest\n@pytest.mark.skip(reason='no printer here')\ndef test_a(): pass\n",
    "mesh/test_daemons.py": "def test_a(): pass\n",
}
PROCESSES = {"one process": [], "two": ["-n", "2", "--dist", "loadfile"]}


@pytest.fixture(params=PROCESSES)
def run(request, tmp_path):
    """Runs pytest on some of FILES, under our conftest: (exit status, lines of files without their seconds, all it said)."""

    def run(names, *options):
        for name in names:
            path = tmp_path / "tests" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(FILES[name])
        shutil.copy(CONFTEST, tmp_path / "tests")
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = long\n")
        line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *PROCESSES[request.param], *options, "tests"]
        # Temporary folders of its own: beside ours it would close those that a test has just opened to other users.
        environment = {**os.environ, "PYTEST_DEBUG_TEMPROOT": str(tmp_path)}
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=environment)
        lines = re.findall(r"^(tests/\S+ .*) in \d+\.\d s$", done.stdout, re.MULTILINE)
        return done.returncode, sorted(lines), done.stdout

    return run


def test_brief_is_a_line_a_file_and_failures_and_skips_are_told_in_full(run):
    # Real daemons are long unasked.
    status, lines, said = run(FILES, "--brief", "--no-skips", "-m", "not long")
    assert status == 1
    assert lines == [
        "tests/unit/test_broken.py 1 failed, 1 passed",
        "tests/unit/test_skipped.py 1 skipped",
        "tests/unit/test_well.py 2 passed",
    ]
    assert "assert 1 == 2" in said
    assert "tests/unit/test_skipped.py::test_a: nothing may be skipped here: Skipped: no printer here" in said


@pytest.mark.long
def test_a_skipped_test_alone_fails_a_run_that_wants_none(run):
    names = ["unit/test_well.py", "unit/test_skipped.py"]
    assert run(names, "--no-skips")[0] == 1
    assert run(names)[0] == 0
