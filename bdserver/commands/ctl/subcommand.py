"""What the subcommands of bdctl share: the form of their rows, how they ask the node, and how they print."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from bdserver import api
from bdserver.commands import calling, showing
from bdserver.core import messages, pages
from bdserver.core.address import join_address, split_address
from bdserver.core.messages import Status
from bdserver.core.tuples import NamedTuple
from bdserver.errors import Forbidden
from bdserver.net.conversation import Conversation

Result = TypeVar("Result")


class Option(NamedTuple):
    """The arguments of argparse's add_argument."""

    flags: tuple[str, ...]
    keywords: dict[str, Any]


class Command(NamedTuple):
    """`run(options)` returns the exit status; None is 0."""

    run: Callable[[Namespace], int | None]
    help: str
    arguments: list[Option]


def option(*flags: str, **keywords: Any) -> Option:
    """As argparse's add_argument takes it."""
    return Option(flags, keywords)


SERVICE = option("service", metavar="SERVICE", type=calling.service_name)


def plain(*words: str) -> Callable[[Namespace], None]:
    """A command that is one request and has nothing to say but that it went well."""

    def run(options: Namespace) -> None:
        said = ask(options, [words[0], *(getattr(options, word) for word in words[1:])])
        if options.json:
            print_json(messages.encoded(said))

    return run


# --- asking -------------------------------------------------------------------------------------------------------


def ask(options: Namespace, request: list[Any], package: BinaryIO | None = None) -> Any:
    """The answer of the node that the options say."""
    return conversation(options, lambda talk, deadline: talk.ask(request, deadline, package))


def conversation(options: Namespace, say: Callable[[Conversation, float], Result]) -> Result:
    """What `say(conversation, deadline)` returns with that node; who is refused is told who would not be."""
    try:
        return calling.conversation(options, say)
    except Forbidden as error:
        if options.node or os.geteuid() == 0:
            raise
        raise Forbidden(f"{error}: be root, or the user as whom the daemon runs") from None


def status_of(options: Namespace) -> Status:
    """How the node is, and all nodes that it knows, itself too."""
    return calling.conversation(options, pages.status_of)


def full_address(text: str) -> str:
    """HOST:PORT of an address as a person writes it: the usual port may be left out."""
    return join_address(*split_address(text, api.PORT))


def typed_password() -> str:
    """From the terminal, or the first line of standard input."""
    import getpass

    return getpass.getpass("admin_password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


# --- printing -----------------------------------------------------------------------------------------------------


def print_json(value: Any) -> None:
    """In the documented shape."""
    print(json.dumps(value, indent=2))


def print_shown(shown: list[str] | Any, is_json: bool) -> None:
    """What `showing` made of an answer."""
    if is_json:
        return print_json(shown)
    for line in shown:
        print(showing.visible(line))
    return None
