"""The first errors that people make: one line each, that names the cause and what to do. OPERATIONS has the table."""

import datetime
import http.server
import os
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

from bdserver.net import issuing
from bdserver.processes import advertised
from tests.hosts import RUN, Mesh, free_port, until

OPERATIONS = (pathlib.Path(__file__).parents[2] / "docs" / "OPERATIONS.md").read_text()


def refused(host, *words, status=2, how="--foreground"):
    """bdserverd ends with this status (2: only an editor mends it; 1: it may pass) and one line that holds these words; the line."""
    line = [sys.executable, "-c", RUN, "bdserverd", how, host.config_path]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status and done.stdout == "", done
    [line] = done.stderr.splitlines()
    assert line.startswith("bdserverd: ") and all(word in line for word in words), line
    return line


def in_table(words):
    """OPERATIONS names this error in its table, with a remedy."""
    rows = [row for row in OPERATIONS.splitlines() if row.startswith("| `") and words in row]
    assert rows and all(len(row.split("|")[2].strip()) > 10 for row in rows), words


def test_no_key(mesh):
    host = mesh.host("alpha")
    os.unlink(os.path.join(host.folder, "alpha.key"))
    refused(host, "alpha.key: missing", "bdkeys issue DIR alpha --host HOST", status=1)  # its disk may not be mounted yet
    in_table("missing")


def test_a_key_that_the_daemon_may_not_read(mesh):
    host = mesh.host("alpha")
    path = os.path.join(host.folder, "alpha.key")
    if os.getuid() == 0:  # who is root may read everything: a key that everybody may read is as bad
        os.chmod(path, 0o644)
        refused(host, f"{path}: others can read this private key", f"chmod 600 {path}")
        in_table("others can read this private key")
    else:
        os.chmod(path, 0)
        refused(host, f"{path}: Permission denied")


def test_a_key_that_is_not_the_certificates(mesh):
    alpha, beta = mesh.host("alpha"), mesh.host("beta")
    os.replace(os.path.join(beta.folder, "beta.key"), os.path.join(alpha.folder, "alpha.key"))
    refused(alpha, "alpha.key: is not the key of", "alpha.crt")


def test_the_wrong_host_in_the_certificate(mesh):
    host = mesh.host("alpha")
    host.write_config(advertise="10.9.8.7")
    refused(host, "advertise=10.9.8.7, but the certificate is for 127.0.0.1", "--host 10.9.8.7")
    in_table("advertise=X, but the certificate is for Y")


def test_advertise_is_not_clear(mesh):
    host = mesh.host("alpha")
    for name in os.listdir(host.folder):
        if name.startswith("alpha."):
            os.unlink(os.path.join(host.folder, name))
    mesh.issue("alpha", "10.1.1.1", "10.1.1.2", folder=host.folder)
    host.write_config(bind="")
    has_a_route = bool(advertised.local_addresses())  # without one, it may come late at boot
    words = "set advertise= to the address by which the others reach this node: 10.1.1.1, 10.1.1.2"
    refused(host, words, status=2 if has_a_route else 1)
    in_table("set advertise= to the address")


def test_the_port_is_taken(mesh):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        host = mesh.host("alpha", port=taken.getsockname()[1])
        words = f"port={host.port} can't be had on 127.0.0.1: Address already in use"
        refused(host, words, "ss -ltnp", status=1, how="--check")
    in_table("can't be had on")


def test_the_address_is_not_there(mesh):
    host = mesh.host("alpha", bind="192.0.2.1 127.0.0.1", advertise="127.0.0.1")
    words = f"port={host.port} can't be had on 192.0.2.1: Cannot assign requested address"
    refused(host, words, "ip addr shows those it has", status=1, how="--check")
    in_table("Cannot assign requested address")


@pytest.mark.parametrize("how", ["--foreground", None])
def test_a_port_that_is_taken_at_boot_is_waited_for(mesh, how):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        host = mesh.host("alpha", port=taken.getsockname()[1], log_file="daemon.log")
        line = [sys.executable, "-c", RUN, "bdserverd", *filter(None, [how]), host.config_path]
        with open(host.log_path, "wb") as log:
            host.process = subprocess.Popen(line, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: "Address already in use (ss -ltnp tells by whom): waiting for it" in host.log, 20, "the one line")
    if how is None:
        assert host.process.wait(30) == 0
        assert host.ask(["LEAVE"]) == ["OK"]
        until(lambda: not os.path.exists(host.socket.replace(".sock", ".pid")), 20, "it has ended")
    else:
        host.wait_ready()
    assert host.log.count("waiting") == 1


@pytest.mark.parametrize(("days", "words", "status"), [(3, "is not valid before", 1), (-500, "expired on", 2)])
def test_the_clock_is_off_or_the_certificate_is_old(mesh, monkeypatch, days, words, status):
    class Elsewhen(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(days=days)

    with monkeypatch.context() as patched:
        patched.setattr(issuing, "datetime", Elsewhen)
        host = mesh.host("alpha")
    refused(host, "alpha.crt", words, status=status)
    in_table(words)


def test_a_client_certificate_for_a_node(mesh):
    host = mesh.host("alpha")
    for name in ("alpha.key", "alpha.crt"):
        os.unlink(os.path.join(host.folder, name))
    mesh.issue("alpha", role="client", folder=host.folder)
    refused(host, "has the role client, and a node needs the role node", "--role node")


def test_no_folder_and_no_user(mesh):
    host = mesh.host("alpha")
    host.write_config(user="nobody-at-all")
    refused(host, "nobody-at-all")
    host.write_config(user="", var_dir="/proc/nowhere")
    refused(host, "can't make the folder /proc/nowhere")


def said(host, words):
    """The one line of the log that has these words; it comes, and it comes once."""
    until(lambda: words in host.log, 30, f"{words!r} in the log: {host.log[-1500:]}")
    lines = [line for line in host.log.splitlines() if words in line and "DEBUG" not in line]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_hint_that_is_another_mesh(mesh, tmp_path):
    with Mesh(str(tmp_path / "other"), "other") as other:
        stranger = other.host("stranger").start()
        host = mesh.host("alpha", hints=stranger.address).start()
        line = said(host, "of mesh other")
        assert stranger.address in line, line
        in_table("of mesh other, not of our mesh")


def test_a_hint_that_is_no_bdserver(mesh):
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    try:
        address = f"127.0.0.1:{server.server_port}"
        host = mesh.host("alpha", hints=address).start()
        line = said(host, f"call to {address}" if f"call to {address}" in host.log else address)
        assert "does not speak bd/1 over TLS 1.3" in line, line
        in_table("does not speak bd/1 over TLS 1.3")
    finally:
        server.shutdown()
        server.server_close()


def test_a_hint_where_nobody_is(mesh):
    address = f"127.0.0.1:{free_port()}"
    host = mesh.host("alpha", hints=address).start()
    assert "connection refused" in said(host, address)
    in_table("connection refused")


def test_a_hint_whose_certificate_is_for_another_address(mesh):
    beta = mesh.host("beta", bind="127.0.0.1 127.0.0.2").start()
    host = mesh.host("alpha", hints=f"127.0.0.2:{beta.port}").start()
    line = said(host, "its certificate (beta) is for")
    assert f"127.0.0.2:{beta.port}" in line and "127.0.0.1, not for 127.0.0.2" in line
    in_table("its certificate (beta) is for Y, not for X")
