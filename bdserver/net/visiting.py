"""Visiting other nodes, to find out whether callers and news get there: ports, certificates, clocks, policies, large messages.

First all ports for news are tried at once, which costs next to nothing; then, as long as there is time, a few nodes at a time
are called as callers do it: a handshake is work for both sides, and all nodes of a mesh may be at it. Visits end within their
deadline and raise nothing: what went wrong is what they are for. What they mean together is core.checkup's.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable

from bdserver.core.address import join_address, split_address
from bdserver.core.checkup import LARGE_BYTES, Visit
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BDError, NobodyThere, PolicyMismatch, Refused
from bdserver.net import tcp
from bdserver.net.conversation import Conversation

# Small questions are answered in milliseconds; whoever drops packets takes this long.
STEP_SECONDS = 2.0
# A TCP connection takes a round trip; one whose first packet is lost, a second more.
REACH_SECONDS = 1.2
# Calls at a time, and the part of the time after which no more are begun.
AT_ONCE, BEGIN_SHARE = 2, 0.4

# call(address, deadline, name or None): a conversation with the node there.
Call = Callable[[str, float, str | None], Conversation]


class Whom(NamedTuple):
    """`name` is "" where only an address is known; `news` HOST:PORT of its port for news, else it is asked for."""

    name: str
    address: str
    news: str = ""


def visit_all(call: Call, whom: Iterable[Whom], deadline: float) -> list[Visit]:
    """Each of them; of those for whom there was no time left, whether their ports for news can be reached."""
    wanted = list(whom)
    began = time.monotonic()
    silent = reach([each.news for each in wanted if each.news], min(deadline, began + REACH_SECONDS))
    doubtful = [each.address for each in wanted if not each.news or each.news in silent]
    silent |= reach(doubtful, min(deadline, time.monotonic() + REACH_SECONDS))
    until = max(time.monotonic(), began + (deadline - began) * BEGIN_SHARE)

    def visited(each: Whom) -> Visit:
        made = Visit(each.name or each.address, each.address, news=_words(silent.get(each.news)))
        failed = silent.get(each.address)
        if failed is not None:
            return made._replace(code=failed.code, text=str(failed), step="call")
        return made if time.monotonic() > until else visit(call, each, made, deadline)

    from concurrent.futures import ThreadPoolExecutor  # here: few children are ever asked to visit anybody

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(visited, wanted))


def visit(call: Call, whom: Whom, made: Visit, deadline: float) -> Visit:
    """One whose port is open: `made` is what is known so far."""
    try:
        with call(whom.address, _soon(deadline), whom.name or None) as conversation:
            if conversation.identity is not None:
                made = made._replace(name=conversation.identity.name)
            news = "" if whom.news else _port_for_news(conversation, whom.address, deadline)
            if news:
                made = made._replace(news=_words(reach([news], _soon(deadline)).get(news)))
            return _asked(conversation, made, deadline)
    except BDError as error:
        return made._replace(code=error.code, text=str(error), step="call")


def _port_for_news(conversation: Conversation, address: str, deadline: float) -> str:
    try:
        pong = conversation.ask(["PING"], _soon(deadline))
    except BDError:  # what is asked next finds the same
        return ""
    return join_address(split_address(address)[0], pong.gossip_port) if pong.gossip_port else ""


def _asked(conversation: Conversation, made: Visit, deadline: float) -> Visit:
    step = "ask"
    try:
        asked_at, began = time.time(), time.monotonic()
        offers = conversation.ask(["GIVEYOURSERVICES"], _soon(deadline))
        seconds = time.monotonic() - began
        made = made._replace(seconds=round(seconds, 4), clock_off=round(offers.at - asked_at - seconds / 2, 3))
        step = "large"
        padding = os.urandom(LARGE_BYTES // 2).hex()  # which zlib can make half as large, and no smaller
        conversation.ask(["STATUS", {"brief": True, "padding": padding}], _soon(deadline))
    except PolicyMismatch as error:
        return made._replace(code=error.code, text=str(error), step="call")
    except BDError as error:
        return made._replace(code=error.code, text=str(error), step=step)
    return made


def _words(error: BDError | None) -> str:
    return "" if error is None else str(error)


def _soon(deadline: float) -> float:
    return min(deadline, time.monotonic() + STEP_SECONDS)


# --- ports --------------------------------------------------------------------------------------------------------


def reach(addresses: list[str], deadline: float) -> dict[str, BDError]:
    """HOST:PORT -> why nobody can be reached there, of those where nobody can: a TCP connection each, all at once."""
    failed: dict[str, BDError] = {}
    with selectors.DefaultSelector() as waiting:
        for address in dict.fromkeys(addresses):
            try:
                sock = _dialled(address, deadline)
            except BDError as error:
                failed[address] = error
                continue
            waiting.register(sock, selectors.EVENT_WRITE, address)
        while waiting.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                sock = key.fileobj  # type: ignore[assignment]
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    failed[key.data] = _failure(key.data, number)
                waiting.unregister(sock)
                sock.close()
        for key in list(waiting.get_map().values()):
            failed[key.data] = NobodyThere(f"{key.data}: no answer")
            key.fileobj.close()  # type: ignore[union-attr]
    return failed


def _dialled(address: str, deadline: float) -> socket.socket:
    host, port = split_address(address)
    family, where = tcp.resolve(host, port, deadline)[0]
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise NobodyThere(f"{address}: {error.strerror}") from None
    try:
        number = sock.connect_ex(where)
    except OSError as error:
        sock.close()
        raise NobodyThere(f"{address}: {error.strerror or error}") from None
    if number not in (0, errno.EINPROGRESS):
        sock.close()
        raise _failure(address, number)
    return sock


def _failure(address: str, number: int) -> BDError:
    if number == errno.ECONNREFUSED:
        return Refused(f"{address}: connection refused")
    return NobodyThere(f"{address}: {os.strerror(number)}")
