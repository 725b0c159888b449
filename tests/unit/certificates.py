"""Certificates that bdkeys would never make, and one conversation over TLS, for the tests of the net folder."""

import contextlib
import datetime
import os
import socket
import tempfile
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bdserver.core.address import split_address, without_zone
from bdserver.core.names import valid_name
from bdserver.core.roles import NODE, Role
from bdserver.errors import BDError
from bdserver.net import onecall, tls
from bdserver.net.authority import Authority, general_names

SECONDS = 10.0
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def in_days(days):
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)


def make_keys(folder, ca, name, *hosts, role="node", days=100):
    """The folder with NAME's keys, by the CA in the folder `ca`."""
    out = f"{folder}/{name}"
    Authority.load(ca).issue(out, name, Role(role), general_names(hosts or ("127.0.0.1",)), days)
    return out


class Key:
    """A key and the certificates that it signs, as odd as they are asked for."""

    def __init__(self, key=None):
        self.key = key or ec.generate_private_key(ec.SECP256R1())

    @classmethod
    def of(cls, path):
        with open(path, "rb") as file:
            return cls(load_pem_private_key(file.read(), None))

    def save(self, path, mode=0o600):
        with open(path, "wb") as file:
            file.write(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        os.chmod(path, mode)

    def sign(self, public_key, issuer, names=(), begins=-1, ends=1, usages=(SERVER, CLIENT), is_ca=False, subject=None):
        """A certificate; `begins` and `ends` are days from now, `names` its subject's alternative names."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "any")]))
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(in_days(begins))
            .not_valid_after(in_days(ends))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if not is_ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def renewed(self, authority, begins, ends):
        """The CA's certificate once more, for the same key and name, with other dates: what a renewal by hand makes."""
        name = authority.subject
        return self.sign(self.key.public_key(), name, begins=begins, ends=ends, is_ca=True, subject=name)


def uri(text):
    return x509.UniformResourceIdentifier(text)


def load_certificate(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def save(path, *certificates):
    with open(path, "wb") as file:
        file.writelines(each.public_bytes(Encoding.PEM) for each in certificates)


def conversation(server, client, address="127.0.0.1:9001", role=NODE):
    """What callee and caller got of one message each way: a text or the BDError; and who they took each other for.

    A process that makes one call has a TLS of its own (onecall): it must be let in, and let itself in, just where this one is."""

    def call(sock, deadline, results):
        stream = tls.connect(sock, client, address, deadline, role)
        results["identity"] = stream.identity
        stream.send(b"hello", deadline)
        results["me"] = stream.recv(100_000, deadline)
        stream.close()

    results = _conversation(server, call)
    host = without_zone(split_address(address)[0])
    if role == NODE and ":" not in host:  # an IPv6 address it leaves to this way
        once = _conversation(server, lambda *about: _call_once(client, host, *about))
        assert once["me"] == (results["me"] if results["me"] == b"HELLO" else None), (once, results)
    return results


def _call_once(client, host, sock, deadline, results):
    """As the short way of bdwhereis; None of a refusal, whose words are found on the other way."""
    results["me"] = None
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(*onecall.UNUSUAL):
        Key(client.key).save(f"{folder}/me.key")
        save(f"{folder}/me.crt", *client.chain.certificates)
        save(f"{folder}/ca.crt", *client.authorities)
        with open(f"{folder}/ca.crt") as file:
            context = onecall.context_of(f"{folder}/me.key", f"{folder}/me.crt", file.read())
        stream = onecall.Caller(context, client.identity.mesh, valid_name).call(sock, host, deadline)
        stream.sendall(b"hello")
        results["me"] = stream.recv(100_000) or None


def _conversation(server, call):
    results = {}
    deadline = time.monotonic() + SECONDS

    def serve():
        sock, _ = listening.accept()
        with contextlib.closing(sock):
            try:
                stream = tls.accept(sock, server, deadline)
                results["caller"] = stream.identity
                said = stream.recv(100_000, deadline)
                stream.send(said.upper(), deadline)
                stream.close()
                results["callee"] = said
            except BDError as error:
                results["callee"] = error

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(listening.getsockname()) as sock:
            try:
                call(sock, deadline, results)
            except BDError as error:
                results["me"] = error
        thread.join(SECONDS)
    return results


def is_one_line(error):
    return "\n" not in str(error) and "[Errno" not in str(error) and 10 < len(str(error)) < 400
