"""The embedded web container and the sample services in it, called as their users would: by HTTP and by zeep."""

import contextlib
import errno
import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time

import pytest
import zeep

from bdserver import demo
from bdserver.net import container
from tests.hosts import free_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMPLES = os.path.join(os.path.dirname(demo.__file__), "services")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(port, folder) of a container process with the sample services."""
    folder = tmp_path_factory.mktemp("services")
    for name in os.listdir(SAMPLES):
        data = open(os.path.join(SAMPLES, name), "rb").read()
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o644 if name.endswith(".bdcert") else 0o755)
    port = free_port()
    line = [sys.executable, "-m", "bdserver.net.container", "--port", str(port), "--services", str(folder)]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert f"http://127.0.0.1:{port}/axis/" in process.stdout.readline()
    yield port, folder
    process.terminate()
    assert process.wait(20) == 0


def add(folder, name, text, cert="weight=1\n"):
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    if cert is not None:
        (folder / f"{name}.bdcert").write_text(cert)


def get(port, path, method="GET", body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())
    finally:
        connection.close()


def test_zeep_calls_every_sample_at_its_wsdl(served):
    port, _ = served

    def service(name):
        return zeep.Client(f"http://127.0.0.1:{port}/axis/{name}?wsdl").service

    assert service("Temperature").Convert(degrees=100, unit="C").degrees == 212.0
    assert service("Temperature").Convert(degrees=212, unit="f").degrees == 100.0
    primes = service("Primes").Factors(number=360)
    assert primes.factors == "2 2 2 3 3 5" and primes.host == f"127.0.0.1:{port}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*\+0\d:00", service("TimeOfDay").Now(zone="Europe/Berlin").time)


@pytest.mark.parametrize(
    ("name", "operation", "arguments", "reason"),
    [
        ("Temperature", "Convert", {"degrees": 1, "unit": "K"}, "unit is C or F"),
        ("Primes", "Factors", {"number": 1}, "must be 2 to"),
        ("TimeOfDay", "Now", {"zone": "Mars/Olympus"}, "no zone is called"),
        ("TimeOfDay", "Now", {"zone": "../../etc/passwd"}, "no zone is called"),
    ],
)
def test_what_a_caller_does_wrong_is_a_soap_fault(served, name, operation, arguments, reason):
    client = zeep.Client(f"http://127.0.0.1:{served[0]}/axis/{name}?wsdl")
    with pytest.raises(zeep.exceptions.Fault, match=reason):
        client.service[operation](**arguments)


@pytest.mark.parametrize(
    "body", ["", "<", "<!DOCTYPE x [<!ENTITY e 'x'>]><x>&e;</x>", "<a><b><c/></b></a>", "<a>" * 5000, "x" * 70000]
)
def test_odd_messages_are_faults_too(served, body):
    status, text, _ = get(served[0], "/axis/Primes", "POST", body)
    assert status == 500 and "<s:Fault>" in text


def test_who_served_is_told(served):
    status, page, headers = get(served[0], "/axis/Primes")
    assert status == 200 and headers["X-Served-By"] == f"127.0.0.1:{served[0]}" and "<h1>Primes</h1>" in page


def test_what_is_dropped_in_is_live_at_once_and_gone_at_once(served):
    port, folder = served
    assert get(port, "/axis/Hello")[0] == 404
    add(folder, "Hello", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
    assert get(port, "/axis/Hello")[:2] == (200, "hello")
    os.unlink(folder / "Hello.bdcert")
    assert get(port, "/axis/Hello")[0] == 404


def test_a_folder_with_an_index_is_a_service(served):
    port, folder = served
    (folder / "Site").mkdir()
    add(folder, "Site/index.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; cat data\n", None)
    (folder / "Site" / "data").write_text("inside")
    (folder / "Site.bdcert").write_text("weight=1\n")
    assert get(port, "/axis/Site")[:2] == (200, "inside")


@pytest.mark.parametrize(
    "path",
    ["/", "/axis/", "/axis/Primes.bdcert", "/axis/../axis/Primes/..", "/axis/%2e%2e/x", "/axis/%2fetc%2fpasswd", "/axis/a%00b",
     "/axis/Primes/x", "/Primes", "/axis/.hidden", "/other/Primes", "/axis/" + "x" * 5000],
)  # fmt: skip
def test_no_path_leads_out_of_the_folder(served, path):
    assert get(served[0], path)[0] in (404, 414)


def test_head_has_no_body_and_the_length(served):
    status, body, headers = get(served[0], "/axis/Primes?wsdl", "HEAD")
    assert status == 200 and body == "" and int(headers["Content-Length"]) > 1000


def test_no_header_becomes_a_proxy_setting(served):
    port, folder = served
    add(folder, "Env", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; env\n")
    page = get(port, "/axis/Env?q=1", headers={"Proxy": "http://evil", "X-Odd": "1"})[1]
    assert "HTTP_PROXY" not in page and "HTTP_X_ODD=1" in page and "QUERY_STRING=q=1" in page
    assert "GATEWAY_INTERFACE=CGI/1.1" in page


@pytest.mark.parametrize("script", ["exit 3", "echo nonsense", "kill -9 $$", "printf 'Status: x\\n\\n'"])
def test_a_script_that_fails_is_an_error_and_nothing_more(served, script):
    port, folder = served
    add(folder, "Bad", f"#!/bin/sh\n{script}\n")
    assert get(port, "/axis/Bad")[0] in (500, 504)
    assert get(port, "/axis/Primes")[0] == 200


def test_too_large_a_body_is_refused_before_it_is_read(served):
    for length in (str(1 << 30), "0" * 12 + str(1 << 30), "9" * 5000):
        assert get(served[0], "/axis/Primes", "POST", headers={"Content-Length": length})[0] == 413
    assert get(served[0], "/axis/Primes", "POST", headers={"Content-Length": "\xb2"})[0] == 411


def test_a_script_that_hangs_or_floods_is_ended(monkeypatch, tmp_path):
    add(tmp_path, "Hang", "#!/bin/sh\nsleep 100 & sleep 100\n")
    add(tmp_path, "Leave", f"#!{sys.executable}\nimport os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(3)\n")
    add(tmp_path, "Flood", "#!/bin/sh\necho; yes\n")
    monkeypatch.setattr(container, "SCRIPT_SECONDS", 0.3)
    monkeypatch.setattr(container, "OUTPUT_BYTES_MAX", 100_000)
    started = time.monotonic()
    for name in ("Hang", "Leave"):
        assert container._run(str(tmp_path / name), {"PATH": "/usr/bin:/bin"}, b"x" * 200_000)[0] == 504
    assert container._run(str(tmp_path / "Flood"), {"PATH": "/usr/bin:/bin"}, b"")[0] in (500, 504)
    assert time.monotonic() - started < 60


# --- files --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(folder, **options):
    """A container in this process, with a thread that serves."""
    made = container.Container("127.0.0.1", 0, str(folder), "axis", **options)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


@pytest.fixture
def sent(tmp_path):
    """(port, folder) of a container in this process that runs no programs."""
    with serving(tmp_path, runs_scripts=False) as made:
        yield made.server_port, tmp_path


def test_a_file_that_is_no_program_is_sent_as_it_is(sent):
    port, folder = sent
    (folder / "hello").write_text("hello\n")
    (folder / "hello.bdcert").write_text("weight=1\n")
    status, text, headers = get(port, "/axis/hello?wsdl")
    assert (status, text) == (200, "hello\n") and headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, text, headers = get(port, "/axis/hello", "HEAD")
    assert (status, text, headers["Content-Length"]) == (200, "", "6")
    assert get(port, "/axis/hello", "POST", "x")[0] == 405


def test_a_folder_is_its_index_and_what_lies_below(sent):
    port, folder = sent
    (folder / "Site" / "part").mkdir(parents=True)
    (folder / "Site.bdcert").write_text("weight=1\n")
    for name, text in (("index.html", "<p>"), ("part/a.css", "a{}"), (".hidden", "no"), ("x.bdcert", "no")):
        (folder / "Site" / name).write_text(text)
    assert get(port, "/axis/Site")[:2] == (200, "<p>") and get(port, "/axis/Site/part/a.css")[:2] == (200, "a{}")
    for path in (
        "/axis/Site/.hidden",
        "/axis/Site/x.bdcert",
        "/axis/Site/part",
        "/axis/Site/../Site.bdcert",
        "/axis/Site/nothing",
    ):
        assert get(port, path)[0] == 404, path


def test_a_link_that_leads_out_is_not_followed(sent):
    port, folder = sent
    (folder / "Site").mkdir()
    for name in ("Site", "Link"):
        (folder / f"{name}.bdcert").write_text("weight=1\n")
    os.symlink("/etc/hostname", folder / "Site" / "out")
    os.symlink("/etc/hostname", folder / "Link")
    assert get(port, "/axis/Site/out")[0] == get(port, "/axis/Link")[0] == 404


def test_a_file_that_may_not_be_read_is_forbidden(sent, monkeypatch):
    port, folder = sent
    (folder / "secret").write_text("secret\n")
    (folder / "secret.bdcert").write_text("weight=1\n")

    def denied(path, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(container, "open", denied, raising=False)  # what is root may read all
    status, text, _ = get(port, "/axis/secret")
    assert status == 403 and "secret\n" not in text


def test_programs_are_run_only_where_that_is_wanted(sent):
    port, folder = sent
    add(folder, "Run", "#!/bin/sh\necho; echo ran\n")
    status, text, _ = get(port, "/axis/Run")
    assert status == 403 and "web_user" in text


def test_too_many_callers_are_hung_up_on(sent, monkeypatch):
    made = container.Container("127.0.0.1", 0, str(sent[1]))
    monkeypatch.setattr(made, "_places", threading.BoundedSemaphore(1))
    assert made._places.acquire(blocking=False)
    ours, theirs = socket.socketpair()
    made.process_request(theirs, ("127.0.0.1", 1))
    assert ours.recv(10) == b""
    ours.close()
    made.server_close()


def test_who_is_there_for_longest_gives_way_when_all_places_are_taken(sent, monkeypatch):
    monkeypatch.setattr(container, "PLACE_SECONDS", 0.0)
    monkeypatch.setattr(container, "GIVE_WAY_SECONDS", 10.0)
    with serving(sent[1]) as made:
        made._places = threading.BoundedSemaphore(2)
        slow = [socket.create_connection(("127.0.0.1", made.server_port), 20) for _ in range(2)]
        for each in slow:
            each.sendall(b"GET /axis/hello HT")
        deadline = time.monotonic() + 10
        while len(made._callers) < 2:
            assert time.monotonic() < deadline
        assert get(made.server_port, "/axis/nothing")[0] == 404
        assert slow[0].recv(10) == b"", "it gave way"
        for each in slow:
            each.close()


def test_a_place_is_free_again_when_there_is_no_room_for_a_thread(sent, monkeypatch):
    made = container.Container("127.0.0.1", 0, str(sent[1]))
    made._places = threading.BoundedSemaphore(1)

    def none_left(thread):
        raise RuntimeError("can't start new thread")

    ours, theirs = socket.socketpair()
    with ours, theirs, monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                made.process_request(theirs, ("127.0.0.1", 1))
    assert made._places.acquire(blocking=False) and not made._callers
    made.server_close()


# --- programs, in this process ------------------------------------------------------------------------------------


def test_a_script_s_own_length_does_not_count_and_its_status_and_headers_do(tmp_path):
    add(tmp_path, "Made", "#!/bin/sh\nprintf 'Status: 201 x\\nContent-Length: 999\\nX-Odd: 1\\n\\n'; cat\n")
    with serving(tmp_path) as made:
        status, text, headers = get(made.server_port, "/axis/Made", "POST", "said")
    assert (status, text, headers["Content-Length"], headers["X-Odd"]) == (201, "said", "4", "1")


def test_a_program_that_cannot_be_started_is_told(tmp_path):
    add(tmp_path, "Lost", "#!/no/such/interpreter\n")
    with serving(tmp_path) as made:
        assert get(made.server_port, "/axis/Lost")[:2] == (500, "the script can't be started\n")


def test_a_body_of_no_length_is_refused_before_the_program_is_run(tmp_path):
    add(tmp_path, "Run", f"#!/bin/sh\ntouch {tmp_path}/ran; echo\n")
    with serving(tmp_path) as made, socket.create_connection(("127.0.0.1", made.server_port), 20) as sock:
        sock.sendall(b"POST /axis/Run HTTP/1.1\r\nHost: h\r\nContent-Length: many\r\n\r\n")
        assert sock.recv(12) == b"HTTP/1.0 411"
    assert not os.path.exists(tmp_path / "ran")


def test_when_as_many_programs_run_as_may_the_next_caller_comes_again(tmp_path):
    add(tmp_path, "Run", "#!/bin/sh\nprintf 'X-Odd: 1\\n\\nran'\n")
    with serving(tmp_path) as made:
        made.slots = threading.BoundedSemaphore(1)
        with made.slots:
            assert get(made.server_port, "/axis/Run")[0] == 503
        assert get(made.server_port, "/axis/Run")[:2] == (200, "ran")


def test_a_socket_that_listens_already_is_served(tmp_path):
    """As a daemon gives it to a child whose account may not open the port."""
    (tmp_path / "hello").write_text("hello\n")
    (tmp_path / "hello.bdcert").write_text("weight=1\n")
    with socket.create_server(("127.0.0.1", 0)) as listening, serving(tmp_path, listening=listening) as made:
        assert made.server_port == listening.getsockname()[1]
        assert get(made.server_port, "/axis/hello")[:2] == (200, "hello\n")


def test_a_port_that_is_taken_is_one_line(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert container.main(["--port", str(port), "--services", str(tmp_path)]) == 1
    assert capsys.readouterr() == ("", f"container: 127.0.0.1:{port}: Address already in use\n")
