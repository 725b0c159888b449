"""TLS between two processes' ends of a real connection: who is let in, who is refused, and what each side is told."""

import contextlib
import os
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bdserver.commands import bdkeys
from bdserver.errors import BadConfig, BadFrame, BDError, Deadline, Forbidden, NobodyThere, Refused
from bdserver.net import tls

SECONDS = 10.0


def issue(folder, ca, name, *hosts, role="node", days=100):
    words = [word for host in hosts or ("127.0.0.1",) for word in ("--host", host)]
    out = f"{folder}/{name}"
    assert bdkeys.main(["issue", ca, name, *words, "--role", role, "--out", out, "--days", str(days)]) == 0
    return out


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with a CA of "prod", another of "other", and certificates of every kind."""
    folder = str(tmp_path_factory.mktemp("keys"))
    for mesh in ("prod", "other"):
        bdkeys.main(["init", f"{folder}/{mesh}", "--mesh", mesh])
    prod = f"{folder}/prod"
    issue(folder, prod, "web1", "127.0.0.1", "::1", "localhost")
    issue(folder, prod, "web2", "10.9.9.9")
    issue(folder, prod, "me", role="client")
    issue(folder, f"{folder}/other", "stranger")
    return folder


def conversation(server, client, address="127.0.0.1:9001", exchange=None):
    """(what the callee got, what the caller got): a Stream's text or the BDError, of one message each way."""
    listening = socket.create_server(("127.0.0.1", 0))
    results = {}
    deadline = time.monotonic() + SECONDS

    def serve():
        sock, _ = listening.accept()
        try:
            stream = tls.accept(sock, server, deadline)
            results["caller"] = stream.identity
            said = stream.recv(100_000, deadline)
            stream.send(said.upper(), deadline)
            stream.close()
            results["callee"] = said
        except BDError as error:
            results["callee"] = error
            sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    sock = socket.create_connection(listening.getsockname())
    try:
        stream = tls.connect(sock, client, address, deadline)
        results["identity"] = stream.identity
        stream.send(b"hello", deadline)
        results["me"] = stream.recv(100_000, deadline)
        stream.close()
    except BDError as error:
        results["me"] = error
    finally:
        sock.close()
    thread.join(SECONDS)
    listening.close()
    return results


def one_line(error):
    return "\n" not in str(error) and 10 < len(str(error)) < 400


@pytest.mark.parametrize("address", ["127.0.0.1:9001", "[::1]:9001", "localhost:9001", "LocalHost:9001"])
def test_a_node_of_the_mesh_is_reached_at_each_of_its_addresses(keys, address):
    server, client = tls.load(f"{keys}/web1", "web1"), tls.load(f"{keys}/me", "me")
    results = conversation(server, client, address)
    assert results["me"] == b"HELLO" and results["callee"] == b"hello"
    assert (results["identity"].name, results["caller"].name, results["caller"].role) == ("web1", "me", "client")


def test_a_certificate_for_another_address_is_nobody_of_ours(keys):
    server, client = tls.load(f"{keys}/web2", "web2"), tls.load(f"{keys}/me", "me")
    error = conversation(server, client)["me"]
    assert isinstance(error, Refused) and one_line(error)
    assert "127.0.0.1" in str(error) and "10.9.9.9" in str(error)


def test_a_client_cannot_stand_in_for_a_node(keys):
    server, client = tls.load(f"{keys}/me", "me"), tls.load(f"{keys}/web1", "web1")
    error = conversation(server, client)["me"]
    assert isinstance(error, BDError) and one_line(error)


@pytest.mark.parametrize(("server", "client"), [("web1", "stranger"), ("stranger", "web1")])
def test_another_mesh_is_refused_on_both_sides(keys, server, client):
    results = conversation(tls.load(f"{keys}/{server}", server), tls.load(f"{keys}/{client}", client))
    for side in ("me", "callee"):
        assert isinstance(results[side], BDError), side
        assert one_line(results[side])


def expired(keys, tmp_path):
    """A certificate that ended an hour ago; tls.load would refuse it, so its context is made by hand."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    ca = x509.load_pem_x509_certificates(open(f"{keys}/prod/ca.crt", "rb").read())
    ca_key = load_pem_private_key(open(f"{keys}/prod/ca.key", "rb").read(), None)
    key = load_pem_private_key(open(f"{keys}/me/me.key", "rb").read(), None)
    good = x509.load_pem_x509_certificate(open(f"{keys}/me/me.crt", "rb").read())
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(good.subject).issuer_name(good.issuer).public_key(key.public_key())
    builder = (
        builder.serial_number(5)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(hours=1))
    )
    for extension in good.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    certificate = builder.sign(ca_key, hashes.SHA256())
    return key, certificate, ca


def test_an_expired_certificate_is_refused_and_both_sides_say_so(keys, tmp_path):
    key, certificate, ca = expired(keys, tmp_path)
    client = tls.Credentials(key, certificate, ca, (), 0.0)
    results = conversation(tls.load(f"{keys}/web1", "web1"), client)
    assert isinstance(results["callee"], Forbidden) and "expired" in str(results["callee"])
    assert isinstance(results["me"], BDError) and "expired" in str(results["me"])


def test_an_expired_certificate_of_our_own_is_refused_at_the_start(keys, tmp_path):
    from cryptography.hazmat.primitives.serialization import Encoding

    _, certificate, _ = expired(keys, tmp_path)
    shutil.copytree(f"{keys}/me", tmp_path / "me")
    (tmp_path / "me" / "me.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    with pytest.raises(BadConfig, match="me.crt: expired on"):
        tls.load(str(tmp_path / "me"), "me")


def test_both_cas_are_believed_while_they_roll(tmp_path):
    ca = f"{tmp_path}/ca"
    bdkeys.main(["init", ca, "--mesh", "prod"])
    issue(tmp_path, ca, "old")
    bdkeys.main(["roll", ca])
    issue(tmp_path, ca, "new")
    shutil.copy(f"{ca}/ca.crt", tmp_path / "old" / "ca.crt")
    old, new = tls.load(f"{tmp_path}/old", "old"), tls.load(f"{tmp_path}/new", "new")
    assert conversation(old, new)["me"] == conversation(new, old)["me"] == b"HELLO"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda d: os.unlink(f"{d}/web1.key"), "web1.key: missing"),
        (lambda d: os.unlink(f"{d}/ca.crt"), "ca.crt: missing"),
        (lambda d: os.chmod(f"{d}/web1.key", 0o644), "others can read this private key .chmod 600"),
        (lambda d: shutil.copy(f"{d}/../me/me.key", f"{d}/web1.key"), "is not the key of"),
        (lambda d: shutil.copy(f"{d}/../other/ca.crt", f"{d}/ca.crt"), "is not signed by a CA in"),
        (lambda d: open(f"{d}/web1.crt", "w").close(), "web1.crt: is not a certificate in PEM"),
        (lambda d: shutil.copy(f"{d}/web1.crt", f"{d}/ca.crt"), "holds a certificate that is not a CA's"),
    ],
)  # fmt: skip
def test_bad_key_files_are_one_line_with_the_file(keys, tmp_path, spoil, reason):
    for name in ("web1", "me", "other"):
        shutil.copytree(f"{keys}/{name}", tmp_path / name)
    spoil(str(tmp_path / "web1"))
    with pytest.raises(BadConfig, match=reason) as refusal:
        tls.load(str(tmp_path / "web1"), "web1")
    assert one_line(refusal.value)


def served(keys, talk):
    """What tls.accept raises for a caller that does `talk(sock)`."""
    listening = socket.create_server(("127.0.0.1", 0))
    raised = []

    def serve():
        sock, _ = listening.accept()
        try:
            tls.accept(sock, tls.load(f"{keys}/web1", "web1"), time.monotonic() + 1.0)
        except BDError as error:
            raised.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with socket.create_connection(listening.getsockname()) as sock:
        talk(sock)
        thread.join(SECONDS)
    listening.close()
    assert not thread.is_alive()
    return raised[0]


def test_plain_http_is_told_from_tls(keys):
    assert isinstance(served(keys, lambda sock: sock.sendall(b"GET / HTTP/1.1\r\n\r\n")), BadFrame)


def test_a_caller_that_says_nothing_meets_the_deadline(keys):
    assert isinstance(served(keys, lambda sock: None), Deadline)


@contextlib.contextmanager
def connected(keys):
    """(the callee's Stream, the caller's, the caller's bare socket)."""
    here, there = socket.socketpair()
    server, client = tls.load(f"{keys}/web1", "web1"), tls.load(f"{keys}/me", "me")
    deadline = time.monotonic() + SECONDS
    with ThreadPoolExecutor() as pool:
        accepted = pool.submit(tls.accept, here, server, deadline)
        caller = tls.connect(there, client, "127.0.0.1:1", deadline)
        callee = accepted.result()
    yield callee, caller, there
    callee.close(), caller.close()


def test_a_record_that_drips_in_does_not_move_the_deadline(keys):
    with connected(keys) as (callee, _, bare):
        bare.send(b"\x17\x03\x03\x40\x00")  # 16 kB are to follow
        is_over = threading.Event()

        def drip():
            while not is_over.wait(0.01):
                bare.send(b"x")

        with ThreadPoolExecutor() as pool:
            pool.submit(drip)
            try:
                with pytest.raises(Deadline):
                    callee.recv(10, time.monotonic() + 0.3)
            finally:
                is_over.set()


def test_who_does_not_read_meets_the_deadline_and_can_still_be_heard(keys):
    with connected(keys) as (callee, caller, _):
        caller.send(b"one word", time.monotonic() + SECONDS)
        with pytest.raises(Deadline, match="did not read in time"):
            callee.send(bytes(10_000_000), time.monotonic() + 0.3)
        assert callee.recv(100, time.monotonic() + SECONDS) == b"one word"


def test_a_record_longer_than_was_asked_for_comes_in_pieces(keys):
    with connected(keys) as (callee, caller, _):
        caller.send(b"abcdefgh", time.monotonic() + SECONDS)
        assert [callee.recv(3, time.monotonic() + SECONDS) for _ in range(3)] == [b"abc", b"def", b"gh"]


def test_a_caller_that_goes_away_is_nobody(keys):
    assert isinstance(served(keys, lambda sock: sock.close()), NobodyThere)


def test_a_caller_without_a_certificate_is_refused(keys):
    import ssl

    def talk(sock):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["bd/1"])
        try:
            with context.wrap_socket(sock) as tls_sock:
                tls_sock.recv(1)
        except OSError:
            pass

    error = served(keys, talk)
    assert isinstance(error, Forbidden) and "certificate" in str(error)


def test_five_megabytes_both_ways(keys):
    listening = socket.create_server(("127.0.0.1", 0))
    server, client = tls.load(f"{keys}/web1", "web1"), tls.load(f"{keys}/me", "me")
    data = os.urandom(5_000_000)
    deadline = time.monotonic() + 30
    echoed = []

    def serve():
        sock, _ = listening.accept()
        stream = tls.accept(sock, server, deadline)
        received = b""
        while len(received) < len(data):
            received += stream.recv(65536, deadline)
        stream.send(received, deadline)
        stream.close()

    thread = threading.Thread(target=serve)
    thread.start()
    stream = tls.connect(socket.create_connection(listening.getsockname()), client, "127.0.0.1:1", deadline)
    stream.send(data, deadline)
    while True:
        chunk = stream.recv(65536, deadline)
        if not chunk:  # a clean end
            break
        echoed.append(chunk)
    thread.join(SECONDS)
    listening.close()
    assert b"".join(echoed) == data


def test_an_end_without_goodbye_is_a_broken_connection(keys):
    listening = socket.create_server(("127.0.0.1", 0))
    server, client = tls.load(f"{keys}/web1", "web1"), tls.load(f"{keys}/me", "me")
    deadline = time.monotonic() + SECONDS

    def serve():
        sock, _ = listening.accept()
        stream = tls.accept(sock, server, deadline)
        stream.recv(10, deadline)
        sock.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve)
    thread.start()
    stream = tls.connect(socket.create_connection(listening.getsockname()), client, "127.0.0.1:1", deadline)
    stream.send(b"x", deadline)
    with pytest.raises(NobodyThere):
        stream.recv(10, deadline)
    thread.join(SECONDS)
    listening.close()
