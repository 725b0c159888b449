"""The audit page and whereis as CGI programs: `python3 -m bdserver.audit.cgi audit|whereis`, under any web server.

Answers within its deadline: when the work has not ended a moment after it, a 504 goes out and the process ends. Only
REMOTE_ADDR and what the server itself says of the request are read; headers of the caller's count for nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from wsgiref.handlers import CGIHandler
from wsgiref.types import WSGIApplication

from bdserver.audit import config
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BDError

# For starting Python, drawing and writing the answer, beside the seconds that the config gives to asking the mesh.
MARGIN_SECONDS = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Answer the one request that the environment describes."""
    names = (sys.argv[1:] if arguments is None else arguments)[:1]
    program = PROGRAMS.get(names[0]) if names else None
    if program is None:
        print("usage: python3 -m bdserver.audit.cgi " + "|".join(PROGRAMS), file=sys.stderr)
        return 2
    try:
        settings = config.load()
    except BDError as error:
        CGIHandler().run(_refusing(error))
        return 0
    handler = CGIHandler()
    _limit(handler, program.seconds(settings) + MARGIN_SECONDS)
    handler.run(program.make(settings))
    return 0


def _audit(settings: config.AuditConfig) -> WSGIApplication:
    from bdserver.audit.app import application
    from bdserver.audit.crawl import crawl

    return application(lambda about: crawl(settings, about), settings.draw_seconds)


def _whereis(settings: config.AuditConfig) -> WSGIApplication:
    from bdserver.audit.whereis import application

    return application(settings)


def _refusing(error: BDError) -> WSGIApplication:
    """Each complaint about the config goes to the server's error log; a visitor learns of what kind it is."""
    from bdserver.audit.refusals import refuse
    from bdserver.errors import BadConfig

    print(f"bdserver: {error}", file=sys.stderr, flush=True)
    kind = "may not read audit.conf" if isinstance(error.__cause__, PermissionError) else "audit.conf is wrong"
    said = BadConfig(f"{kind}: the web server's error log says what to do")
    return lambda environ, start_response: refuse(start_response, said)


def _limit(handler: CGIHandler, seconds: float) -> None:
    def give_up(number: int, frame: FrameType | None) -> None:
        if not handler.headers_sent:  # type: ignore[attr-defined]
            words = f"no answer in {seconds:g} s\n"
            head = "Status: 504 Gateway Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\r\n"
            os.write(1, (head + words).encode())
        os._exit(0)

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)


class Program(NamedTuple):
    """The application that answers, and how many seconds the config gives it."""

    make: Callable[[config.AuditConfig], WSGIApplication]
    seconds: Callable[[config.AuditConfig], float]


PROGRAMS = {
    "audit": Program(_audit, lambda settings: settings.crawl_seconds + settings.draw_seconds),
    "whereis": Program(_whereis, lambda settings: settings.whereis_seconds),
}


if __name__ == "__main__":
    sys.exit(main())
