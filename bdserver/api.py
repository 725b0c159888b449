"""The Python API: what `import bdserver` offers to programs that look services up (docs/PYTHON.md has examples).

    location = bdserver.whereis("calculator")                                   # by the local node's socket
    location = bdserver.whereis("calculator", node="10.0.0.1", keys="/etc/keys/app")   # over TLS
    with bdserver.Mesh() as mesh: ...                                           # a connection that stays open

Promises an answer within `timeout` or one of the exceptions of bdserver.errors, as bdwhereis exits. `get_wsdl`,
`get_audit_info` and `kill_all` are those of 2006. The commands reach nodes by `entrances` too.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache, partial

from bdserver.core.names import NAME_WORDS, valid_name
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, BadFrame, BadRequest, Deadline, Forbidden, NobodyThere
from bdserver.files.settings import BY_NAME, default_path, load, local_socket
from bdserver.net import dialling
from bdserver.net.entrances import enter, located

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Lock
    from typing import Any, TypeVar

    from bdserver.core.messages import Status
    from bdserver.net.conversation import Conversation
    from bdserver.net.entrances import Entrance
    from bdserver.net.keys import Credentials

    Result = TypeVar("Result")

# A look-up that replicates takes seconds; this is for all nodes together.
TIMEOUT_SECONDS = 10.0
# Of a node that is given without one.
PORT: int = BY_NAME["port"].default


class Asked(NamedTuple):
    """A node that was asked on the way, its answer's first word or its error's code, and how many seconds that took."""

    node: str
    answer: str
    seconds: float


class Location(NamedTuple):
    """A host that said just now that it takes this call: the URL there, its host and port, the node's name, the phase of the
    look-up (1 a holder with room, 2 a copy made for this call, 3 an overloaded holder), and the nodes that were asked."""

    url: str
    host: str
    port: int
    node: str
    phase: int
    asked: tuple[Asked, ...]


def whereis(
    service: str,
    *,
    policy: str | None = None,
    node: str | Iterable[str] = (),
    keys: str | None = None,
    socket: str | None = None,
    config: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Location:
    """A host that serves the service's next call.

    `policy`: path of the client's WS-Policy. `node`: HOST[:PORT] of one node or several to ask over TLS, in turn; without, the
    node of this host is asked by its `socket`, or that of its `config`. `keys`: DIR/NAME of the certificate shown to nodes
    (default $BDSERVER_KEYS, else the local node's). `timeout`: seconds for all of it.
    Raises CantFind, PolicyMismatch, NobodyThere, Deadline, Forbidden, BadConfig, as bdserver.errors has them."""
    with Mesh(policy=policy, node=node, keys=keys, socket=socket, config=config, timeout=timeout) as mesh:
        return mesh.whereis(service)


def get_wsdl(addr: str | None, service: str, policy_file: str | None = None, keys: str | None = None) -> str:
    """The URL of a service's description, as the original's: asks the node at `addr`, HOST:PORT, or with None the local one."""
    return whereis(service, policy=policy_file, node=addr or (), keys=keys).url


def get_audit_info(addr: str | None, keys: str | None = None) -> Status:
    """How the node at `addr` (None: the local one) is, and which nodes it knows, as the original's; a core.messages.Status."""
    with Mesh(node=addr or (), keys=keys) as mesh:
        return mesh.status()


def _nothing(reason: str) -> None:
    """Nobody wants to hear of nodes that are passed over: they are in the result."""


def kill_all(
    addr: str | None, password: str | None = None, keys: str | None = None, on_silence: Callable[[str], None] = _nothing
) -> tuple[list[str], list[str]]:
    """End every node that can be found from the one at `addr` (None: the local one), as the original's: (addresses of those
    that ended, addresses of those that were not there or did not answer). For an admin, or with the admin_password.

    `on_silence(reason)` hears of each that was passed over. Forbidden, when all is done, if some node wants other keys."""
    from bdserver.net.killing import kill_outward, kill_request

    request = kill_request(password)
    with Mesh(node=addr or (), keys=keys) as mesh:
        kill_local = None if addr else lambda: mesh.ask(lambda talk, deadline: talk.ask(request, deadline))
        ended = kill_outward(mesh.status(), lambda: credentials_of(keys), password, on_silence, kill_local)
    if ended.refused:
        raise Forbidden(ended.refusal())
    return ended.killed, ended.silent


def _new_lock() -> Lock:
    import threading  # here: bdwhereis, which needs none, would pay half a millisecond for it

    return threading.Lock()


class Mesh:
    """A connection to the mesh that stays open from one look-up to the next: a tenth of the cost. It is opened at the first
    look-up, and opened anew when it broke (at the next of several nodes, if need be). Several threads may share it; they are
    served one after the other. A process that was forked opens one of its own.

    Takes what `whereis` takes; a context manager."""

    def __init__(
        self,
        *,
        policy: str | None = None,
        node: str | Iterable[str] = (),
        keys: str | None = None,
        socket: str | None = None,
        config: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self.timeout = timeout
        self._policy_text = policy_text(policy)
        nodes = [node] if isinstance(node, str) else list(node)
        self._entrances = entrances(nodes, keys, socket, config, self._policy_text)
        self._open: Conversation | None = None
        self._process = os.getpid()
        self._lock = _new_lock()

    def whereis(self, service: str) -> Location:
        """As the function of that name."""
        if not isinstance(service, str) or not valid_name(service):
            raise BadRequest(f"{str(service)[:60]!r} is no service's name: {NAME_WORDS}")
        request = ["WHEREIS", service, self._policy_text]
        return _location(located(service, self.ask(lambda talk, deadline: talk.ask(request, deadline))))

    def status(self) -> Status:
        """How the node that is asked is, and which nodes it knows."""
        from bdserver.core import pages

        status: Status = self.ask(pages.status_of)
        return status

    def ask(self, say: Callable[[Conversation, float], Any]) -> Any:
        """What `say(conversation, deadline)` returns on the open connection, or on a new one if that broke."""
        deadline = time.monotonic() + self.timeout
        self._forget_parents()
        lock = self._lock
        if not lock.acquire(timeout=max(self.timeout, 0.0)):
            raise Deadline("other threads have asked on this connection all the time")
        try:
            return self._asked(say, deadline)
        finally:
            lock.release()

    def _asked(self, say: Callable[[Conversation, float], Any], deadline: float) -> Any:
        kept, self._open = self._open, None
        if kept is not None:
            try:
                result = say(kept, deadline)
                self._open = kept
                return result
            except NobodyThere:  # it has hung up: a new call will tell more
                pass
            finally:
                if self._open is None:
                    kept.close()
        entered = enter(self._entrances, deadline, say)
        self._open = entered.conversation
        return entered.result

    def close(self) -> None:
        """Hang up. It may be used again, and then dials anew."""
        self._forget_parents()
        with self._lock:
            kept, self._open = self._open, None
        if kept is not None:
            kept.close()

    def _forget_parents(self) -> None:
        """In a process that was forked: what our parent says on its connection would be mixed with ours, and its lock may be
        held by a thread that is not here to let it go."""
        if self._process != os.getpid():
            self._open, self._lock, self._process = None, _new_lock(), os.getpid()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def entrances(
    nodes: list[str], keys: str | None, socket: str | None, config: str | None, policy_text: str | None = None
) -> list[Entrance]:
    """The ways into the mesh: each of `nodes` over TLS; without any, the local socket."""
    if not nodes:
        return [partial(dialling.dial_local, socket or local_socket(config))]
    from bdserver.core.address import join_address, split_address

    addresses = [join_address(*split_address(node, PORT)) for node in nodes]
    credentials = credentials_of(keys, config)
    return [dialling.entrance(address, credentials, policy_text) for address in addresses]


def credentials_of(keys: str | None, config: str | None = None) -> Credentials:
    """The certificate that we show to nodes: that at `keys`, DIR/NAME, or at $BDSERVER_KEYS, else the local node's own."""
    from bdserver.net.keys import load as load_keys
    from bdserver.net.keys import load_named

    keys = keys or os.environ.get("BDSERVER_KEYS")
    if keys:
        return load_named(keys)
    try:
        settings = load(config or default_path())
    except BadConfig as error:
        raise BadConfig(
            f"TLS needs a certificate (bdkeys issue CA NAME --role client): give --keys DIR/NAME, or $BDSERVER_KEYS ({error})"
        ) from None
    return load_keys(settings.key_dir, settings.username, settings.group)


def policy_text(path: str | None) -> str | None:
    """The WS-Policy document at a path, checked; None without one."""
    if not path:
        return None
    from bdserver.files import policyfile

    return policyfile.read(path, pipes=True).text


def _location(details: dict[str, Any]) -> Location:
    url = details["url"]
    try:
        host, port = _host_and_port(url)
    except ValueError as error:
        raise BadFrame(f"{details['node']} names a URL that can't be called: {url[:200]!r}: {error}") from None
    asked = tuple([Asked(each["node"], each["answer"], each["ms"] / 1000) for each in details["asked"]])
    return Location(url, host, port, details["node"], details["phase"], asked)


@lru_cache
def _host_and_port(url: str) -> tuple[str, int]:
    import urllib.parse

    parts = urllib.parse.urlsplit(url)
    return parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
