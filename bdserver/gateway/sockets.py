"""What a gateway listens on: bound before anything else begins, and anew when SIGHUP brings other addresses."""

from __future__ import annotations

import socket

from bdserver.core.address import split_address
from bdserver.errors import NotYet
from bdserver.gateway.config import GatewayConfig

BACKLOG = 128
# Of each face, the kinds of sockets that an address has.
KINDS = {"dns": (socket.SOCK_DGRAM, socket.SOCK_STREAM), "http": (socket.SOCK_STREAM,)}

Bound = dict[str, list[socket.socket]]


class Sockets:
    """The sockets of each face, by address. NotYet names what is taken, and nothing has changed then."""

    def __init__(self, config: GatewayConfig) -> None:
        self.by_face: dict[str, Bound] = {face: {} for face in KINDS}
        try:
            for face in KINDS:
                self.change(face, getattr(config, face))
        except BaseException:
            self.close()
            raise

    def of(self, face: str) -> list[socket.socket]:
        """All of a face."""
        return [sock for bound in self.by_face[face].values() for sock in bound]

    def change(self, face: str, addresses: tuple[str, ...]) -> tuple[list[socket.socket], list[socket.socket]]:
        """A face has these addresses from now on: (sockets to serve on too, sockets that are to be left and closed)."""
        before, fresh = self.by_face[face], Bound()
        try:
            for address in addresses:
                if address not in before and address not in fresh:
                    fresh[address] = []
                    for kind in KINDS[face]:
                        fresh[address].append(_bound(address, kind))
        except BaseException:
            _close(fresh)
            raise
        left = {address: bound for address, bound in before.items() if address not in addresses}
        self.by_face[face] = {address: bound for address, bound in before.items() if address in addresses} | fresh
        return [sock for bound in fresh.values() for sock in bound], [sock for bound in left.values() for sock in bound]

    def close(self) -> None:
        """Let go of them."""
        for bound in self.by_face.values():
            _close(bound)


def _close(bound: Bound) -> None:
    for socks in bound.values():
        for sock in socks:
            sock.close()


def _bound(address: str, kind: socket.SocketKind) -> socket.socket:
    host, port = split_address(address)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    try:
        if ":" in host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise NotYet(f"{address}: {error.strerror}") from None
    return sock
