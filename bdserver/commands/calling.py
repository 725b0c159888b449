"""How bdwhereis and bdctl read their arguments, reach a node, and end.

A node is reached by the local socket of --config, or each --node over TLS in turn. Promises one conversation, or the one
error that says why there is none; each complaint is one line on stderr, and never a traceback. TLS is imported under --node
alone: `bdwhereis` would pay for it at each start.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError

from bdserver import __version__, api
from bdserver.commands.output import written
from bdserver.core.names import NAME_WORDS, valid_name
from bdserver.errors import BadConfig, BDError
from bdserver.files.lines import SHOWN_CHARACTERS_MAX
from bdserver.files.settings import decimal, default_path
from bdserver.net.entrances import in_turn

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn, TypeVar

    from bdserver.net.conversation import Conversation

    Result = TypeVar("Result")

# A shell's own status for what Ctrl-C has ended: 128 and the signal's number.
INTERRUPTED = 130
# A day: a longer time to wait is a mistaken unit.
TIMEOUT_SECONDS_MAX = 86400.0


class Parser(ArgumentParser):
    """Arguments of a command: wrong usage is one line, which says what may have been meant. `commands`: the names of its
    subcommands."""

    def __init__(self, *arguments: Any, commands: Iterable[str] = (), **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.commands = list(commands)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(BadConfig.exit, f"{self.prog}: {self._nearer(message)} ({self.prog} --help tells more)\n")

    def _nearer(self, message: str) -> str:
        """Instead of the list of all commands: the word, and the command that is most like it; of an option
        that stands behind the command, where it belongs."""
        if message.startswith("unrecognized arguments: "):
            option = message.split()[2].partition("=")[0]
            return f"{option} stands before the command" if option in self._option_string_actions else message
        if not message.startswith("argument COMMAND: invalid choice: "):
            return message
        from difflib import get_close_matches

        word = message.split(": ", 2)[2].split(" (choose from", 1)[0].strip("'\"")
        close = get_close_matches(word, self.commands, 1)
        return f"there is no command {word!r}" + (f": did you mean {close[0]}?" if close else "")


def add_options(parser: ArgumentParser) -> None:
    """The options that choose the node, and --version."""
    parser.add_argument("--config", metavar="CONFIG", type=path, help=f"the local node's config (default: {default_path()})")
    parser.add_argument("--socket", metavar="PATH", type=path, help="the local node's socket, where its config can't be read")
    parser.add_argument(
        "--node", metavar="HOST[:PORT]", action="append", help="ask this node over TLS (may be repeated; port: 9001)"
    )
    parser.add_argument(
        "--keys",
        metavar="DIR/NAME",
        type=path,
        help="with --node: whose certificate to show (default: $BDSERVER_KEYS, else the local node's)",
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, default=api.TIMEOUT_SECONDS, help="default: 10")
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")


def path(text: str) -> str:
    """A file's path, as argparse's `type`: a shell's variable that is not set must not choose another node, or no policy."""
    if not text:
        raise ArgumentTypeError("an empty text is no path")
    return text


def seconds(text: str) -> float:
    """A time to wait, as argparse's `type`: above 0, and no nan or inf."""
    value = number(text)
    if not 0 < value <= TIMEOUT_SECONDS_MAX:
        raise ArgumentTypeError(f"{text} is no number of seconds above 0, up to {TIMEOUT_SECONDS_MAX:g}")
    return value


def duration(text: str) -> float:
    """A time as a person writes it, as argparse's `type`: seconds, or 90s, 10m, 2h, 7d."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    try:
        value = decimal(text[:-1] if text[-1:] in units else text) * units.get(text[-1:], 1.0)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise ArgumentTypeError(f"{text[:SHOWN_CHARACTERS_MAX]!r} is no time above 0 (90s, 10m, 2h, 7d)")
    return value


def service_name(text: str) -> str:
    """A service's name, as argparse's `type`."""
    if not valid_name(text):
        raise ArgumentTypeError(f"{text[:SHOWN_CHARACTERS_MAX]!r} is no service's name: {NAME_WORDS}")
    return text


def number(text: str) -> float:
    """A number as a person writes it, as argparse's `type`."""
    try:
        return decimal(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def conversation(options: Namespace, say: Callable[[Conversation, float], Result], policy_text: str | None = None) -> Result:
    """What `say(conversation, deadline)` returns with the first node that answers."""
    ways = api.entrances(options.node or [], options.keys, options.socket, options.config, policy_text)
    return in_turn(ways, time.monotonic() + options.timeout, say)


def outcome(program: str, work: Callable[[], int | None]) -> int:
    """The exit status of a command's work; None is 0. An error is said on stderr. What was printed is written."""
    try:
        return written(work)
    except BDError as error:
        return complain(program, error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return complain(program, BadConfig(where + (error.strerror or str(error))))


def complain(program: str, error: BDError) -> int:
    """One line on stderr for each complaint; the exit status."""
    for line in str(error).splitlines():
        warn(program, line)
    return error.exit


def warn(program: str, line: str) -> None:
    """One line on stderr."""
    print(f"{program}: {line}", file=sys.stderr)
