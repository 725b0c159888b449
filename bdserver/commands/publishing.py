"""bdctl publish: offer a file or folder, or a URL, as a service, and say at once what clients would find out later.

A text that can't be a service's URL is refused before anybody is asked. A service that can't be called yet is offered all the
same, with a line on stderr: a web server may be started after it.
"""

from __future__ import annotations

import os
import tempfile
import time
import urllib.parse
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from bdserver.core.address import join_address
from bdserver.core.membership import STATIC
from bdserver.core.messages import Ok
from bdserver.errors import BadConfig, BDError
from bdserver.files import package, services
from bdserver.net import tcp

# Whether something listens is seen within a network's round trip; longer, the person waits for a mere warning.
LISTENING_SECONDS = 1.0
PORT_OF = {"http": 80, "https": 443}

# Sends a request, with the bytes of a package behind it, and returns the answer.
Ask = Callable[[list[Any], BinaryIO | None], Ok]


def publish(options: Namespace, ask: Ask) -> tuple[str, Ok]:
    """(the service's name, what the node says), of `bdctl publish`'s options."""
    if options.url and not services.is_url(options.url):
        raise BadConfig(f"--url {options.url[:200]!r}: must be {services.URL_WORDS}")
    name = options.name or os.path.basename(os.path.abspath(options.file))
    described = {"bytes": 0, "sha256": "", "weight": options.weight, "url": options.url or "", "health": options.health}
    wishes = {"replicas": options.replicas, "copies": options.copies, "take_over": options.take_over}
    described |= {key: value for key, value in wishes.items() if value}
    if os.path.exists(options.file):
        said = _publish_file(options.file, name, described, ask)
    elif options.url:
        said = ask(["PUBLISH", name, described], None)
    else:
        raise BadConfig(f"{options.file}: no such file (a service elsewhere is published with --url)")
    return name, said


def _publish_file(path: str, name: str, described: dict[str, Any], ask: Ask) -> Ok:
    with tempfile.TemporaryFile() as file:
        service = services.Service(name, STATIC, described["weight"], "", "none", os.path.abspath(path), 0.0, ())
        described["bytes"], described["sha256"] = package.pack(service, file)
        file.seek(0)
        return ask(["PUBLISH", name, described], file)


def doubts(path: str, url: str) -> Iterator[str]:
    """One line for each reason why clients may not be able to call what has just been published."""
    yield from _not_executable(path)
    reason = _not_listening(url)
    if reason:
        yield f"warning: nothing listens at {url} ({reason}): it is offered all the same"


def _not_executable(path: str) -> Iterator[str]:
    """Of a program that is not executable. A file that has a suffix and no #! is none: a page, or a class for a container."""
    program = os.path.join(path, "index.cgi") if os.path.isdir(path) else path
    if not os.path.isfile(program) or os.stat(program).st_mode & 0o111:
        return
    with open(program, "rb") as file:
        is_script = file.read(2) == b"#!"
    if is_script or not os.path.splitext(program)[1] or program != path:
        yield f"warning: {program} is not executable: no web server will run it (chmod 755 it, and publish it again)"


def _not_listening(url: str) -> str:
    """The reason why the URL's host and port can't be connected to from here; "" when they can, or can't be tried."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or PORT_OF.get(parts.scheme)
        if not parts.hostname or not port:
            return ""
        tcp.connect(join_address(parts.hostname, port), time.monotonic() + LISTENING_SECONDS).close()
    except BDError as error:
        return str(error)
    except ValueError:  # the node knows better what its URLs look like
        return ""
    return ""
