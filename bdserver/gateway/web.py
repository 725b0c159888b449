"""HTTP's server: waitress, on addresses that may change while it runs, with what it refuses by itself counted.

waitress' own create_server knows its sockets from the start and for good. Here listeners come and go in one loop, and share
what a connection needs of the one that took it: the threads, the trigger that wakes the loop, the list of connections.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable
from wsgiref.types import WSGIApplication

from waitress import trigger, wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from bdserver.core.fields import TEXT_MAX

# Of one connection; a caller that is silent for so long is hung up on.
HEADER_BYTES_MAX, SILENT_SECONDS = 16 << 10, 30


class WebServer:
    """Serves `application`. `count(status)` hears of each answer that no application has made, as to what is no HTTP;
    `refused()` when there are as many connections as may be, and the next ones wait to be accepted."""

    def __init__(
        self,
        application: WSGIApplication,
        threads: int,
        connections_max: int,
        count: Callable[[str], None],
        refused: Callable[[], None],
    ) -> None:
        self.application, self.count, self.refused = application, count, refused
        self.adjustments = Adjustments(
            threads=threads,
            connection_limit=connections_max,
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

    def readable(self) -> bool:
        """Whether there is room for one more connection."""
        was_full = self.in_connection_overflow
        is_readable = super().readable()
        if self.in_connection_overflow and not was_full:
            self.web.refused()
        return bool(is_readable)

    def leave(self) -> None:
        """Its connections need what they share, and not this."""
        wasyncore.dispatcher.close(self)
