"""The bare caller of echo_server: mutual TLS 1.3, so many bytes out, so many back. As a script: one conversation.

echo_client.py PORT FOLDER NAME REQUEST_BYTES ANSWER_BYTES [lean]

Both sides take their TLS settings from here: OpenSSL's own, or with `lean` those that bdserver.tls found to be cheaper.
"""

import socket
import sys

from OpenSSL import SSL


def tls_context(folder, name, is_lean=False):
    """Mutual TLS 1.3 with the mesh's keys, and nothing else."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.use_privatekey_file(f"{folder}/{name}.key")
    context.use_certificate_file(f"{folder}/{name}.crt")
    context.load_verify_locations(f"{folder}/ca.crt")
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    if is_lean:
        _make_lean(context)
    return context


def _make_lean(context):
    from cryptography.hazmat.primitives.asymmetric import ec

    context.set_mode(0x8)  # SSL_MODE_NO_AUTO_CHAIN
    context.set_tmp_ecdh(ec.SECP256R1())
    context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)


class EchoClient:
    """An open connection to the echo server."""

    def __init__(self, context, port):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = SSL.Connection(context, sock)
        self._connection.set_connect_state()

    def ask(self, request, answer_bytes):
        """Send it; wait for that many bytes."""
        self._connection.sendall(request)
        while answer_bytes > 0:
            answer_bytes -= len(self._connection.recv(65536))

    def close(self):
        """Hang up as one should."""
        self._connection.shutdown()
        self._connection.close()


def main():
    """One conversation."""
    port, folder, name, request_bytes, answer_bytes, *lean = sys.argv[1:]
    caller = EchoClient(tls_context(folder, name, bool(lean)), int(port))
    caller.ask(b"x" * int(request_bytes), int(answer_bytes))
    caller.close()


if __name__ == "__main__":
    main()
