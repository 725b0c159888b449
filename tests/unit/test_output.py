"""What a command prints where nobody reads it, or it can't be written: real processes, of which no node is needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bdserver.commands.ctl import watching
from bdserver.commands.output import refuse_unread, written

ROOT = Path(__file__).parents[2]
RUN = "import sys; from importlib import import_module; sys.exit(import_module('bdserver.commands.' + sys.argv.pop(1)).main())"
COMMANDS = ["bdctl", "bdwhereis", "bdkeys", "bdserverd", "bdgateway", "bddemo"]


def ended(arguments, stdout, **environment):
    """(exit status, stderr) of a command that prints there."""
    line = [sys.executable, "-c", RUN, *arguments]
    quiet = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        line, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=quiet | environment, check=False
    )
    return done.returncode, done.stderr


@pytest.fixture
def unread():
    """What `… | true` gives a command to write to."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize("command", COMMANDS)
def test_whoever_wants_to_read_no_more_is_no_error(command, environment, unread):
    assert ended([command, "--version"], unread, **environment) == (0, "")
    assert ended([command, "--help"], unread, **environment) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_a_status_of_the_manual(command):
    with open("/dev/full", "w") as full:
        status, said = ended([command, "--help"], full)
    assert said == f"{command}: standard output: No space left on device\n" and status == (1 if command == "bdserverd" else 2)


def test_what_goes_wrong_otherwise_is_told_though_nobody_reads_the_output(unread):
    assert ended(["bdctl", "--socket", "/none", "status"], unread)[0] == 4
    assert ended(["bdctl", "publsh"], unread)[0] == 2


def test_without_an_output_a_command_does_its_work(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert written(lambda: None) == 0 and written(lambda: 3) == 3
    refuse_unread()


def test_that_nobody_reads_is_seen_without_a_write(monkeypatch):
    read, write = os.pipe()
    with open(write, "w") as stdout, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        refuse_unread()
        os.close(read)
        with pytest.raises(BrokenPipeError):
            refuse_unread()
        with pytest.raises(BrokenPipeError):  # else `bdctl watch | head -1` would end with the next change
            watching.watch(lambda: "digest", list, False)
