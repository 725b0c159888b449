"""HTTP's server: waitress, on addresses that may change while it runs, with what it refuses by itself counted.

waitress' own create_server knows its sockets from the start and for good. Here listeners come and go in one loop, and share
what a connection needs of the one that took it: the threads, the trigger that wakes the loop, the list of connections.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIApplication

from waitress import trigger, wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from bdserver.core.fields import TEXT_MAX

# Of one connection; a caller that is silent for so long is hung up on.
HEADER_BYTES_MAX, SILENT_SECONDS = 16 << 10, 30
# Beside the connections that are counted: listening sockets, the trigger, and connections that are about to be closed.
ROOM_BESIDE = 50


class WebServer:
    """Serves `application`. `count(status)` hears of each answer that no application has made, as to what is no HTTP;
    `refused()` when there are more connections than may be, and one gives way.

    waitress by itself leaves those who come in the kernel's queue, and hangs up on who is silent: so a few callers that send a
    byte now and then would keep out all others."""

    def __init__(
        self,
        application: WSGIApplication,
        threads: int,
        connections_max: int,
        count: Callable[[str], None],
        refused: Callable[[], None],
    ) -> None:
        self.application, self.count = application, count
        self._connections_max, self._refused = connections_max, refused
        self.adjustments = Adjustments(
            threads=threads,
            connection_limit=connections_max + ROOM_BESIDE,
            channel_timeout=SILENT_SECONDS,
            max_request_header_size=HEADER_BYTES_MAX,
            max_request_body_size=TEXT_MAX,
            ident="bdgateway",
            clear_untrusted_proxy_headers=True,
        )
        self.map: dict[int, object] = {}
        self.connections: dict[int, HTTPChannel] = {}
        self.trigger = _Wakeup(self.map)
        self.tasks = ThreadedTaskDispatcher()
        self.tasks.set_thread_count(threads)
        self._listeners: dict[int, _Listener] = {}

    def listen(self, sock: socket.socket) -> None:
        """Serve on this one too, which is bound. From any thread."""
        self.trigger.act(lambda: self._listeners.update({sock.fileno(): _Listener(self, sock)}))

    def leave(self, sock: socket.socket) -> None:
        """Accept no more on it, and close it; connections that it has taken live on."""
        self.trigger.act(lambda: self._listeners.pop(sock.fileno()).leave())

    def make_room(self, newcomer: HTTPChannel) -> None:
        """Where there are too many now, the oldest that is not being answered gives way; where all are, who comes."""
        others = [each for each in self.connections.values() if each is not newcomer and not each.will_close]
        if len(others) >= self._connections_max:
            goes = next((each for each in others if not each.requests), newcomer)
            goes.will_close = True  # the loop closes it, in its next turn
            self._refused()

    def run(self) -> None:
        """Serve until SystemExit or KeyboardInterrupt."""
        try:
            wasyncore.loop(timeout=self.adjustments.asyncore_loop_timeout, map=self.map, use_poll=True)
        except (SystemExit, KeyboardInterrupt):
            self.tasks.shutdown()


class _Wakeup(trigger.trigger):  # type: ignore[misc]
    """Ends the loop's wait. What is to be done in the loop is done here, as waitress' own way keeps SystemExit to itself."""

    def __init__(self, map: dict[int, object]) -> None:
        self._wanted: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        super().__init__(map)

    def act(self, wanted: Callable[[], object]) -> None:
        """Do it in the loop, what comes first first."""
        self._wanted.put(wanted)
        self.pull_trigger()

    def handle_read(self) -> None:
        """Somebody pulled it."""
        super().handle_read()
        while not self._wanted.empty():
            self._wanted.get()()


class _Refusal(ErrorTask):  # type: ignore[misc]
    """An answer of waitress' own."""

    def execute(self) -> None:
        """Count it, send it."""
        self.channel.server.web.count(str(self.request.error.code))
        super().execute()


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection."""

    error_task_class = _Refusal

    def __init__(self, listener: _Listener, *arguments: Any, **named: Any) -> None:
        super().__init__(listener, *arguments, **named)
        listener.web.make_room(self)

    def check_client_disconnected(self) -> bool:
        """Whether the caller has hung up, for the application, as `waitress.client_disconnected`. waitress' own knows it only
        where requests are read ahead; and then who has said all, and closes that half, would get no answer."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


class _Listener(TcpWSGIServer):  # type: ignore[misc]
    """One socket of a WebServer."""

    channel_class = _Channel

    def __init__(self, web: WebServer, sock: socket.socket) -> None:
        self.web = web
        info = (sock.family, sock.type, sock.proto, sock.getsockname())
        self.trigger: trigger.trigger
        super().__init__(
            web.application,
            web.map,
            _sock=sock,
            dispatcher=web.tasks,
            adj=web.adjustments,
            sockinfo=info,
            bind_socket=False,
        )
        own, self.trigger = self.trigger, web.trigger
        own.close()
        self.active_channels = web.connections

    def leave(self) -> None:
        """Its connections need what they share, and not this."""
        wasyncore.dispatcher.close(self)
