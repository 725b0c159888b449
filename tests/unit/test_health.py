"""Health: what is well, what is evidence that it is not, and what may be a busy host."""

import contextlib
import http.server
import socket
import ssl
import threading
from datetime import UTC
from typing import Any

import pytest

from bdserver.files.bdcert import Service
from bdserver.processes import health as module
from bdserver.processes.health import Health, reason


def service(health, url="", kind="static", name="a"):
    return Service(name, kind, 1.0, url, health, None, 0.0, ())


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        self.send_response(int(self.path.strip("/").split("?")[0] or 200))
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def http_server(tls_context=None):
    server: Any = http.server.HTTPServer(("127.0.0.1", 0), Answering)
    server.asked = []
    if tls_context is not None:
        server.socket = tls_context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def saying(data, then_silence=False):
    """A server that says these bytes to whoever calls, whatever they ask, and hangs up unless told to fall silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def serve():
            with contextlib.suppress(OSError):
                sock, _ = listening.accept()
                with sock:
                    sock.sendall(data)
                    if then_silence:
                        done.wait(10)
                    else:
                        sock.shutdown(socket.SHUT_WR)
                        sock.recv(9999)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        done.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def check(health, port, path="/", kind="static", url=None, seconds=5.0):
    url = url or f"http://127.0.0.1:{port}{path}"
    return reason(service(health, url, kind), url, "127.0.0.1", port, seconds)


def test_without_a_check_a_service_is_well():
    assert check("none", 1) is None


def test_tcp_is_well_when_something_listens():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert check("tcp", port) is None
    assert check("tcp", port) == f"a is not well: http://127.0.0.1:{port}/: Connection refused"


@pytest.mark.parametrize(
    ("status", "is_well"), [(200, True), (301, True), (404, True), (499, True), (500, False), (503, False)]
)
def test_http_is_well_below_500(status, is_well):
    with http_server() as server:
        said = check("http", server.server_port, f"/{status}?wsdl")
        assert server.asked == [(f"/{status}?wsdl", f"127.0.0.1:{server.server_port}")]
    url = f"http://127.0.0.1:{server.server_port}/{status}?wsdl"
    assert said == (None if is_well else f"a is not well: {url} answers {status}")


def test_a_url_with_odd_characters_is_asked_for_as_one_request():
    with http_server() as server:
        check("http", server.server_port, "/200/ä%20ü?q={x}|y")
        assert server.asked[0][0] == "/200/%C3%A4%20%C3%BC?q=%7Bx%7D%7Cy"


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"", "it hung up without an answer"), (b"SSH-2.0-x\r\n", "that is no HTTP"), (b"HTTP/1.1 abc\r\n", "that is no HTTP")]
    + [(b"x" * 100_000, "that is no HTTP")],
)
def test_what_does_not_speak_http_is_not_well(said, reason):
    with saying(said) as port:
        answer = check("http", port)
    assert reason in answer and len(answer) < 200 and "\n" not in answer


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK"])
def test_silence_ends_when_the_time_is_over(said):
    with saying(said, then_silence=True) as port, pytest.raises(TimeoutError):
        check("http", port, seconds=0.1)


def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for(monkeypatch):
    """The time is for the whole answer, not for each byte."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])

    class Dripping:
        def sendall(self, data):
            pass

        def settimeout(self, seconds):
            assert 0 < seconds <= 2

        def recv(self, count):
            clock[0] += 0.5
            return b"H"

    server: Any = Dripping()
    with pytest.raises(TimeoutError):
        module._status(server, module._Where("http://127.0.0.1/", "127.0.0.1", 80), 2.0)
    assert clock[0] == 2.0


def test_a_replica_is_asked_on_our_own_host_alone():
    with http_server() as server:
        port = server.server_port
        assert check("http", port, "/200", "dynamic") is None
        said = check("http", port, kind="dynamic", url=f"http://localhost:{port}/200")
        assert said == "a is not well: it is a copy, and its url names another host, localhost"
        assert check("http", port, kind="static", url=f"http://localhost:{port}/200") is None
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "http://[::1/", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "mailto:a"]
)
def test_a_url_that_can_not_be_asked_is_not_well(url):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        said = check("http", listening.getsockname()[1], url=url, seconds=1)
    assert said.startswith("a is not well: ") and "\n" not in said


def test_https_is_asked_whether_it_answers_and_not_who_it_is(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))
    with http_server(context) as server:
        port = server.server_port
        assert check("http", port, url=f"https://127.0.0.1:{port}/200") is None
        assert "answers 503" in check("http", port, url=f"https://127.0.0.1:{port}/503")
    with saying(b"no TLS here\n") as port:
        assert check("http", port, url=f"https://127.0.0.1:{port}/200").startswith("a is not well: ")


class Looking:
    """A Health that is told what each service answers: a reason, None, or TimeoutError."""

    def __init__(self, monkeypatch):
        self.answers, self.said = {}, []
        self.health = Health(lambda name, why: self.said.append((name, why)))
        monkeypatch.setattr(module, "reason", self._reason)

    def _reason(self, service, url, host, port, seconds):
        answer = self.answers[service.name]
        if answer is TimeoutError:
            raise TimeoutError("timed out")
        return answer

    def look(self, **answers):
        """The sick after one look, at which each answered so."""
        self.answers = answers
        self.health.look([(service("http", name=name), f"http://{name}/") for name in answers], "127.0.0.1", 1)
        return set(self.health.sick)


@pytest.fixture
def looking(monkeypatch):
    return Looking(monkeypatch)


def test_a_refusal_takes_a_service_out_at_once_and_an_answer_brings_it_back(looking):
    assert looking.health.sick is None
    assert looking.look(a="a is not well: refused", b=None) == {"a"}
    assert looking.look(a=None, b=None) == set()
    assert looking.said.count(("a", "a is not well: refused")) == 1 and looking.said[-1][1] == ""


def test_silence_takes_a_service_out_when_it_is_the_second_in_a_row(looking):
    assert looking.look(a=TimeoutError) == set() and looking.said == []
    assert looking.look(a=None) == set()
    assert looking.look(a=TimeoutError) == set()
    assert looking.look(a=TimeoutError) == {"a"}
    assert looking.said[-1] == ("a", "a is not well: http://a/: timed out, twice in a row")
    assert looking.look(a=TimeoutError) == {"a"}
    assert looking.look(a=None) == set()


def test_silence_after_a_refusal_changes_nothing(looking):
    assert looking.look(a="a is not well: refused") == {"a"}
    assert looking.look(a=TimeoutError) == {"a"}


def test_a_service_that_is_gone_is_forgotten(looking):
    looking.look(a="a is not well: refused", b=TimeoutError)
    assert looking.look() == set()
    assert looking.look(a=None, b=TimeoutError) == set()


def test_some_that_hang_hold_up_neither_the_others_nor_what_is_known_of_them(services_that_hang):
    said = []
    health = Health(lambda name, why: said.append((name, why)), patience=0.3)
    hanging = [(service("http", name=f"hung{i}"), url) for i, url in enumerate(services_that_hang)]
    refusing = service("tcp", name="refusing"), "http://127.0.0.1:1/"
    health.look([*hanging, refusing], "127.0.0.1", 1)
    assert health.sick == {"refusing"} and [name for name, _ in said] == ["refusing"]
    health.look([*hanging, refusing], "127.0.0.1", 1)
    assert health.sick == {"refusing"} | {each.name for each, _ in hanging}
    assert said[1][0] == "refusing", "it was not waited for those who hang"


@pytest.fixture
def services_that_hang():
    with socket.create_server(("127.0.0.1", 0)) as listening:  # it accepts nothing, and the kernel does
        yield [f"http://127.0.0.1:{listening.getsockname()[1]}/{i}" for i in range(5)]


def self_signed(folder):
    from datetime import datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody knows")])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    (folder / "cert.pem").write_bytes(certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")
