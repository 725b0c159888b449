"""The DNS server: datagrams and connections in one loop, look-ups in a few threads beside it.

What may be a flood is bounded before it costs anything: so many packets are read in a second, so many questions wait, so many
look-ups are under way. A question that finds no room is answered SERVFAIL, which has a resolver ask again. What a query means
and how its answer is written is zone's business, which queries are one call that of calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import dns.edns
import dns.message
from dns.rcode import Rcode

from bdserver.core.address import host_of, split_address
from bdserver.errors import BadFrame, BDError, CantFind, Deadline, Forbidden, PolicyMismatch, TooBusy
from bdserver.gateway import zone
from bdserver.gateway.calls import Call, Calls
from bdserver.gateway.follower import Follower
from bdserver.gateway.zone import Place, Query, Zone
from bdserver.net import tcp

# Questions that wait for their look-up; more would wait longer than anybody does.
WAITING_MAX = 64
CONNECTIONS_MAX = 64
# When there is no more room, the one of which nothing came for longest gives way, if it has had so long.
PLACE_SECONDS = 0.5
IDLE_SECONDS = 10.0
LENGTH_BYTES = 2
PORT_OF = {"http": 80, "https": 443}
# dnspython has no timer of ours: a second's packets are counted as they come.
WINDOW_SECONDS = 1.0

log = logging.getLogger("bdserver.gateway")
Outcome = Place | BDError


class Budget:
    """So many packets in a second."""

    def __init__(self, count: int) -> None:
        self.count, self._left, self._until = count, count, 0.0

    def takes_one(self, now: float) -> bool:
        """Whether there is room for one more now."""
        if now >= self._until:
            self._until, self._left = now + WINDOW_SECONDS, self.count
        self._left -= 1
        return self._left >= 0


class DnsServer:
    """Answers on sockets that are bound already. `look_up(service, deadline)`: the details of `bdwhereis --json`. `count(kind,
    outcome)` hears what became of each query, `refused(limit)` of each that a limit kept from being answered."""

    def __init__(
        self,
        domain: str,
        look_up: Callable[[str, float], dict[str, Any]],
        follower: Follower,
        seconds: float,
        threads: int,
        queries_per_second: int,
        count: Callable[[str, str], None],
        refused: Callable[[str], None] = lambda limit: None,
    ) -> None:
        self._zone = Zone(domain)
        self._look_up, self._follower, self._seconds = look_up, follower, seconds
        self._count, self._refused = count, refused
        self._threads = ThreadPoolExecutor(threads, "look-up")
        self._budget = Budget(queries_per_second)
        self._calls: Calls[asyncio.Future[Outcome]] = Calls()
        self._waiting = 0
        self._since: dict[asyncio.StreamWriter, float] = {}  # when each connection came, or asked last: the oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[socket.socket, asyncio.BaseTransport | asyncio.Server] = {}
        self._changing = asyncio.Lock()  # of `_open`: a socket that is to be left may not be answered at yet
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()  # loop.stop() would be lost if it came in the turn in which the loop's task ends
        self._thread = threading.Thread()

    # -- its life

    def start(self, sockets: list[socket.socket]) -> None:
        """Answer from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, args=(sockets,), name="dns", daemon=True)
        self._thread.start()

    def change(self, domain: str, seconds: float, queries_per_second: int) -> None:
        """From now on other settings; what is under way ends with those with which it began."""

        def act() -> None:
            self._zone, self._seconds = Zone(domain), seconds
            self._budget.count = queries_per_second

        self._loop.call_soon_threadsafe(act)

    def listen(self, sock: socket.socket) -> None:
        """Answer on this one too."""
        asyncio.run_coroutine_threadsafe(self._begin([sock]), self._loop)

    def leave(self, sock: socket.socket) -> None:
        """Close it, when what came there is answered; connections that it has taken live on."""
        asyncio.run_coroutine_threadsafe(self._end_with(sock), self._loop)

    def stop(self) -> None:
        """Answer no more; what is under way is left behind."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, sockets: list[socket.socket]) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen(sockets))
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _listen(self, sockets: list[socket.socket]) -> None:
        await self._begin(sockets)
        await self._end.wait()

    async def _begin(self, sockets: list[socket.socket]) -> None:
        async with self._changing:
            for sock in sockets:
                if sock.type == socket.SOCK_DGRAM:
                    self._open[sock], _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=sock)
                else:
                    self._open[sock] = await asyncio.start_server(self._serve, sock=sock)

    async def _end_with(self, sock: socket.socket) -> None:
        async with self._changing:
            left = self._open.pop(sock)
        if sock.type == socket.SOCK_DGRAM and self._tasks:
            await asyncio.wait(self._tasks.copy())
        left.close()

    # -- UDP and TCP

    def take(self, data: bytes, address: tuple[Any, ...], transport: asyncio.DatagramTransport) -> None:
        """A datagram."""
        if not self._has_budget():
            self._count("udp", "dropped")
            return
        meant = self._zone.read(data)
        if meant is None:
            self._count("udp", "dropped")
        elif isinstance(meant, Query):
            task = self._loop.create_task(self._reply(meant, data, address, transport))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._send(meant, data, address, transport)

    async def _reply(self, query: Query, data: bytes, address: tuple[Any, ...], transport: asyncio.DatagramTransport) -> None:
        self._send(await self._answered(query, address), data, address, transport)

    def _send(
        self, answer: dns.message.Message | bytes, data: bytes, address: tuple[Any, ...], transport: asyncio.DatagramTransport
    ) -> None:
        wire = zone.packed(answer, data, is_tcp=False)
        self._count("udp", _outcome_of(wire))
        transport.sendto(wire, address)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection, until it is silent, or says what no query can be."""
        if len(self._since) >= CONNECTIONS_MAX:
            self._count("tcp", "dropped")
            self._refused("connections")
            oldest = next(iter(self._since))
            if self._loop.time() - self._since[oldest] < PLACE_SECONDS:
                writer.close()
                return
            del self._since[oldest]
            oldest.transport.abort()
        self._since[writer] = self._loop.time()
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                await self._serve_queries(reader, writer)
        finally:
            self._since.pop(writer, None)
            writer.close()

    async def _serve_queries(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("peername")
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                if not zone.HEADER.size <= length <= zone.QUERY_BYTES_MAX:
                    return
                data = await reader.readexactly(length)
            if self._since.pop(writer, None) is None:  # it has given way
                return
            self._since[writer] = self._loop.time()
            if not self._has_budget():
                self._count("tcp", "dropped")
                return
            meant = self._zone.read(data)
            if meant is None:
                return
            answer = await self._answered(meant, address) if isinstance(meant, Query) else meant
            wire = zone.packed(answer, data, is_tcp=True)
            self._count("tcp", _outcome_of(wire))
            async with asyncio.timeout(IDLE_SECONDS):
                writer.write(len(wire).to_bytes(LENGTH_BYTES, "big") + wire)
                await writer.drain()

    def _has_budget(self) -> bool:
        has = self._budget.takes_one(self._loop.time())
        if not has:
            self._refused("queries_per_second")
        return has

    # -- answers

    async def _answered(self, query: Query, address: tuple[Any, ...]) -> dns.message.Message:
        service, follower = self._follower.service(query.service), self._follower
        if not query.wants:
            if follower.nodes is None:
                return self._failed(query, TooBusy(follower.silence))
            is_there = follower.has(service) or follower.has_below(service)
            return self._zone.no_data(query.message) if is_there else self._zone.nothing(query.message)
        outcome = await self._called(query, service, address)
        if isinstance(outcome, Place):
            return self._zone.found(query, outcome)
        if isinstance(outcome, CantFind) and not follower.has(service):
            return self._zone.no_data(query.message) if follower.has_below(service) else self._zone.nothing(query.message)
        return self._failed(query, outcome)

    def _failed(self, query: Query, error: BDError) -> dns.message.Message:
        """No answer, though there is such a name, or nobody knows whether there is."""
        if isinstance(error, PolicyMismatch | Forbidden):
            return self._zone.failed(query.message, Rcode.REFUSED, dns.edns.EDECode.PROHIBITED, str(error))
        return self._zone.failed(query.message, Rcode.SERVFAIL, dns.edns.EDECode.NO_REACHABLE_AUTHORITY, str(error))

    async def _called(self, query: Query, service: str, address: tuple[Any, ...]) -> Outcome:
        """Where the call that this question belongs to goes."""
        whose, now = (host_of(address), service), self._loop.time()
        packet = (*address[:2], query.message.id, query.wants)
        call = self._calls.joined(whose, query.wants, packet, now)
        if call is None:
            if self._waiting >= WAITING_MAX:
                self._refused("waiting")
                return TooBusy("as many queries wait as can be answered in time")
            deadline = time.monotonic() + self._seconds
            self._waiting += 1
            found = self._loop.run_in_executor(self._threads, self._find, service, deadline)
            call = self._calls.begin(whose, query.wants, packet, found)
            found.add_done_callback(lambda _: self._ended(whose, call))
        return await asyncio.shield(call.outcome)

    def _ended(self, whose: tuple[str, str], call: Call[asyncio.Future[Outcome]]) -> None:
        self._waiting -= 1
        self._calls.end(whose, call, self._loop.time())

    def _find(self, service: str, deadline: float) -> Outcome:
        """In a thread; what goes wrong is an outcome too."""
        try:
            if time.monotonic() > deadline:
                raise Deadline("its turn came too late")
            details = self._look_up(service, deadline)
            return place_of(details["url"], deadline)
        except BDError as error:
            return error
        except Exception as error:
            log.exception("a look-up of %s: a bug", service)
            return BDError(repr(error))


def place_of(url: str, deadline: float) -> Place:
    """The addresses and the port that a URL leads to; BadFrame when it leads nowhere."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or PORT_OF.get(parts.scheme)
        if not parts.hostname or not port:
            raise ValueError("it names no host and port")
        host, _ = split_address(parts.hostname, 1)
    except (ValueError, BDError) as error:
        raise BadFrame(f"{url[:200]!r} can't be called: {error}") from None
    addresses = tuple(dict.fromkeys(where[0].partition("%")[0] for _, where in tcp.resolve(host, port, deadline)))
    return Place(addresses, port, "" if host in addresses else host)


def _outcome_of(wire: bytes) -> str:
    """The code of an answer, in words: it stands in four bits of its header."""
    return dns.rcode.to_text(Rcode(wire[3] & 15)).lower()


class _Datagrams(asyncio.DatagramProtocol):
    """A socket's datagrams, handed on."""

    transport: asyncio.DatagramTransport

    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """One packet."""
        self._server.take(data, addr, self.transport)
