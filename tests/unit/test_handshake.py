"""Handshakes: who is let in, who is refused, and what each side is told."""

import contextlib
import socket
import ssl
import threading
import time

import pytest
from OpenSSL import SSL

from bdserver.core.roles import Role
from bdserver.errors import BadFrame, BDError, Deadline, Forbidden, NobodyThere, Refused
from bdserver.net import chain as chains
from bdserver.net import handshake, keys, openssl, tls
from bdserver.net.authority import Authority
from bdserver.net.issuing import Issuer
from tests.unit.certificates import (
    CLIENT,
    SECONDS,
    Key,
    conversation,
    in_days,
    is_one_line,
    load_certificate,
    make_keys,
    uri,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a CA of "prod", another of "other", and certificates of every kind."""
    folder = str(tmp_path_factory.mktemp("keys"))
    for mesh in ("prod", "other"):
        Authority.make(f"{folder}/{mesh}", mesh)
    make_keys(folder, f"{folder}/prod", "web1", "127.0.0.1", "::1", "localhost", "fe80::1")
    make_keys(folder, f"{folder}/prod", "web2", "10.9.9.9")
    make_keys(folder, f"{folder}/prod", "me", role="client")
    make_keys(folder, f"{folder}/prod", "boss", role="admin")
    make_keys(folder, f"{folder}/other", "stranger")
    return folder


def of(made, name):
    return keys.load(f"{made}/{name}", name)


def odd(made, name="web1", ca="prod", **options):
    """NAME's credentials with another certificate by that CA, which keys.load would refuse."""
    key, authority = Key.of(f"{made}/{name}/{name}.key"), load_certificate(f"{made}/{ca}/ca.crt")
    names = options.pop("names", None) or [uri(f"bd://{ca}/node/{name}")]
    certificate = Key.of(f"{made}/{ca}/ca.key").sign(key.key.public_key(), authority.subject, names, **options)
    return keys.Credentials(key.key, certificate, [load_certificate(f"{made}/prod/ca.crt")], 0.0)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1:9001", "[::1]:9001", "[0:0::1]:9001", "[::ffff:127.0.0.1]:9001"),
        *("localhost:9001", "LocalHost.:9001", "[fe80::1%eth0]:9001", "[FE80::1]:9001"),
    ],
)
def test_a_node_of_the_mesh_is_reached_at_each_of_its_addresses(made, address):
    results = conversation(of(made, "web1"), of(made, "me"), address)
    assert results["me"] == b"HELLO" and results["callee"] == b"hello"
    assert (results["identity"].name, results["caller"].name, results["caller"].role) == ("web1", "me", "client")


def test_a_certificate_for_another_address_is_nobody_of_ours(made):
    error = conversation(of(made, "web2"), of(made, "me"))["me"]
    assert isinstance(error, Refused) and is_one_line(error)
    assert "its certificate (web2) is for 10.9.9.9, not for 127.0.0.1" in str(error)
    told = conversation(of(made, "web2"), of(made, "me"))["callee"]
    assert isinstance(told, Forbidden) and "does not accept our certificate: wrong mesh, role or address" in str(told)


@pytest.mark.parametrize(("name", "whose"), [("me", "a client"), ("boss", "an admin")])
def test_a_client_cannot_stand_in_for_a_node(made, name, whose):
    error = conversation(of(made, name), of(made, "web1"))["me"]
    assert isinstance(error, Refused) and is_one_line(error)
    assert f"({name}) is that of {whose}, not of a node" in str(error)


def test_the_role_that_is_wanted_can_be_another_or_any(made):
    error = conversation(of(made, "web1"), of(made, "me"), role=Role.ADMIN)["me"]
    assert isinstance(error, Refused) and "(web1) is that of a node, not of an admin" in str(error)
    assert conversation(of(made, "web1"), of(made, "me"), role=None)["me"] == b"HELLO"


@pytest.mark.parametrize(("server", "client"), [("web1", "stranger"), ("stranger", "web1")])
def test_another_mesh_is_refused_on_both_sides(made, server, client):
    results = conversation(of(made, server), of(made, client))
    for side in ("me", "callee"):
        assert isinstance(results[side], BDError), side
        assert is_one_line(results[side])


def test_a_certificate_of_another_mesh_by_our_own_ca_is_refused_too(made):
    client = odd(made, "me", names=[uri("bd://other/client/me")])
    client.identity = client.identity._replace(mesh="prod")  # it pretends, so that it takes the node for one of its own
    results = conversation(of(made, "web1"), client)
    assert isinstance(results["callee"], Forbidden)
    assert "the caller's certificate (me) is of mesh other, not of our mesh prod" in str(results["callee"])
    assert isinstance(results["me"], Forbidden) and "wrong mesh, role or address" in str(results["me"])


def test_a_certificate_by_an_unknown_ca_with_our_meshs_name_is_refused(made):
    client = odd(made, "me", ca="other", names=[uri("bd://prod/client/me")])
    results = conversation(of(made, "web1"), client)
    assert isinstance(results["callee"], Forbidden)
    assert "(me) is signed by a CA that is not in our ca.crt" in str(results["callee"])
    assert isinstance(results["me"], Forbidden) and "the ca.crt there" in str(results["me"])


@pytest.mark.parametrize(
    ("dates", "told", "heard"),
    [
        ({"begins": -2, "ends": -1}, "(me) expired on", "it has expired, or a clock is wrong"),
        ({"begins": 1, "ends": 2}, "(me) is not valid before", "it is not valid yet, or a clock is wrong"),
    ],
)
def test_a_certificate_out_of_date_is_refused_and_both_sides_say_so(made, dates, told, heard):
    results = conversation(of(made, "web1"), odd(made, "me", **dates))
    assert isinstance(results["callee"], Forbidden) and told in str(results["callee"])
    assert isinstance(results["me"], Forbidden) and heard in str(results["me"])


def test_a_certificate_that_may_not_be_called_is_refused_by_its_callers(made):
    error = conversation(odd(made, usages=[CLIENT]), of(made, "me"))["me"]
    assert isinstance(error, Forbidden) and "(web1) is not for this use" in str(error)


def by_signer_of_another_mesh(made, key):
    """Of a signer which the CA of our mesh lets sign for another one alone: (certificate, the signer's)."""
    authority, its = Authority.load(f"{made}/prod").issuer, Key().key
    signer = authority._replace(mesh="other").signers(its.public_key(), "s", 1)
    return Issuer(its, signer, "prod").holders(key.public_key(), "boss", Role.ADMIN, [], 1), signer


def by_node(made, key):
    """What a node that is no signer has signed: (certificate, the node's)."""
    node = load_certificate(f"{made}/web2/web2.crt")
    issuer = Issuer(Key.of(f"{made}/web2/web2.key").key, node, "prod")
    return issuer.holders(key.public_key(), "boss", Role.ADMIN, [], 1), node


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (by_signer_of_another_mesh, "the caller's certificate of mesh prod is signed by a signer of mesh other"),
        (by_node, "the CA of the caller's certificate is signed by somebody who may not sign it"),
    ],
)
def test_nobody_makes_an_admin_but_the_ca_and_the_signers_of_this_mesh(made, make, words):
    forger, ca = Key().key, load_certificate(f"{made}/prod/ca.crt")
    certificate, signer = make(made, forger)
    client = keys.Credentials(forger, certificate, [ca], 0.0)
    client.chain = chains.Chain(certificate, signer)
    client.context = handshake.make_context(forger, client.chain, [ca])
    results = conversation(of(made, "web1"), client)
    assert isinstance(results["callee"], Forbidden) and is_one_line(results["callee"])
    assert words in str(results["callee"]) and isinstance(results["me"], Forbidden)


def test_a_name_that_the_rule_forbids_is_refused_in_a_handshake_as_everywhere(made):
    client, judge = odd(made, "me"), handshake.Judge("it", "prod", None, None, Forbidden)
    authority, key = load_certificate(f"{made}/prod/ca.crt"), Key.of(f"{made}/prod/ca.key")
    bad = key.sign(Key().key.public_key(), authority.subject, [uri("bd://prod/client/a.bdcert")])
    with pytest.raises(Forbidden, match="it has no bd://MESH/ROLE/NAME in it"):
        judge.check(bad)
    assert judge.identity is None and client.identity.name == "me"


@pytest.mark.parametrize(
    ("code", "depth", "words"),
    [
        (openssl.CODES.ERR_CERT_HAS_EXPIRED, 1, "the CA of the caller's certificate expired on"),
        (openssl.CODES.ERR_CERT_NOT_YET_VALID, 1, "the CA of the caller's certificate is not valid before"),
        (openssl.CODES.ERR_CERT_SIGNATURE_FAILURE, 0, "the caller's certificate is signed by a CA that is not in our ca.crt"),
        (99, 0, r"the caller's certificate is not valid \(X.509 error 99\)"),
    ],
)
def test_what_openssl_dislikes_is_said_in_words(made, code, depth, words):
    """A CA's certificate has no name of the mesh in it, so none is in the complaint."""
    with pytest.raises(Forbidden, match=words):
        handshake.Judge("the caller's certificate", "prod", None, None, Forbidden).explain(
            load_certificate(f"{made}/prod/ca.crt"), code, depth
        )


def test_the_ca_of_a_callee_is_told_behind_its_address(made):
    judge = handshake.Judge("10.0.0.1:9001: its certificate", "prod", None, None, Refused)
    with pytest.raises(Forbidden, match=r"10.0.0.1:9001: its certificate: its CA expired on"):
        judge.explain(load_certificate(f"{made}/prod/ca.crt"), openssl.CODES.ERR_CERT_HAS_EXPIRED, 1)


@pytest.mark.parametrize(
    ("reasons", "kind", "words"),
    [
        (["ssl/tls alert bad certificate"], Forbidden, "does not accept our certificate: it is not valid yet"),
        (["sslv3 alert certificate revoked"], Forbidden, "it is revoked"),
        (["noise", "tlsv1 alert unknown ca"], Forbidden, "the ca.crt there"),
        (["tlsv1 alert no application protocol"], Refused, "does not speak bd/1 over TLS 1.3"),
        (["tlsv1 alert user canceled"], NobodyThere, "broke off the TLS .user canceled"),
    ],
)
def test_an_alert_means_the_same_to_caller_and_callee(reasons, kind, words):
    for trouble in (handshake.callee_trouble("x", reasons), handshake.caller_trouble("x", reasons)):
        assert type(trouble) is kind and is_one_line(trouble)
        with pytest.raises(kind, match=words):
            raise trouble


@pytest.mark.parametrize(
    ("trouble", "reasons", "kind", "words"),
    [
        (
            handshake.callee_trouble,
            ["wrong version number"],
            Refused,
            "does not speak bd/1 over TLS 1.3 (wrong version number)",
        ),
        (handshake.callee_trouble, [], Refused, "does not speak bd/1 over TLS 1.3 (TLS failed)"),
        (handshake.caller_trouble, ["peer did not return a certificate"], Forbidden, "sent no certificate"),
        (handshake.caller_trouble, ["http request"], BadFrame, "speaks plain HTTP, this port is for bd/1 over TLS 1.3"),
        (handshake.caller_trouble, ["unsupported protocol"], BadFrame, "speaks a TLS older than 1.3"),
        (handshake.caller_trouble, ["no application protocol"], BadFrame, "does not speak bd/1"),
        (handshake.caller_trouble, ["wrong version number"], BadFrame, "does not speak TLS (wrong version number)"),
        (handshake.caller_trouble, [], BadFrame, "does not speak TLS (TLS failed)"),
    ],
)
def test_without_an_alert_openssls_reasons_are_put_in_words(trouble, reasons, kind, words):
    said = trouble("the other", reasons)
    assert type(said) is kind and str(said) == f"the other {words}"


def test_an_error_of_openssl_without_reasons_has_none():
    assert handshake.reasons_of(SSL.Error()) == handshake.reasons_of(SSL.Error([("a", "b", "")])) == []
    assert handshake.reasons_of(SSL.Error([("a", "b", "why")])) == ["why"]


# -- callers that are no node of ours


def served(made, talk):
    """What tls.accept raises for a caller that does `talk(sock)`."""
    raised = []

    def serve():
        sock, _ = listening.accept()
        with contextlib.closing(sock):
            try:
                tls.accept(sock, of(made, "web1"), time.monotonic() + 1.0)
            except BDError as error:
                raised.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listening.getsockname()) as sock:
            talk(sock)
            thread.join(SECONDS)
    assert not thread.is_alive()
    return raised[0]


def by_ssl(*protocols, version=None):
    """A caller with Python's own TLS, and without a certificate."""

    def talk(sock):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version is not None:
            context.maximum_version = version
        if protocols:
            context.set_alpn_protocols(list(protocols))
        with contextlib.suppress(OSError), context.wrap_socket(sock) as tls_sock:
            tls_sock.recv(1)

    return talk


@pytest.mark.parametrize(
    ("talk", "kind", "words"),
    [
        (lambda sock: sock.sendall(b"GET / HTTP/1.1\r\n\r\n"), BadFrame, "speaks plain HTTP"),
        (lambda sock: sock.sendall(b"\x00" * 100), BadFrame, "does not speak TLS"),
        (lambda sock: None, Deadline, "did not answer in time"),
        (lambda sock: sock.close(), NobodyThere, "broke off"),
        (by_ssl("bd/1"), Forbidden, "sent no certificate"),
        (by_ssl("bd/1", version=ssl.TLSVersion.TLSv1_2), BadFrame, "speaks a TLS older than 1.3"),
        (by_ssl("h2"), BadFrame, "does not speak bd/1"),
    ],
)
def test_whoever_calls_and_is_none_of_us_is_told_apart(made, talk, kind, words):
    error = served(made, talk)
    assert type(error) is kind and words in str(error) and is_one_line(error)


def test_a_callee_that_does_not_speak_bd_is_refused(made):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            sock, _ = listening.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                sock.recv(1 << 16)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Refused, match="127.0.0.1:1: does not speak bd/1 over TLS 1.3"):
            tls.connect(
                socket.create_connection(listening.getsockname()), of(made, "me"), "127.0.0.1:1", time.monotonic() + SECONDS
            )
        thread.join(SECONDS)


def test_a_certificate_of_the_mesh_without_bd_is_not_enough(made):
    """Python's own TLS with good certificates, and no word of a protocol."""

    def context(purpose, name):
        made_context = ssl.SSLContext(purpose)
        made_context.check_hostname = False
        made_context.load_cert_chain(f"{made}/{name}/{name}.crt", f"{made}/{name}/{name}.key")
        made_context.load_verify_locations(f"{made}/prod/ca.crt")
        return made_context

    def call(sock):
        with contextlib.suppress(OSError), context(ssl.PROTOCOL_TLS_CLIENT, "me").wrap_socket(sock) as tls_sock:
            tls_sock.recv(1)

    error = served(made, call)
    assert type(error) is BadFrame and str(error) == "the caller does not speak bd/1"

    def serve():
        sock, _ = listening.accept()
        with (
            contextlib.suppress(OSError),
            context(ssl.PROTOCOL_TLS_SERVER, "web1").wrap_socket(sock, server_side=True) as tls_sock,
        ):
            tls_sock.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Refused, match="127.0.0.1:1: does not speak bd/1 over TLS 1.3"):
            tls.connect(
                socket.create_connection(listening.getsockname()), of(made, "me"), "127.0.0.1:1", time.monotonic() + SECONDS
            )
        thread.join(SECONDS)


def test_both_cas_are_believed_while_they_roll(tmp_path):
    ca = f"{tmp_path}/ca"
    Authority.make(ca, "prod")
    make_keys(tmp_path, ca, "old")
    Authority.load(ca).roll()
    make_keys(tmp_path, ca, "new")
    (tmp_path / "old" / "ca.crt").write_bytes((tmp_path / "ca" / "ca.crt").read_bytes())
    old, new = of(tmp_path, "old"), of(tmp_path, "new")
    assert conversation(old, new)["me"] == conversation(new, old)["me"] == b"HELLO"
    assert old.identity.not_after < in_days(101).timestamp()
