"""web=embedded: services are served at once, under another account, and the server's life is that of its node."""

import http.client
import os
import signal
import socket
import tempfile

import pytest

from tests.hosts import Mesh, free_port, until

HELLO = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello of '; id -un\n"


@pytest.fixture
def host():
    """In a folder that every account may pass."""
    with tempfile.TemporaryDirectory() as folder, Mesh(folder) as mesh:
        host = mesh.host("n1", web="embedded", axis_port=free_port())
        for each in (folder, host.folder):
            os.chmod(each, 0o755)
        yield host


def get(host, path):
    connection = http.client.HTTPConnection("127.0.0.1", host.config["axis_port"], timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def is_free(host):
    try:
        socket.create_connection(("127.0.0.1", host.config["axis_port"])).close()
    except OSError:
        return True
    return False


def test_what_is_dropped_in_is_served_and_its_bdcert_is_not(host):
    host.start()
    host.add_service("Hello", text=HELLO)
    host.add_service("Page", text="a page\n")
    os.chmod(os.path.join(host.services, "Page"), 0o644)
    assert get(host, "/axis/Page?wsdl") == (200, "a page\n")
    status, text = get(host, "/axis/Hello?wsdl")
    if os.geteuid() == 0:
        assert (status, text) == (200, "hello of nobody\n"), "an account that can't read the node's key"
    else:
        assert status == 403, "the daemon's own account runs no programs of the mesh"
    assert get(host, "/axis/Page.bdcert")[0] == 404
    url = host.whereis("Page").stdout.strip()
    assert url == f"http://127.0.0.1:{host.config['axis_port']}/axis/Page?wsdl"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGQUIT])
def test_it_ends_with_its_node_whatever_ended_that_and_the_next_one_has_the_port(host, number):
    host.start()
    assert not is_free(host)
    host.end(number)
    until(lambda: is_free(host), 20, "the web server is gone")
    host.start()
    host.add_service("Page", text=HELLO)
    until(lambda: get(host, "/axis/Page")[0] in (200, 403), 20, "it serves again")


def test_a_port_that_is_taken_is_a_line_and_a_check_finds_it(host):
    with socket.create_server(("127.0.0.1", host.config["axis_port"])):
        done = host.run_daemon("--check")
        assert done.returncode == 1 and f"axis_port={host.config['axis_port']} can't be had" in done.stderr
    assert host.run_daemon("--check").returncode == 0
    host.start()
    assert host.run_daemon("--check").returncode == 0, "the daemon has it"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
@pytest.mark.parametrize(("user", "words"), [("root", "neither root"), ("no-such-user-here", "no such user")])
def test_an_account_that_can_read_the_key_is_refused(host, user, words):
    host.write_config(web_user=user)
    done = host.run_daemon("--check")
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_one_that_dies_is_started_again(host):
    host.start()
    host.add_service("Page", text=HELLO)

    def servers():
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if f"web server of n1 at port {host.config['axis_port']}".encode() in file.read():
                        found.append(int(pid))
            except OSError:
                pass
        return sorted(found)

    before = until(lambda: len(servers()) == 2 and servers(), 10, "a supervisor and a server")
    os.kill(before[1], signal.SIGKILL)
    until(lambda: len(servers()) == 2 and servers() != before, 20, "another one")
    assert get(host, "/axis/Page")[0] in (200, 403)
