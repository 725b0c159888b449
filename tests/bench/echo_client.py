"""The bare caller, of echo_server and of a node alike: mutual TLS 1.3, so many bytes out, a frame back.

As a script, one conversation with echo_server: echo_client.py PORT FOLDER NAME REQUEST_BYTES [lean]

Both sides take their TLS settings from here: OpenSSL's own, or with `lean` those that bdserver.tls found to be cheaper.
"""

import socket
import sys

from OpenSSL import SSL

FRAME_HEADER_BYTES = 5


def tls_context(folder, name, is_lean=False):
    """Mutual TLS 1.3 with the mesh's keys, and nothing else."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.use_privatekey_file(f"{folder}/{name}.key")
    context.use_certificate_file(f"{folder}/{name}.crt")
    context.load_verify_locations(f"{folder}/ca.crt")
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_alpn_protos([b"bd/1"])  # a node insists on it; echo_server does not look
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


class BareCaller:
    """An open connection."""

    def __init__(self, context, port):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = SSL.Connection(context, sock)
        self._connection.set_connect_state()

    def ask(self, request):
        """Send it; return the whole frame that comes back."""
        self._connection.sendall(request)
        answer = self._connection.recv(65536)
        while len(answer) < FRAME_HEADER_BYTES + int.from_bytes(answer[:4]):
            answer += self._connection.recv(65536)
        return answer

    def close(self):
        """Hang up as one should."""
        self._connection.shutdown()
        self._connection.close()


def main():
    """One conversation."""
    port, folder, name, request_bytes, *lean = sys.argv[1:]
    caller = BareCaller(tls_context(folder, name, bool(lean)), int(port))
    caller.ask(b"x" * int(request_bytes))
    caller.close()


if __name__ == "__main__":
    main()
