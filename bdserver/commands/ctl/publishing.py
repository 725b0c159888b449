"""bdctl publish and sign: offer a file or folder, or a URL, as a service, and sign it.

A text that can't be a service's URL is refused before anybody is asked. A service that can't be called yet is offered all the
same, with a line on stderr: a web server may be started after it. Of what is published signed, the SHA-256 is worked out here
from the files, so no node is believed in what it is that is signed; its key never leaves this process.
"""

from __future__ import annotations

import contextlib
import http
import os
import tempfile
import time
import urllib.parse
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from bdserver.core.address import join_address
from bdserver.core.fields import is_count, is_number
from bdserver.core.membership import REPLICAS_MAX, STATIC, Copies
from bdserver.core.tuples import NamedTuple
from bdserver.core.urls import is_url
from bdserver.errors import BadConfig, BDError, CantFind
from bdserver.files import bdcert, lines, package, publishers
from bdserver.files.minisign import SecretKey
from bdserver.files.publishers import Signed
from bdserver.net import tcp

# Whether something listens is seen within a network's round trip; longer, the person waits for a mere warning.
LISTENING_SECONDS = 1.0
# What is usually served of a folder, and by the embedded web server alone.
INDEXES = ("index.cgi", "index.html")
PORT_OF = {"http": 80, "https": 443}
# What may be wished for, and what holds where nothing ever was.
WISHES: dict[str, Any] = {"weight": 1.0, "url": "", "health": "none", "replicas": 0, "copies": ""}
# What is signed is as before in these alone, and only if they are what they must be: the node that tells them may lie, and must
# lead no caller elsewhere by a signature.
KEPT: dict[str, Callable[[Any], bool]] = {
    "weight": is_number,
    "health": bdcert.HEALTH.__contains__,
    "replicas": lambda value: is_count(value) and value <= REPLICAS_MAX,
    "copies": tuple(Copies).__contains__,
}

# Sends a request, with the bytes of a package behind it, and returns the answer.
Ask = Callable[[list[Any], BinaryIO | None], Any]


def publish(options: Namespace, ask: Ask) -> tuple[str, Any]:
    """(the service's name, what the node says), of `bdctl publish`'s options."""
    if options.url and not is_url(options.url):
        raise BadConfig(f"--url {options.url[:200]!r}: must be {bdcert.URL_WORDS}")
    name = options.name or os.path.basename(os.path.abspath(options.file))
    wishes = {key: getattr(options, key) for key in ("weight", "url", "health", "replicas", "copies")}
    described: dict[str, Any] = {"bytes": 0, "sha256": "", **{key: value for key, value in wishes.items() if value is not None}}
    if options.take_over:
        described["take_over"] = True
    if os.path.exists(options.file):
        said = _publish_file(options, name, described, ask)
    elif options.url and options.sign:
        raise BadConfig(f"{options.file}: no such file, and of a service elsewhere there is nothing to sign")
    elif options.url:
        said = ask(["PUBLISH", name, described], None)
    else:
        raise BadConfig(f"{options.file}: no such file (a service elsewhere is published with --url)")
    return name, said


def _publish_file(options: Namespace, name: str, described: dict[str, Any], ask: Ask) -> Any:
    """The package has what is wished for in it, so it is the one that the node will give away, and can be signed here."""
    path, key = os.path.abspath(options.file), _secret_key(options.sign) if options.sign else None
    counter = 0
    if key is not None:
        stated = ask(["STATEMENT", name, *([True] if options.take_over else [])], None)
        counter = _fit(stated.counter)
        kept = {key: stated.wished.get(key) for key, is_fit in KEPT.items() if is_fit(stated.wished.get(key))}
        described = {**WISHES, **kept, **described}  # all of it is told: what is signed is what the node is to make of it
    with tempfile.TemporaryFile() as file:
        described["bytes"], described["sha256"] = package.pack(_wished(name, path, described), file)
        if key is not None:
            described["signature"] = publishers.signed(key, name, counter, described["sha256"]).text
        file.seek(0)
        return ask(["PUBLISH", name, described], file)


def _wished(name: str, path: str, described: dict[str, Any]) -> bdcert.Service:
    given = {key: described.get(key, default) for key, default in WISHES.items()}
    service = bdcert.Service(name, STATIC, given["weight"], given["url"], given["health"], path, 0.0)
    return service._replace(replicas=given["replicas"], copies=given["copies"])


# --- signing ------------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """What `bdctl sign` has to say: the text for stdout, the counter and the key of the signature, and the node's notes."""

    text: str
    counter: int
    signer: str = ""
    notes: Sequence[str] = ()


def sign(options: Namespace, ask: Callable[[list[Any]], Any]) -> Said:
    """Of `bdctl sign`'s options, which exclude each other."""
    if sum(map(bool, (options.key, options.signed, options.export))) > 1:
        raise BadConfig("sign: --key, --signed and --export are three things: give one of them")
    name = options.service
    if options.signed:
        return _given(name, _signed_files(name, options.signed), ask)
    key = _secret_key(options.key) if options.key else None
    stated = ask(["STATEMENT", name])
    if not stated.sha256:
        raise CantFind(f"{name}: no file or folder of that name is offered there")
    if options.export:
        return _exported(name, options.export, stated.signature)
    counter = _fit(stated.counter)
    if key is None:
        return Said(publishers.statement(name, counter, stated.sha256).decode(), counter)
    return _given(name, publishers.signed(key, name, counter, stated.sha256), ask)


def _given(name: str, signed: Signed, ask: Callable[[list[Any]], Any]) -> Said:
    said = ask(["SIGN", name, signed.text])
    return Said(f"{name}: edition {signed.counter}, signed by {signed.signer}\n", signed.counter, signed.signer, said.notes)


def _exported(name: str, path: str, signature: str) -> Said:
    """What was signed, in the two files that minisign takes."""
    if not signature:
        raise CantFind(f"{name}: nobody has signed what is offered there")
    try:
        signed = Signed.of_text(signature)
    except ValueError as error:
        raise BadConfig(f"{name}: {error}") from None
    said = publishers.statement(name, signed.counter, signed.sha256)
    for each, data in ((path, said), (f"{path}.minisig", signed.signature.file)):
        with open(each, "wb") as file:
            file.write(data)
    return Said(f"next: minisign -V -p KEY.pub -m {path}\n", signed.counter, signed.signer)


def _signed_files(name: str, path: str) -> Signed:
    said, signature = (lines.content(each)[0] for each in (path, f"{path}.minisig"))
    try:
        return Signed.of_files(name, said, signature)
    except ValueError as error:
        raise BadConfig(f"{path}: {error}") from None


def _secret_key(path: str) -> SecretKey:
    data, status = lines.content(path)
    if status.st_mode & 0o077:
        raise BadConfig(f"{path}: others can read this publisher's key: chmod 600 {path}")
    try:
        return SecretKey.of_file(data)
    except ValueError as error:
        remedy = " (bdctl sign prints what it is to sign)" if "password" in str(error) else ""
        raise BadConfig(f"{path}: {error}{remedy}") from None


def _fit(counter: int) -> int:
    """A counter from a node is signed only if it is of our time: one far ahead would shut out all that we sign later."""
    if publishers.is_ahead(counter, time.time()):
        raise BadConfig(
            f"the node wants edition {counter} to be signed, which is a time to come: its clock, or its word, is wrong"
        )
    return counter


# --- doubts -------------------------------------------------------------------------------------------------------


def doubts(options: Namespace, url: str) -> Iterator[str]:
    """One line for each reason why clients may not be able to call what has just been published, now or later."""
    reason = _not_listening(url)
    status = 0 if reason else _status(url)
    # Where nothing is found, whether it would be run or sent as it is nobody knows.
    yield from _not_executable(options.file, is_served=status in (http.HTTPStatus.OK, http.HTTPStatus.NOT_FOUND))
    if reason:
        yield f"warning: nothing listens at {url} ({reason}): it is offered all the same"
    if status == http.HTTPStatus.NOT_FOUND:
        why = "does it serve services_dir? (bdctl doctor)"
        if os.path.isdir(options.file) and not any(os.path.exists(os.path.join(options.file, each)) for each in INDEXES):
            why = f"{options.file} has neither {' nor '.join(INDEXES)}"
        yield f"warning: there is a web server, and nothing at {url} (404): {why}"


def _not_executable(path: str, is_served: bool) -> Iterator[str]:
    """Of a program that is not executable. A file without #! is none that has a suffix (a page, or a class for a container), or
    that the web server sends as it is."""
    program = os.path.join(path, "index.cgi") if os.path.isdir(path) else path
    if not os.path.isfile(program) or os.stat(program).st_mode & 0o111:
        return
    with open(program, "rb") as file:
        is_script = file.read(2) == b"#!"
    if is_script or not (is_served or (os.path.splitext(program)[1] and program == path)):
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


def _status(url: str) -> int:
    """With which status its web server answers; 0 when that can't be tried. HEAD: a look must do nothing."""
    import http.client

    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            return 0
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=LISTENING_SECONDS)
        with contextlib.closing(connection):
            connection.request("HEAD", parts.path)
            return connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException):
        return 0
