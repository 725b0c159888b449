"""An etcd with default settings, and the leanest client of its gRPC door: one open HTTP/2 connection, gets one by one.

The client sends bytes made beforehand and looks no closer at the answers than to find their end: less work than any
client library does, and than ours does. `etcdctl` is measured as it is.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import subprocess

from tests.hosts import free_port, until

KEY, VALUE = "bench", "http://127.0.0.1/services/bench?wsdl"
# Kinds of HTTP/2 frames, and their flags.
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
# As large as a window may be: so the server never waits for us.
WINDOW_MAX = 2**31 - 1 - 65535


class Etcd:
    """One etcd, plain or with mutual TLS by a key of ours (`keys`: its path less .key, beside ca.crt), that holds one key."""

    def __init__(self, folder: str, keys: str = ""):
        self.keys, self.authority = keys, os.path.join(os.path.dirname(keys), "ca.crt")
        self.port, scheme = free_port(), "https" if keys else "http"
        url, peer_url = f"{scheme}://127.0.0.1:{self.port}", f"http://127.0.0.1:{free_port()}"
        self._options, command = [f"--endpoints={url}"], [
            "etcd", f"--data-dir={folder}", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}", f"--initial-cluster=default={peer_url}",
        ]  # fmt: skip
        if keys:
            self._options += [f"--cert={keys}.crt", f"--key={keys}.key", f"--cacert={self.authority}"]
            command += [f"--cert-file={keys}.crt", f"--key-file={keys}.key", f"--trusted-ca-file={self.authority}"]
            command += ["--client-cert-auth"]
        self.log_path = folder + ".log"
        with open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def control(self, *arguments: str) -> list[str]:
        """The command line of an etcdctl."""
        return ["etcdctl", *self._options, *arguments]

    def __enter__(self) -> Etcd:
        put = self.control("put", KEY, VALUE)
        until(
            lambda: subprocess.run(put, capture_output=True, check=False).returncode == 0, 30, f"etcd answers ({self.log_path})"
        )
        return self

    def __exit__(self, *exception) -> None:
        self._process.kill()
        self._process.wait()


class EtcdClient:
    """An open connection."""

    def __init__(self, etcd: Etcd):
        self._socket: socket.socket = socket.create_connection(("127.0.0.1", etcd.port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if etcd.keys:
            context = ssl.create_default_context(cafile=etcd.authority)
            context.load_cert_chain(etcd.keys + ".crt", etcd.keys + ".key")
            context.set_alpn_protocols(["h2"])
            self._socket = context.wrap_socket(self._socket, server_hostname="127.0.0.1")
        opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, b"")
        self._socket.sendall(opening + _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_MAX)))
        fields = {":method": "POST", ":scheme": "https" if etcd.keys else "http", ":path": "/etcdserverpb.KV/Range",
                  ":authority": f"127.0.0.1:{etcd.port}", "content-type": "application/grpc", "te": "trailers"}  # fmt: skip
        self._headers = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
        message = b"\x0a" + _text(KEY)
        self._body = struct.pack(">BI", 0, len(message)) + message
        self._stream, self._left = -1, b""

    def get(self) -> bytes:
        """The key's value and what etcd says with it."""
        self._stream += 2
        asked = _frame(HEADERS, END_HEADERS, self._stream, self._headers)
        self._socket.sendall(asked + _frame(DATA, END_STREAM, self._stream, self._body))
        said = b""
        while True:
            kind, flags, stream, payload = self._next_frame()
            if kind == DATA:
                said += payload
            elif kind in (SETTINGS, PING) and not flags & ACK:
                self._socket.sendall(_frame(kind, ACK, 0, payload if kind == PING else b""))
            if stream == self._stream and flags & END_STREAM and kind in (DATA, HEADERS):
                assert VALUE.encode() in said, (kind, said)
                return said

    def _next_frame(self) -> tuple[int, int, int, bytes]:
        head = self._take(9)
        return head[3], head[4], int.from_bytes(head[5:9], "big"), self._take(int.from_bytes(head[:3], "big"))

    def _take(self, count: int) -> bytes:
        while len(self._left) < count:
            more = self._socket.recv(65536)
            assert more, "etcd hung up"
            self._left += more
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()
