"""TLS by what Python's ssl is made of, for one call: what it takes from our files, and whom it believes. What all callers refuse of a node's
certificate is in test_handshake, which goes this way too."""

import contextlib
import os
import socket
import ssl
import threading

import pytest

from bdserver.core.names import valid_name
from bdserver.errors import Deadline, Refused
from bdserver.net import keys, onecall, tls
from bdserver.net.authority import Authority
from tests.unit.certificates import Key, load_certificate, make_keys, save, uri
from tests.unit.sockets import soon


@pytest.fixture
def folder(tmp_path):
    folder = str(tmp_path)
    for mesh in ("prod", "other"):
        Authority.make(f"{folder}/{mesh}", mesh)
    make_keys(folder, f"{folder}/prod", "web1")
    make_keys(folder, f"{folder}/prod", "me", role="client")
    return folder


@pytest.fixture
def me(folder):
    return f"{folder}/me/me"


def load(me):
    return onecall.Caller.load(me, valid_name)


def test_what_bdkeys_makes_is_shown(me):
    ours = load(me)
    assert ours.mesh == "prod" and ours.context.verify_mode == ssl.CERT_REQUIRED
    assert ours.context.minimum_version == ssl.TLSVersion.TLSv1_3


def test_two_cas_are_believed_while_they_roll_over(folder, me):
    save(f"{folder}/me/ca.crt", *(load_certificate(f"{folder}/{mesh}/ca.crt") for mesh in ("prod", "other")))
    assert load(me).context.cert_store_stats()["x509_ca"] == 2


def sign(folder, names, public_key=None):
    """Another certificate for us, by the mesh's CA."""
    authority = load_certificate(f"{folder}/prod/ca.crt")
    key = public_key or Key.of(f"{folder}/me/me.key").key.public_key()
    return Key.of(f"{folder}/prod/ca.key").sign(key, authority.subject, names)


def test_a_key_that_others_can_read_is_for_keys_to_judge(me):
    os.chmod(f"{me}.key", 0o640)
    with pytest.raises(onecall.UNUSUAL):
        load(me)


@pytest.mark.parametrize("name", ["me.key", "me.crt", "ca.crt"])
@pytest.mark.parametrize("made", ["gone", "empty", "a folder", "a pipe", "long", "noise"])
def test_a_file_that_is_not_as_it_should_be_is_for_keys_to_judge(folder, me, name, made):
    path = f"{folder}/me/{name}"
    with open(path) as file:
        text = file.read()
    os.unlink(path)
    if made == "a folder":
        os.mkdir(path)
    elif made == "a pipe":
        os.mkfifo(path, 0o600)
    elif made != "gone":
        with open(path, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write({"empty": "", "long": text + " " * (1 << 20), "noise": "ä" + text[5:]}[made])
    with pytest.raises(onecall.UNUSUAL):
        load(me)


def test_a_key_with_a_passphrase_asks_nobody_for_it(me):
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    locked = Key.of(f"{me}.key").key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with open(f"{me}.key", "wb") as file:
        file.write(locked)
    with pytest.raises(onecall.UNUSUAL):
        load(me)


def test_another_keys_certificate_is_refused(folder, me):
    Key().save(f"{me}.key")
    with pytest.raises(onecall.UNUSUAL):
        load(me)


def test_two_certificates_where_one_belongs(folder, me):
    save(f"{me}.crt", load_certificate(f"{me}.crt"), load_certificate(f"{folder}/prod/ca.crt"))
    with pytest.raises(onecall.UNUSUAL, match="not one certificate"):
        load(me)


def test_a_key_of_another_kind_is_for_keys_to_judge(folder, me):
    from cryptography.hazmat.primitives.asymmetric import ec

    other = Key(ec.generate_private_key(ec.SECP384R1()))
    other.save(f"{me}.key")
    save(f"{me}.crt", sign(folder, [uri("bd://prod/client/me")], other.key.public_key()))
    with pytest.raises(onecall.UNUSUAL, match="P-256"):
        load(me)


@pytest.mark.parametrize(
    "uris", [[], ["http://x/"], ["bd://prod/client/me", "bd://other/client/me"], ["bd://prod/client/me/x"], ["bd://prod/client"],
             ["bd://p d/client/me"], ["bd://prod/client/" + "m" * 120]]
)  # fmt: skip
def test_a_certificate_of_ours_without_one_plain_name_is_for_keys_to_judge(folder, me, uris):
    save(f"{me}.crt", sign(folder, [uri(each) for each in uris]))
    with pytest.raises(onecall.UNUSUAL):
        load(me)


def test_a_ca_that_is_none_is_for_keys_to_judge(folder, me):
    save(f"{folder}/me/ca.crt", load_certificate(f"{folder}/prod/ca.crt"), load_certificate(f"{folder}/web1/web1.crt"))
    with pytest.raises(onecall.UNUSUAL, match="not all of them are CAs"):
        load(me)


# --- the node at the other end ------------------------------------------------------------------------------------

CERTIFICATE = {"subjectAltName": (("DNS", "Web1.Example."), ("IP Address", "10.0.0.1"), ("URI", "bd://prod/node/web1"))}


@pytest.mark.parametrize("host", ["web1.example", "10.0.0.1"])
def test_a_node_is_known_by_each_of_its_hosts(host):
    assert onecall.Caller(None, "prod", valid_name).is_node(CERTIFICATE, host)


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (CERTIFICATE["subjectAltName"], "10.0.0.2"),
        ((("DNS", "*.example"), ("URI", "bd://prod/node/web1")), "web1.example"),
        ((("DNS", "ten.example"),), "ten.example"),
        ((("DNS", "\u212aelvin"), ("URI", "bd://prod/node/web1")), "kelvin"),
        *(
            ((("DNS", "h"), *(("URI", each) for each in uris)), "h")
            for uris in (
                ["bd://other/node/web1"], ["bd://prod/client/web1"], ["bd://prod/admin/web1"], ["BD://prod/node/web1"],
                ["bd://prod/node/"], ["bd://prod/node/a.bdcert"], ["bd://prod/node/web1/x"], ["bd://prod/node/-x"],
                ["bd://prod/node/web1", "bd://prod/node/web2"], ["bd://prod/node/web1", "bd:x"], ["bd://prod/node/web1\n"],
            )
        ),
    ],
)  # fmt: skip
def test_everybody_else_is_not(names, host):
    assert not onecall.Caller(None, "prod", valid_name).is_node({"subjectAltName": names}, host)


def test_who_shows_no_certificate_is_not():
    caller = onecall.Caller(None, "prod", valid_name)
    assert not caller.is_node(None, "h") and not caller.is_node({}, "h")


# --- the call -----------------------------------------------------------------------------------------------------


def test_a_call_is_heard_and_answered(folder, me):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            sock, _ = listening.accept()
            stream = tls.accept(sock, keys.load(f"{folder}/web1", "web1"), soon())
            stream.send(stream.recv(100, soon()).upper(), soon())
            stream.close()

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        stream = load(me).dial("127.0.0.1", port, soon())
        stream.sendall(b"hello")
        assert stream.recv(100) == b"HELLO"
        thread.join(10)


def test_where_nobody_is_or_answers_it_says_so_as_the_long_way_does(me):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(Deadline, match=f"^127.0.0.1:{port}: did not answer in time$"):
            load(me).dial("127.0.0.1", port, soon(0.2))
    with pytest.raises(Refused, match=f"^127.0.0.1:{port}: connection refused$"):
        load(me).dial("127.0.0.1", port, soon())


def _serve(listening, folder, *protocols, version=None):
    """A callee with Python's own TLS and a node's certificate of the mesh, for one caller."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/web1/web1.crt", f"{folder}/web1/web1.key")
    if version is not None:
        context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(list(protocols))

    def serve():
        sock, _ = listening.accept()
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as stream:
            stream.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("protocols", "version", "is_taken"),
    [(["bd/1"], None, True), (["h2", "bd/1"], None, True), ([], None, False), (["h2"], None, False),
     (["bd/1"], ssl.TLSVersion.TLSv1_2, False)],
)  # fmt: skip
def test_a_node_that_does_not_speak_bd_over_tls_1_3_is_not_called(folder, me, protocols, version, is_taken):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = _serve(listening, folder, *protocols, version=version)
        port = listening.getsockname()[1]
        if is_taken:
            load(me).dial("127.0.0.1", port, soon())
        else:
            with pytest.raises(onecall.UNUSUAL):
                load(me).dial("127.0.0.1", port, soon())
        thread.join(10)


def test_what_is_no_tls_at_all_is_not_called(me):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            sock, _ = listening.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(onecall.UNUSUAL):
            load(me).dial("127.0.0.1", port, soon())
        thread.join(10)
