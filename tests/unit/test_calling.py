"""Arguments that the commands share, which node is asked, and how a command ends."""

import argparse
import os
import subprocess
import sys

import pytest

from bdserver import api
from bdserver.commands import calling
from bdserver.core.messages import Pong
from bdserver.errors import BadConfig, CantFind, Forbidden, NobodyThere, PolicyMismatch
from bdserver.net import dialling, keys
from tests.unit.canned import Node


def options(*arguments):
    parser = calling.Parser(prog="bdtest")
    calling.add_options(parser)
    return parser.parse_args(list(arguments))


def ping(talk, deadline):
    return talk.ask(["PING"], deadline)


@pytest.fixture
def called(monkeypatch):
    """What is dialled: paths of sockets, and (address, keys) over TLS. Nobody is there but 10.0.0.2."""
    called = []

    def dial_local(path, deadline):
        called.append(path)
        return Node(PING=Pong()).dial()

    def dial(address, credentials, deadline, **more):
        called.append((address, credentials))
        if address != "10.0.0.2:9001":
            raise NobodyThere(f"{address}: nobody")
        return Node(PING=Pong()).dial()

    monkeypatch.delenv("BDSERVER_KEYS", raising=False)
    monkeypatch.setattr(dialling, "dial_local", dial_local)
    monkeypatch.setattr(dialling, "dial", dial)
    monkeypatch.setattr(keys, "load_named", lambda path: path)
    return called


def test_without_a_node_the_local_one_is_asked_by_its_socket(called, tmp_path):
    config = tmp_path / "bdserverd.conf"
    config.write_text("username=alpha\nvar_dir=/srv/bd\n")
    assert calling.conversation(options("--config", str(config)), ping) == Pong()
    assert calling.conversation(options("--socket", "/run/x.sock"), ping) == Pong()
    assert called == ["/srv/bd/run/alpha.sock", "/run/x.sock"]


def test_nodes_are_asked_in_turn_at_the_usual_port_if_none_is_given(called):
    given = options("--node", "10.0.0.9:77", "--node", "10.0.0.2", "--node", "10.0.0.3", "--keys", "/keys/joe")
    assert calling.conversation(given, ping) == Pong()
    assert called == [("10.0.0.9:77", "/keys/joe"), ("10.0.0.2:9001", "/keys/joe")]


def test_keys_are_those_of_the_environment_where_no_others_are_named(called, monkeypatch):
    monkeypatch.setenv("BDSERVER_KEYS", "/keys/ann")
    calling.conversation(options("--node", "10.0.0.2"), ping)
    assert called == [("10.0.0.2:9001", "/keys/ann")]


def test_without_keys_the_remedy_names_the_role(called, tmp_path):
    with pytest.raises(BadConfig, match=r"--role client.*--keys DIR/NAME.*BDSERVER_KEYS"):
        calling.conversation(options("--node", "10.0.0.2", "--config", str(tmp_path / "none.conf")), ping)


def test_that_nobody_answers_is_said_of_each(called):
    with pytest.raises(NobodyThere, match=r"10\.0\.0\.8:9001: nobody; 10\.0\.0\.9:9001: nobody"):
        calling.conversation(options("--node", "10.0.0.8", "--node", "10.0.0.9", "--keys", "/k/j"), ping)


@pytest.mark.parametrize("text", ["0.1", "1", "10", "86400"])
def test_a_time_is_a_number_of_seconds(text):
    assert options("--timeout", text).timeout == calling.seconds(text) == float(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e300", "86401", "1_0", "soon", ""])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        calling.seconds(text)


def test_wrong_usage_is_one_line_with_the_nearest_command(capsys):
    parser = calling.Parser(prog="bdtest", commands=["publish", "ping"])
    parser.add_argument("--node")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser("publish").add_argument("file", metavar="FILE")
    commands.add_parser("ping")
    for arguments, said in (
        (["publsh"], "bdtest: there is no command 'publsh': did you mean publish? (bdtest --help tells more)\n"),
        (["zzz"], "bdtest: there is no command 'zzz' (bdtest --help tells more)\n"),
        (["ping", "--node", "h"], "bdtest: --node stands before the command (bdtest --help tells more)\n"),
        (["ping", "--node=h"], "bdtest: --node stands before the command (bdtest --help tells more)\n"),
        (["ping", "--nod=h"], "bdtest: unrecognized arguments: --nod=h (bdtest --help tells more)\n"),
        (["publish"], "bdtest publish: the following arguments are required: FILE (bdtest publish --help tells more)\n"),
    ):
        with pytest.raises(SystemExit) as end:
            parser.parse_args(arguments)
        assert (end.value.code, capsys.readouterr()) == (2, ("", said))


def ended(work, capsys):
    status = calling.outcome("bdtest", work)
    said = capsys.readouterr()
    assert said.out == ""
    return status, said.err


def raising(error):
    def work():
        raise error

    return work


def test_how_a_command_ends(capsys):
    assert ended(lambda: None, capsys) == (0, "") and ended(lambda: 3, capsys) == (3, "")
    assert ended(raising(CantFind("gone")), capsys) == (1, "bdtest: gone\n")
    assert ended(raising(BadConfig("a:1: x\na:2: y")), capsys) == (2, "bdtest: a:1: x\nbdtest: a:2: y\n")
    assert ended(raising(PolicyMismatch("apart")), capsys) == (3, "bdtest: apart\n")
    assert ended(raising(Forbidden("no")), capsys) == (5, "bdtest: no\n")
    assert ended(raising(KeyboardInterrupt()), capsys) == (130, "")


def test_an_error_of_the_system_names_the_file_and_no_number(capsys):
    missing = ended(lambda: open("/nowhere/x"), capsys)
    assert missing == (2, "bdtest: /nowhere/x: No such file or directory\n")
    assert ended(raising(OSError("odd")), capsys) == (2, "bdtest: odd\n")
    assert ended(raising(OSError(28, "No space left on device")), capsys) == (2, "bdtest: No space left on device\n")


def test_tls_is_not_imported_for_the_local_socket(tmp_path):
    program = (
        "import sys; from bdserver import api\n"
        f"api.entrances([], None, {str(tmp_path / 'x.sock')!r}, None)\n"
        "sys.exit('OpenSSL' in sys.modules)"
    )
    root = os.path.dirname(os.path.dirname(api.__file__))
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
