"""The CGI programs, called as a web server calls them: one request by the environment, the answer on stdout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bdserver.audit import cgi, config
from bdserver.core.messages import Status
from bdserver.errors import BadConfig
from bdserver.net import dialling
from tests.unit.canned import Node, own, seen

ROOT = Path(__file__).parents[2]


@pytest.fixture
def call(monkeypatch, capfdbinary, tmp_path):
    """(status line, headers, body, stderr) of a call, with no audit.conf but the one that a test writes."""
    monkeypatch.delenv("BDSERVER_AUDIT_CONFIG", raising=False)
    monkeypatch.setattr(config, "DEFAULT_PATH", str(tmp_path / "audit.conf"))
    monkeypatch.setattr(cgi, "_limit", lambda handler, seconds: None)

    def call_it(program, query="", path=""):
        for name, value in {"REQUEST_METHOD": "GET", "QUERY_STRING": query, "PATH_INFO": path, "SCRIPT_NAME": "/x.cgi",
                            "SERVER_NAME": "h", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1"}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        assert cgi.main([program]) == 0
        said = capfdbinary.readouterr()
        head, _, body = said.out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return headers.pop("Status"), headers, body, said.err

    return call_it


def test_the_audit(call, monkeypatch):
    node = Node(STATUS=Status(own(), [seen("alpha")]))
    monkeypatch.setattr(dialling, "dial_local", lambda path, deadline: node.dial())
    status, headers, body, err = call("audit", "format=json")
    assert (status, headers["Content-Type"], err) == ("200 OK", "application/json", b"")
    assert json.loads(body)["entry"] == "alpha"


def test_no_node_is_a_503_that_says_where_it_was_looked_for(call, tmp_path):
    (tmp_path / "audit.conf").write_text("socket=none.sock\n")
    status, _, body, _ = call("whereis", path="/Echo")
    assert status == "503 Service Unavailable" and b"none.sock" in body


def test_what_is_wrong_with_the_config_is_for_the_servers_log(call, tmp_path):
    (tmp_path / "audit.conf").write_text("sockt=/secret/place\n")
    status, _, body, err = call("audit")
    assert status == "500 Internal Server Error" and b"audit.conf is wrong" in body and b"sockt" not in body
    assert err.startswith(b"bdserver: ") and b"audit.conf:1: unknown key 'sockt'" in err


def test_that_the_config_may_not_be_read_is_said_to_the_visitor_too(call, monkeypatch):
    def load():
        raise BadConfig("may not read /etc/bdserver/audit.conf: chmod") from PermissionError()

    monkeypatch.setattr(config, "load", load)
    status, _, body, err = call("audit")
    assert (
        status.startswith("500") and body.startswith(b"may not read audit.conf") and b"/etc/bdserver/audit.conf: chmod" in err
    )


@pytest.mark.parametrize("arguments", [[], ["other"]])
def test_wrong_usage(arguments, capsys):
    assert cgi.main(arguments) == 2
    assert capsys.readouterr() == ("", "usage: python3 -m bdserver.audit.cgi audit|whereis\n")


HANGS = """
import sys, time
from bdserver.audit import cgi, config
def hangs(settings):
    def app(environ, start_response):
        if {begins}:
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"half"
        time.sleep(60)
    return app
config.load = lambda: None
cgi.MARGIN_SECONDS = 0.1
cgi.PROGRAMS["audit"] = cgi.Program(hangs, lambda settings: 0.1)
sys.exit(cgi.main(["audit"]))
"""


@pytest.mark.parametrize(("begins", "answer"), [(False, b"Status: 504 Gateway Timeout\r\n"), (True, b"Status: 200 OK\r\n")])
def test_work_without_an_end_is_ended_and_answered_once(begins, answer):
    program = HANGS.format(begins=begins)
    environment = {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": "",
        "SERVER_NAME": "h",
        "SERVER_PORT": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, cwd=ROOT, timeout=60, check=True
    )
    assert done.stdout.startswith(answer) and done.stdout.count(b"Status: ") == 1
