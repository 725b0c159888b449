"""bdgateway's arguments and ends; what it answers is tested with real nodes in tests/mesh/test_gateway.py."""

import contextlib
import http.client
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from types import SimpleNamespace

import dns.message
import dns.query
import pytest

from bdserver.commands import bdgateway
from bdserver.core.messages import Place, Pong, Status
from bdserver.gateway import config, run
from bdserver.net import dialling
from tests.hosts import free_port, until
from tests.unit.canned import Node, own, seen

DETAILS = {"url": "http://10.0.0.2:8080/axis/Echo", "node": "b", "service": "Echo", "phase": 1, "asked": []}


def test_check_tries_all_and_starts_nothing(gateway_conf, capsys):
    path = gateway_conf("dns=127.0.0.1:0\n".replace(":0", f":{free_port()}") + f"http=127.0.0.1:{free_port()}\n")
    assert bdgateway.main(["--check", path]) == 0 and capsys.readouterr().out == f"{path}: ok\n"


def test_check_says_that_the_usual_config_is_not_there(tmp_path, monkeypatch, capsys):
    path = str(tmp_path / "gateway.conf")
    monkeypatch.setattr(config, "DEFAULT_PATH", path)
    monkeypatch.setattr(run, "Sockets", lambda given: SimpleNamespace(close=lambda: None))
    assert bdgateway.main(["--check"]) == 0
    assert capsys.readouterr().out == f"{path} is not there: ok with all at its default\n"


def test_a_port_that_is_taken_may_be_free_later(gateway_conf, capsys):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.listen()
        assert bdgateway.main([gateway_conf(f"dns=\nhttp=127.0.0.1:{port}\n")]) == 1
    assert capsys.readouterr().err == f"bdgateway: 127.0.0.1:{port}: Address already in use\n"


def test_what_is_wrong_is_one_line_and_status_2(gateway_conf, capsys):
    assert bdgateway.main([gateway_conf("x=1\n")]) == 2 and "unknown key 'x'" in capsys.readouterr().err


def test_who_listens_for_others_too_is_told_so(gateway_conf, capsys):
    assert bdgateway.main(["--check", gateway_conf(f"dns=\nhttp=0.0.0.0:{free_port()}\n")]) == 0
    assert "others than this host can look up" in capsys.readouterr().err


@pytest.fixture
def node(monkeypatch):
    node = Node(WHEREIS=Place("10.0.0.2", 8080, "axis", DETAILS), PING=Pong("d1"), STATUS=Status(own(), [seen("alpha")]))
    monkeypatch.setattr(dialling, "dial_local", lambda path, deadline: node.dial(deadline))
    return node


@contextlib.contextmanager
def forked(path, log=None):
    """A bdgateway in a process of its own, which ends when it is told to, and well."""
    pid = os.fork()
    if pid == 0:
        status = 99
        if log is not None:
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            sys.stderr = open(2, "w", closefd=False)
        try:
            status = bdgateway.main([path])
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_it_answers_dns_and_http_until_it_is_told_to_end(gateway_conf, node):
    dns_port, http_port = free_port(), free_port()
    with forked(gateway_conf(f"socket=/x.sock\ndns=127.0.0.1:{dns_port}\nhttp=127.0.0.1:{http_port}\n")):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def told(path):
            with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{http_port}{path}", timeout=20) as answer:
                return answer.read()

        until(lambda: told("/v1/whereis/Echo"), 30, "it answers")
        said = dns.query.udp(dns.message.make_query("echo.bd.internal", "SRV"), "127.0.0.1", 20, dns_port)
        assert said.answer[0][0].port == 8080 and b'"alpha"' in told("/v1/status")
        metrics = told("/metrics")
        assert b'bdserver_gateway_lookups_total{face="http",outcome="found"}' in metrics
        assert b'bdserver_gateway_lookups_total{face="dns",outcome="found"} 1.0' in metrics


def test_sighup_reads_the_config_anew_and_a_bad_one_leaves_all_as_it_was(gateway_conf, node, tmp_path):
    log = tmp_path / "log"
    ports = f"socket=/x.sock\ndns=127.0.0.1:{free_port()}\nhttp=127.0.0.1:{free_port()}\n"
    dns_port, http_port = (int(line.rpartition(":")[2]) for line in ports.splitlines()[1:])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def status(host):
        request = urllib.request.Request(f"http://127.0.0.1:{http_port}/v1/status", headers={"Host": host})
        try:
            with opener.open(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            return 0

    def code(name):
        return dns.query.udp(dns.message.make_query(name, "SRV"), "127.0.0.1", 20, dns_port).rcode()

    def reload(text, said):
        (tmp_path / "gateway.conf").write_text(text)
        before = log.read_text().count("SIGHUP")
        os.kill(pid, signal.SIGHUP)
        until(lambda: said in log.read_text() and log.read_text().count("SIGHUP") > before, 30, f"{said} in {log.read_text()}")

    with forked(gateway_conf(ports), str(log)) as pid:
        until(lambda: status("localhost") == 200, 30, "it answers")
        assert status("web.example") == 421 and code("Echo.bd.internal") == 0
        new = ports + "http_hosts=web.example\ndomain=other.internal\n"
        reload(new, "INFO: SIGHUP: config and policy read anew")
        assert status("web.example") == 200
        until(lambda: code("Echo.other.internal") == 0 and code("Echo.bd.internal") == 5, 30, "the domain is another one")
        reload(new + "queries=7\nlookup_seconds=soon\n", "ERROR: SIGHUP: the old one stays: ")
        said = log.read_text()
        assert "gateway.conf:6: unknown key 'queries'" in said and "gateway.conf:7: lookup_seconds='soon'" in said
        assert status("web.example") == 200 and "Traceback" not in said
        (tmp_path / "policy.xml").write_text("<no-policy/>")
        reload(ports + "policy=policy.xml\n", "the old one stays: " + str(tmp_path / "policy.xml"))
        assert status("web.example") == 200
        reload(new + "watchers_max=3\nlookups_max=7\n", "counts after a restart: lookups_max, watchers_max")
        assert status("web.example") == 200


class Asked:
    """A bdgateway whose config a test changes; `said()` is its log."""

    def __init__(self, folder, pid=0):
        self.pid, self.path, self.log_path = pid, folder / "gateway.conf", folder / "log"

    def configure(self, **ports):
        lines = (f"{face}={' '.join(f'127.0.0.1:{port}' for port in at)}\n" for face, at in ports.items())
        self.path.write_text("socket=/x.sock\n" + "".join(lines))

    def reload(self, **ports):
        before = self.said().count("SIGHUP: config and policy read anew")
        self.configure(**ports)
        os.kill(self.pid, signal.SIGHUP)
        until(lambda: self.said().count("SIGHUP: config and policy read anew") > before, 30, "it is read anew")

    def said(self):
        return self.log_path.read_text()


def http_answer(sock, request=b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"):
    """The status of an answer on an open connection."""
    sock.sendall(request)
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    answer.read()
    return answer.status


def dns_code(port, how=dns.query.udp):
    return how(dns.message.make_query("Echo.bd.internal", "SRV"), "127.0.0.1", 20, port).rcode()


def is_refused(port):
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
        return False
    return True


def test_sighup_takes_other_addresses_and_leaves_no_connection(node, tmp_path):
    old_dns, old_http, new_dns, new_http, more_http = (free_port() for _ in range(5))
    gateway = Asked(tmp_path)
    gateway.configure(dns=[old_dns], http=[old_http])
    with forked(str(gateway.path), str(gateway.log_path)) as gateway.pid:
        until(lambda: not is_refused(old_http), 30, "it answers")
        with (
            socket.create_connection(("127.0.0.1", old_http), 20) as kept,
            socket.create_connection(("127.0.0.1", old_dns), 20) as tcp,
        ):
            assert http_answer(kept) == 200
            gateway.reload(dns=[new_dns], http=[new_http, more_http])
            for port in (new_http, more_http):
                until(lambda port=port: not is_refused(port), 30, f"{port} is listened on")
                with socket.create_connection(("127.0.0.1", port), 20) as sock:
                    assert http_answer(sock) == 200
            assert dns_code(new_dns) == 0 and dns_code(new_dns, dns.query.tcp) == 0
            until(lambda: is_refused(old_http) and is_refused(old_dns), 30, "the old ones are left")
            assert http_answer(kept) == 200, "a connection that was open lives on"
            dns.query.send_tcp(tcp, dns.message.make_query("Echo.bd.internal", "SRV"))
            assert dns.query.receive_tcp(tcp)[0].rcode() == 0
        gateway.reload(dns=[new_dns], http=[])
        until(lambda: is_refused(new_http) and is_refused(more_http), 30, "HTTP is off")
        assert dns_code(new_dns) == 0
        gateway.reload(dns=[], http=[old_http])
        until(lambda: not is_refused(old_http) and is_refused(new_dns), 30, "HTTP is on, and DNS off")
        assert "http is answered at no address" in gateway.said() and "Traceback" not in gateway.said()


def test_an_address_that_can_not_be_had_at_sighup_leaves_the_old_one(node, tmp_path):
    dns_port, http_port, other_dns = free_port(), free_port(), free_port()
    gateway = Asked(tmp_path)
    gateway.configure(dns=[dns_port], http=[http_port])
    with forked(str(gateway.path), str(gateway.log_path)) as gateway.pid, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        until(lambda: not is_refused(http_port), 30, "it answers")
        gateway.reload(dns=[other_dns], http=[free_port(), port])
        said = f"ERROR: SIGHUP: http stays at 127.0.0.1:{http_port}: 127.0.0.1:{port}: Address already in use\n"
        assert gateway.said().count(said) == 1
        with socket.create_connection(("127.0.0.1", http_port), 20) as sock:
            assert http_answer(sock) == 200
        assert dns_code(other_dns) == 0, "the other face moved"
        gateway.reload(dns=[other_dns], http=[port, http_port])
        assert gateway.said().count(said) == 2
        taken.close()
        gateway.reload(dns=[other_dns], http=[port])
        until(lambda: not is_refused(port) and is_refused(http_port), 30, "now it can be had")


def test_what_is_no_http_is_counted(node, tmp_path):
    port = free_port()
    gateway = Asked(tmp_path)
    gateway.configure(dns=[], http=[port])
    with forked(str(gateway.path)):
        until(lambda: not is_refused(port), 30, "it answers")
        for request, status in ((b"no request\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nX: " + b"x" * 20000 + b"\r\n\r\n", 431)):
            with socket.create_connection(("127.0.0.1", port), 20) as sock:
                assert http_answer(sock, request) == status
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/metrics") as answer:
            told = answer.read().decode()
        for status in (400, 431):
            assert f'bdserver_gateway_answers_total{{face="http",kind="bent",outcome="{status}"}} 1.0' in told
        assert 'bdserver_gateway_refused_total{face="http",limit="connections"} 0.0' in told


@pytest.mark.parametrize("off", ["dns", "http"])
def test_each_face_can_be_left_out(gateway_conf, node, off):
    port = free_port()
    settings = {"dns": f"127.0.0.1:{port}", "http": f"127.0.0.1:{port}"} | {off: ""}
    with forked(gateway_conf("socket=/x.sock\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))):

        def is_up():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                return True

        until(is_up, 30, "it answers")
