"""The floor under a lookup: a forking server that does nothing but TLS (or nothing but a Unix socket) and bytes.

echo_server.py ANSWER_BYTES unix PATH
echo_server.py ANSWER_BYTES tls FOLDER NAME [lean]

What comes is answered by a frame of ANSWER_BYTES bytes. A child a connection, any number of requests on it, no caps, no deadlines,
no log. Prints "ready", for TLS with the port, and lives until its stdin ends.
"""

import os
import select
import signal
import socket
import sys

from echo_client import FRAME_HEADER_BYTES, tls_context
from OpenSSL import SSL


def main() -> None:
    """Accept, fork, until whoever started us hangs up."""
    payload = b"x" * (int(sys.argv[1]) - FRAME_HEADER_BYTES)
    answer = len(payload).to_bytes(4) + b"\0" + payload
    listening, serve = (_tls if sys.argv[2] == "tls" else _unix)(*sys.argv[3:], answer=answer)
    listening.listen(128)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    print("ready", listening.getsockname()[1], flush=True)
    while True:
        readable, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        sock, _ = listening.accept()
        if os.fork() == 0:
            serve(sock)
            os._exit(0)
        sock.close()


def _unix(path, answer):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)

    def serve(sock):
        while sock.recv(65536):
            sock.sendall(answer)

    return listening, serve


def _tls(folder, name, lean="", *, answer):
    context = tls_context(folder, name, bool(lean))
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = SSL.Connection(context, sock)
        connection.set_accept_state()
        try:
            while connection.recv(65536):
                connection.sendall(answer)
        except SSL.Error:
            pass  # the caller hung up, with or without TLS's goodbye

    return listening, serve


if __name__ == "__main__":
    main()
