"""bddemo: a mesh of three nodes on this machine that tells its story; Ctrl-C ends it and leaves nothing behind.

bddemo [--seconds N] [--port 8460]
"""

from __future__ import annotations

import argparse
import sys

from dns.exception import DNSException

from bdserver import __version__
from bdserver.commands import calling
from bdserver.core.address import PORT_MAX, SHOWN_CHARACTERS_MAX
from bdserver.demo.ending import Ending
from bdserver.demo.stage import Stage
from bdserver.demo.story import PORT, Story
from bdserver.errors import BDError


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when the story ended well, 1 when something in it did not happen."""
    return calling.outcome("bddemo", lambda: _tell(_parser().parse_args(arguments)))


def _tell(options: argparse.Namespace) -> int:
    ending = Ending()
    ending.install()
    try:
        with Story(Stage(options.port, ending), options.seconds) as story:
            story.tell()
        ending.over()
    except KeyboardInterrupt:
        pass
    except (AssertionError, BDError, DNSException, OSError) as error:
        print(f"bddemo: {_words_of(error)}", file=sys.stderr)
        return 1
    print("Everything is ended and cleaned up. Goodbye.")
    return 0


def _words_of(error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, OSError) and error.strerror:  # a web server's refusal has none, and says what it is
        return f"{error.filename or 'this host'}: {error.strerror}"
    return str(error)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < PORT_MAX):
        raise argparse.ArgumentTypeError(f"{text[:SHOWN_CHARACTERS_MAX]!r} is no port from 1 to {PORT_MAX - 1}, nor 0 for any")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = calling.Parser(prog="bddemo", description="A mesh of three nodes on this machine, and its story.")
    parser.add_argument("--seconds", type=calling.number, help="end so long after the story (default: when you press Ctrl-C)")
    parser.add_argument("--port", type=_port, default=PORT, help=f"of the page (default {PORT}; 0: any); DNS has the next one")
    parser.add_argument("--version", action="version", version=f"bddemo {__version__}")
    return parser
