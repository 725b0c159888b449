"""The demo's stage, as far as it can be tried without daemons, and what it prints for visitors; tests/mesh/test_demo.py plays on it."""

import os
import shlex
import socket
import subprocess

import pytest

from bdserver.demo import stage, trying
from bdserver.demo.ending import Ending
from bdserver.demo.hosts import free_port
from bdserver.demo.stage import AGAIN_SECONDS, Stage


def test_the_ports_that_are_wanted_are_taken_when_they_are_free():
    port = free_port()
    made = Stage(port, Ending())
    assert (made.port, made.dns_port, made.notices) == (port, port + 1, [])


def test_a_port_that_is_taken_is_said_and_another_one_is_used():
    port = free_port()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port + 1))
        sock.listen()
        made = Stage(port, Ending())
    assert made.port == port and made.dns_port not in (port, port + 1)
    assert made.notices == [f"Port {port + 1} is taken: DNS is at {made.dns_port}."]


def test_any_port_is_no_notice():
    made = Stage(0, Ending())
    assert made.notices == [] and len({made.port, made.dns_port}) == 2


def test_a_stage_that_was_never_begun_has_nothing_to_end():
    with Stage(0, Ending()) as made:
        assert made.folder == ""


class Host:
    """A node that runs, or does not."""

    def __init__(self, name):
        self.name, self.is_running, self.started = name, True, 0

    def launch(self):
        self.is_running, self.started = True, self.started + 1


@pytest.fixture
def played():
    """A stage with a node that runs."""
    made, host = Stage(0, Ending()), Host("beta")
    made.mesh = type("Mesh", (), {"hosts": [host]})()
    return made, host


def test_a_node_that_has_ended_is_started_again_after_a_while(played):
    made, host = played
    assert list(made.tend(100.0)) == []
    host.is_running = False
    assert list(made.tend(101.0)) == ["beta has ended. It is started again in 20 s."]
    assert list(made.tend(101.0 + AGAIN_SECONDS - 0.1)) == [] and host.started == 0
    assert list(made.tend(101.0 + AGAIN_SECONDS)) == ["beta is started again."] and host.started == 1
    assert list(made.tend(200.0)) == []
    host.is_running = False
    assert list(made.tend(201.0)) == ["beta has ended. It is started again in 20 s."], "each time anew"


def test_what_ends_before_it_answers_is_said_with_its_status():
    process = subprocess.Popen(["false"])
    process.wait()
    with pytest.raises(AssertionError, match="has ended with status 1"):
        stage._is_up(free_port(), process)


def test_what_is_printed_is_shell_whole_with_words_behind_a_hash():
    tries = trying.tries("http://127.0.0.1:8460", "./ask-dns", 20.0)
    told = trying.told("/tmp/bddemo-x", tries)
    assert told.startswith("cd /tmp/bddemo-x\n\n# Ask for a service")
    assert subprocess.run(["bash", "-n"], input=told, text=True, check=False).returncode == 0
    for each in tries:
        assert each.words.endswith(".") and all(not command.startswith("#") for command in each.commands)
    assert all(len(line) <= 120 for line in told.splitlines())


def test_a_program_for_visitors_hands_on_its_words(tmp_path):
    path = tmp_path / "say"
    stage._write_program(str(path), f'exec {shlex.join(["printf", "%s|"])} "$@"')
    assert os.access(path, os.X_OK)
    assert subprocess.run([path, "a b", "c"], capture_output=True, text=True, check=True).stdout == "a b|c|"
