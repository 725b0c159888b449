"""The command: its exit statuses, and that what is wrong is a line. (tests/mesh start it for good.)"""

import os
import signal
import socket
import sys

import pytest

from bdserver.commands import daemonising
from bdserver.commands.bdserverd import main
from tests.hosts import Mesh, until


@pytest.fixture
def host(tmp_path):
    return Mesh(str(tmp_path)).host("alpha")


def said(capsys):
    """The lines on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("bdserverd: ") for line in lines)
    return lines


def test_a_check_that_finds_nothing_says_who_the_node_is(host, capsys):
    assert main(["--check", host.config_path]) == 0
    assert capsys.readouterr().out == f"{host.config_path}: ok: alpha of demo at {host.address}\n"


def test_folders_are_made_for_others_to_enter_whatever_the_umask(host):
    """A web server is to serve the services, and every account to reach the socket."""
    before = os.umask(0o077)
    try:
        assert main(["--check", host.config_path]) == 0
    finally:
        os.umask(before)
    for folder in ("", "services", "run"):
        assert os.stat(os.path.join(host.folder, "var", folder)).st_mode & 0o777 == 0o755, folder


def test_what_only_an_editor_mends_is_2_and_a_line_each(host, capsys):
    host.write_config(prot=1, log_level="loud")
    assert main(["--check", host.config_path]) == 2
    assert len(said(capsys)) == 2


@pytest.mark.parametrize("name", ["alpha.key", "alpha.crt", "ca.crt"])
def test_a_key_that_is_not_mounted_yet_is_1(host, capsys, name):
    os.unlink(os.path.join(host.folder, name))
    assert main(["--check", host.config_path]) == 1
    [line] = said(capsys)
    assert f"{name}: missing" in line


def test_a_port_that_is_taken_is_1(host, capsys):
    with socket.create_server(("127.0.0.1", host.port)):
        assert main(["--check", host.config_path]) == 1
    [line] = said(capsys)
    assert "Address already in use (ss -ltnp tells by whom)" in line


def test_a_policy_that_is_not_there_is_2(host, capsys):
    assert main(["--check", host.config_path, "/nowhere/policy.xml"]) == 2
    [line] = said(capsys)
    assert "/nowhere/policy.xml: No such file" in line


@pytest.mark.parametrize("arguments", [[], ["--check", "--foreground", "x"], ["--wrong", "x"]])
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    [line] = said(capsys)
    assert line.endswith(" (bdserverd --help tells more)")


# --- in a process of its own --------------------------------------------------------------------------------------


def forked(arguments, folder):
    """The command in a process whose stderr is the file `said`; its pid."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            with open(folder / "said", "a") as said, open(os.devnull) as nothing:
                os.dup2(said.fileno(), 2)
                sys.stdin, sys.stdout, sys.stderr = nothing, said, said
                status = main(arguments)
        finally:
            os._exit(status)
    return pid


def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def is_answering(host):
    try:
        return host.ask(["PING"])[0] == "PONG"
    except Exception:
        return False


def test_in_the_foreground_it_runs_until_it_leaves(host, tmp_path):
    pid = forked(["--foreground", host.config_path], tmp_path)
    until(lambda: is_answering(host), 20, "it answers")
    with open(host.socket.replace(".sock", ".pid")) as file:
        assert file.read() == f"{pid}\n"
    os.kill(pid, signal.SIGTERM)
    assert status_of(pid) == 0
    assert f"bdserverd: INFO: alpha of demo answers at {host.address}" in (tmp_path / "said").read_text()


def test_in_the_background_the_first_process_ends_when_the_node_answers(host, tmp_path):
    host.write_config(log_file=tmp_path / "log")
    assert status_of(forked([host.config_path], tmp_path)) == 0
    assert is_answering(host) and (tmp_path / "said").read_text() == ""
    with open(host.socket.replace(".sock", ".pid")) as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGTERM)
    until(lambda: not os.path.exists(host.socket.replace(".sock", ".pid")), 20, "it has ended")
    assert f"bdserverd[{pid}] INFO: alpha left" in (tmp_path / "log").read_text()


def test_what_fails_in_the_background_is_a_line_of_the_first_process(host, tmp_path):
    host.write_config(log_file=tmp_path / "log")
    os.makedirs(os.path.join(host.folder, "var", "alpha.bdcache.lock"))  # the cache can't be locked
    assert status_of(forked([host.config_path], tmp_path)) == 1
    [line] = (tmp_path / "said").read_text().splitlines()
    assert line.startswith("bdserverd: ") and "alpha.bdcache.lock" in line
    assert "the node ended" in (tmp_path / "log").read_text()
    assert not os.path.exists(host.socket) and not os.path.exists(host.socket.replace(".sock", ".pid"))


def test_what_fails_in_the_foreground_is_a_line_too(host, tmp_path):
    os.makedirs(os.path.join(host.folder, "var", "alpha.bdcache.lock"))
    assert status_of(forked(["--foreground", host.config_path], tmp_path)) == 1
    assert (tmp_path / "said").read_text().startswith("bdserverd: ")


def test_before_it_becomes_another_user_it_imports_what_it_would_import_later(monkeypatch):
    imported = []
    monkeypatch.setattr(daemonising.importlib, "import_module", imported.append)
    daemonising._import_late(os.geteuid())
    assert imported == []
    daemonising._import_late(os.geteuid() + 1)
    assert "filelock" in imported
