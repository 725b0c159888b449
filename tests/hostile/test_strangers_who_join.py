"""Strangers at bd-join/1: without an invitation there is no such thing; with one, whatever they say, they get nothing."""

import contextlib
import socket
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from bdserver.core import joining
from bdserver.core.joining import Wish, read_token
from bdserver.core.wire import Decoder, encode
from bdserver.errors import BDError, NobodyThere
from bdserver.net import tls, welcome
from bdserver.net.authority import general_names, request_by
from bdserver.net.conversation import next_message
from bdserver.net.issuing import Issuer
from tests.hostile.attacks import BAD, frame, raw
from tests.hosts import until
from tests.joiners import Joiner
from tests.unit.certificates import Key


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    """A node that signs."""
    host = Joiner(tmp_path_factory.mktemp("signer"), "alpha")
    done = host.begin("home")
    assert done.returncode == 0, done.stderr
    yield host
    host.end()


@pytest.fixture
def token(signer):
    """One more."""
    return read_token(signer.token())


@pytest.fixture(autouse=True)
def it_is_still_well(signer, request):
    """No attack leaves the signer unable to let the next one in."""
    yield
    ctl = signer.ctl("status")
    assert ctl["warnings"] == [] and "Traceback" not in signer.log, signer.log[-3000:]


@pytest.fixture
def target():
    """Not the other tests' node."""


def knock(host):
    return tls.knock(raw(host.address), host.address, time.monotonic() + 10)


def ping(address, credentials):
    stream = tls.connect(raw(address), credentials, address, time.monotonic() + 10)
    stream.send(encode(["PING"]), time.monotonic() + 10)
    return heard(stream)


def heard(stream, seconds=10):
    return next_message(stream, Decoder(), time.monotonic() + seconds)


def wish(token, name="beta", secret=None, key=None):
    request = request_by(key or ec.generate_private_key(ec.SECP256R1()), name, general_names(["127.0.0.2"])).decode()
    return Wish(token.id.hex(), (secret or token.secret).hex(), request)


def answer(host, said):
    """What it says to this after its welcome; None when it hangs up."""
    stream = knock(host)
    try:
        decoder = Decoder()
        assert next_message(stream, decoder, time.monotonic() + 10)[0] == "WELCOME"
        stream.send(said, time.monotonic() + 10)
        return next_message(stream, decoder, time.monotonic() + 10)
    finally:
        stream.close()


def test_without_an_invitation_nobody_may_knock_and_nothing_is_said(tmp_path):
    with contextlib.closing(_Signer(tmp_path)) as host:
        for each in host.ctl("invite", "--list")["invitations"]:
            host.ctl("invite", "--revoke", each["id"])
        with pytest.raises(NobodyThere, match="does not speak bd/1 over TLS 1.3"):
            knock(host)


class _Signer(Joiner):
    def __init__(self, folder):
        super().__init__(folder, "lonely")
        assert self.begin("home").returncode == 0

    def close(self):
        self.end()


def test_a_stranger_may_not_speak_the_mesh_s_own_protocol(signer, token):
    """With an invitation open, bd/1 asks for a certificate as ever."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_alpn_protos([b"bd-join/1", b"bd/1"])
    connection = SSL.Connection(context, raw(signer.address))
    connection.setblocking(True)
    connection.set_connect_state()
    connection.do_handshake()
    assert connection.get_alpn_proto_negotiated() == b"bd/1"
    with contextlib.suppress(SSL.Error):
        connection.send(encode(["PING"]))
        assert b"PONG" not in connection.recv(100)


def test_the_port_for_news_lets_nobody_in(signer, token):
    host, port = signer.address.rsplit(":", 1)
    with pytest.raises(BDError):
        tls.knock(raw(f"{host}:{int(port) + 1}"), signer.address, time.monotonic() + 10)


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_end_it(signer, token, name):
    data, _ = BAD[name]
    said = None
    with contextlib.suppress(BDError):
        said = answer(signer, data)
    assert said is None or said[0] == "ERROR"


SMALL = {
    "a list": ["JOIN"],
    "a text": ["JOIN", "x"],
    "numbers": ["JOIN", {"id": 1, "secret": 2, "request": 3}],
    "no request": ["JOIN", {"id": "ab" * 5, "secret": "cd" * 16, "request": "x"}],
    "an id that is no hex": ["JOIN", {"id": "zz" * 5, "secret": "zz" * 16, "request": "x"}],
    "a request of the mesh": ["WHEREIS", "x", None],
    "an opening": ["OPEN", {"version": 1}],
}


@pytest.mark.parametrize("name", SMALL)
def test_what_is_no_wish_is_an_error_in_one_line(signer, token, name):
    code, text = answer(signer, encode(SMALL[name]))[1:]
    assert code in ("bad-request", "forbidden") and "\n" not in text


def test_a_message_is_small_inflated_too(signer, token):
    for data in (frame(b" " * (joining.MESSAGE_BYTES_MAX + 1)), encode(["JOIN", "x" * joining.MESSAGE_BYTES_MAX * 4])):
        said = None
        with contextlib.suppress(BDError):
            said = answer(signer, data)
        assert said is None or said[:2] == ["ERROR", "too-large"]


def test_guesses_are_counted_and_close_the_token(signer, token):
    for _ in range(joining.WRONG_MAX):
        code, text = answer(signer, encode(joining.said(wish(token, secret=b"x" * 16))))[1:]
        assert (code, text) == ("forbidden", joining.UNKNOWN)
    code, text = answer(signer, encode(joining.said(wish(token))))[1:]
    assert code == "forbidden" and "is closed, since 10 wrong secrets" in text
    [told] = [each for each in signer.ctl("invite", "--list")["invitations"] if each["id"] == token.id.hex()]
    assert told["wrong"] == joining.WRONG_MAX and told["state"] == "closed: guessed at"
    before = signer.ctl("invite", "--list")["unknown"]
    answer(signer, encode(joining.said(wish(token._replace(id=b"12345")))))
    assert signer.ctl("invite", "--list")["unknown"] == before + 1


def test_somebody_who_drips_or_says_nothing_is_hung_up_on_in_the_time_of_a_handshake(signer, token):
    began = time.monotonic()
    stream = knock(signer)
    assert heard(stream)[0] == "WELCOME"
    with contextlib.suppress(BDError):
        for byte in encode(joining.said(wish(token))):
            stream.send(bytes([byte]), time.monotonic() + 10)
            time.sleep(0.02)
            if time.monotonic() > began + 15:
                break
    with contextlib.suppress(BDError):
        while heard(stream) is not None:
            pass
    assert time.monotonic() < began + 15
    stream.close()


def test_a_request_that_asks_for_more_gets_a_node_s_certificate_and_no_more(signer, token):
    """The role is the invitation's, a name that is a signer's is no signer."""
    said = answer(signer, encode(joining.said(wish(token, name="signer"))))
    admission = joining.heard_admission(said)
    from bdserver.net import chain as chains
    from bdserver.net.identity import identity_of, is_authority

    chain = chains.from_pem(admission.certificate.encode())
    assert identity_of(*chain).role == "node" and not is_authority(chain.certificate)
    again = answer(signer, encode(joining.said(wish(token, name="other"))))
    assert again[0] == "ERROR" and "was used already" in again[2]


def test_a_node_s_own_certificate_signs_for_nobody(signer, token, tmp_path):
    """It has a key and a certificate, and makes one for another with it."""
    from bdserver.net import chain as chains
    from bdserver.net import keys

    mine = Key().key
    admission = joining.heard_admission(answer(signer, encode(joining.said(wish(token, "evil", key=mine)))))
    chain = chains.from_pem(admission.certificate.encode())
    authorities = chains.openssl.load_all(admission.authorities.encode())
    victim = Key().key
    forged = Issuer(mine, chain.certificate, "home").holders(victim.public_key(), "alpha", "admin", [], 1)
    assert chains.roots(authorities, chains.Chain(forged, chain.certificate)) == []
    credentials = keys.Credentials(victim, forged, authorities, 0.0, chain.certificate)
    with pytest.raises(BDError):
        ping(signer.address, credentials)


class Relay:
    """A man in the middle who passes everything on, and keeps it."""

    def __init__(self, to):
        self.to, self.kept = to, bytearray()
        self.listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.listening.getsockname()[1]}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self.listening.accept()
                theirs = raw(self.to)
                for one, other in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.kept += data
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def close(self):
        self.listening.close()


def test_whoever_listens_to_a_join_gets_nothing_and_a_replay_is_none(signer, tmp_path):
    relay = Relay(signer.address)
    token = signer.token("listened")
    joiner = Joiner(tmp_path, "listened", "127.0.0.2")
    done = joiner.join(relay.address, token, "--no-start")
    relay.close()
    assert done.returncode == 0, done.stderr
    kept, said = bytes(relay.kept), read_token(token)
    for secret in (token.encode(), said.secret, said.secret.hex().encode(), said.id.hex().encode(), b"listened", b"BEGIN"):
        assert secret not in kept
    sock = raw(signer.address)
    with contextlib.suppress(OSError):
        sock.sendall(kept)
        while sock.recv(65536):
            pass
    listed = [each for each in signer.ctl("invite", "--list")["invitations"] if each["id"] == said.id.hex()]
    assert listed[0]["joined"] == ["listened"]


def test_another_node_of_the_mesh_is_not_told_the_secret(signer, tmp_path):
    """It stands in the way, has a good certificate, and lets strangers in."""
    beta = Joiner(tmp_path, "beta", "127.0.0.2", signer="no")
    done = beta.join(signer.address, signer.token("beta"))
    try:
        assert done.returncode == 0, done.stderr
        done = signer.run("bdkeys", "signer", f"{signer.folder}/../ca", "beta", "--out", beta.keys)
        assert done.returncode == 0, done.stderr
        text = open(beta.config).read().replace("signer=no", "signer=yes")
        with open(beta.config, "w") as file:
            file.write(text)
        beta.end()
        assert beta.run("bdserverd", beta.config).returncode == 0
        until(lambda: "alpha" in beta.alive(), 20, "beta is back")
        beta.token()  # so that it lets anybody knock
        with pytest.raises(BDError, match="beta is there, and another node gave the token: nothing was sent"):
            welcome.meet(beta.address, read_token(signer.token()), time.monotonic() + 10)
    finally:
        beta.end()


def test_a_clock_that_is_two_days_off_is_named_and_not_obeyed(signer, token, monkeypatch):
    real = time.time
    for days, words in ((2, "2.0 days ahead of that of alpha"), (-2, "2.0 days behind that of alpha")):
        monkeypatch.setattr(time, "time", lambda days=days: real() + 86400 * days)
        with pytest.raises(BDError, match=words):
            welcome.meet(signer.address, token, time.monotonic() + 10)
