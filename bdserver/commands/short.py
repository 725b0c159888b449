"""The short way of bdwhereis and bdctl: the plain cases, without what takes them longest, which is to start.

Plain is `bdwhereis SERVICE` by the local socket (with --config or --socket) or over TLS (with one --node, and --keys or
$BDSERVER_KEYS); and of this host's node `bdctl status`, `nodes` and `ping`; with --json or without. bin/bdwhereis and bin/bdctl
start Python without site (-S), and here these cases are done with what is compiled into Python or lies beside it: argparse,
re, socket, json and the rest of ours would take three times as long as Python itself.

Promises to print and to exit as commands.bdwhereis and commands.bdctl do, or to have printed nothing: whatever is out of the
ordinary (another option, an odd line in the config, nobody at the socket, an answer that is none) these do from the
beginning, in what is left of the time. Of the config it reads where the socket is, and looks at nothing else.
"""

import posix
import sys
from time import monotonic, time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # (the exit status, what is printed on stdout)
    Outcome = tuple[int, str]

# As api, files.settings, files.lines, core.wire, core.names, core.address and commands.calling say it; a test compares.
TIMEOUT_SECONDS = 10.0
DEFAULT_PATH = "/etc/bdserver/bdserverd.conf"
USUAL_SOCKET = "/run/bdserver/bdserver.sock"
DEFAULTS = {"username": "bdserver", "var_dir": "var", "socket": "{var_dir}/run/{username}.sock"}
FILE_BYTES_MAX = 1 << 20
VERSION, OLDEST = 1, 1
FRAME_BYTES_MAX, MESSAGE_BYTES_MAX = 1 << 20, 8 << 20
NAME_CHARACTERS_MAX = 100
PORT, PORT_MAX = 9001, 65535
INTERRUPTED = 130

OPTIONS = ("--config", "--socket", "--node", "--keys")
HEADER_BYTES = 5
CHUNK_BYTES = 1 << 16
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_FILE_TYPE, _REGULAR = 0o170000, 0o100000


def bdwhereis() -> float:
    """Do what stands in sys.argv, and end the process; else the seconds that it took to see that this is for the long way."""
    return _go("bdwhereis", _look_up)


def bdctl() -> float:
    """The same for bdctl."""
    return _go("bdctl", _look)


def _go(program: str, work: "Callable[[list[str], float], Outcome | None]") -> float:
    started = monotonic()
    try:
        outcome = work(sys.argv[1:], started + TIMEOUT_SECONDS)
    except KeyboardInterrupt:
        outcome = INTERRUPTED, ""
    except Exception as error:
        outcome = _complaint(program, error)
    if outcome is not None:
        _end(program, *outcome)
    return monotonic() - started


def _complaint(program: str, error: Exception) -> "Outcome | None":
    """What is ours is said; for all else, of which there are many kinds, the long way finds the words."""
    from bdserver.errors import BDError

    if not isinstance(error, BDError):
        return None
    for line in str(error).splitlines():
        print(f"{program}: {line}", file=sys.stderr)
    return error.exit, ""


def _end(program: str, status: int, text: str) -> None:
    """End the process, without tidying up, which takes an eighth of all the time. As commands.output has it: whoever wants to
    read no more is no error."""
    try:
        if sys.stdout is not None:
            print(text, end="", flush=True)
    except BrokenPipeError:
        pass
    except OSError as error:
        print(f"{program}: standard output: {error.strerror}", file=sys.stderr)
        status = 2
    posix._exit(status)


# --- bdwhereis -----------------------------------------------------------------------------------------------------


def _look_up(arguments: "list[str]", deadline: float) -> "Outcome | None":
    given, words = _sorted(arguments)
    service = words[0] if len(words) == 1 else ""
    if not _is_plain_name(service):
        return None
    ask = _over_tls if "--node" in given else _locally
    said = ask(given, f'["WHEREIS","{service}",null]', deadline)
    if said is None:
        return None
    if said[0] == "CANTFIND":
        _check(said[1])
        from bdserver.errors import cant_find

        raise cant_find(service, said[1]["asked"])
    host, port, folder, details = said[:4]
    if not isinstance(host, str) or type(port) is not int or not isinstance(folder, str):
        return None
    _check(details)
    return 0, f"{_json_of(details) if '--json' in arguments else details['url']}\n"


def _check(details: "dict[str, Any]") -> None:
    """As core.fields.DETAILS has them, or any exception."""
    texts = [details["url"], details["node"], details["service"]]
    for each in details["asked"]:
        texts += [each["node"], each["answer"]]
    numbers = [type(details["phase"]), *(type(each["ms"]) for each in details["asked"])]
    if not all(isinstance(text, str) for text in texts) or numbers[0] is not int or not {int, float}.issuperset(numbers):
        raise ValueError
    if not texts[0].isprintable() or " " in texts[0]:  # a script takes it for one word
        raise ValueError


# --- bdctl ---------------------------------------------------------------------------------------------------------


def _look(arguments: "list[str]", deadline: float) -> "Outcome | None":
    given, words = _sorted(arguments)
    command = words[0] if len(words) == 1 else ""
    if command not in ("ping", "status", "nodes") or {"--node", "--keys"} & given.keys():
        return None
    if {*arguments[arguments.index(command) + 1 :]} - {"--json"}:  # an option of bdctl's own comes before its command
        return None
    started = monotonic()
    said = _locally(given, '["PING"]' if command == "ping" else '["STATUS"]', deadline)
    if said is None or said[0] != ("PONG" if command == "ping" else "STATUS"):
        return None
    from bdserver.commands import showing

    is_json = "--json" in arguments
    if command == "ping":
        shown = showing.pings([("this node", "PONG", monotonic() - started)], is_json)
    else:
        showing.check(said)
        shown = showing.status(said[1], is_json) if command == "status" else showing.nodes(said[1], said[2], time(), is_json)
    return 0, f"{_json_of(shown, 2)}\n" if is_json else "".join(f"{showing.visible(line)}\n" for line in shown)


# --- what is asked for ---------------------------------------------------------------------------------------------


def _sorted(arguments: "list[str]") -> "tuple[dict[str, str], list[str]]":
    """({option: its value}, the other words but --json); no words at all where an option lacks its value."""
    given: dict[str, str] = {}
    words = []
    left = iter(arguments)
    for word in left:
        if word in OPTIONS and word not in given:
            given[word] = next(left, "")
        elif word != "--json":
            words.append(word)
    return given, words if all(value and value[0] != "-" for value in given.values()) else []


def _socket_path(given: "dict[str, str]") -> "str | None":
    """As files.settings would have it; None when it has to be asked."""
    if "--socket" in given:
        return given["--socket"]
    config = given.get("--config") or _environment(b"BDSERVER_CONFIG") or DEFAULT_PATH
    if config == DEFAULT_PATH and not posix.access(config, posix.R_OK):
        return USUAL_SOCKET  # if there is none, the long way tells what is wrong with the config
    values = _values(_content(config))
    if values is None or not _is_plain_name(name := values["username"]):
        return None
    folder = _absolute(config, posix.getcwd()).rpartition("/")[0]
    var_dir = _absolute(values["var_dir"].replace("{username}", name), folder)
    path = _absolute(values["socket"].replace("{var_dir}", var_dir).replace("{username}", name), folder)
    return path if not {"", ".", ".."} & {*folder.split("/")[1:], *path.split("/")[1:]} else None


def _environment(name: bytes) -> str:
    return posix.environ.get(name, b"").decode(errors="surrogateescape")


def _content(path: str) -> bytes:
    """What stands in a regular file of a reasonable size; else nothing that could be read."""
    try:
        if posix.stat(path).st_mode & _FILE_TYPE == _REGULAR:
            with open(path, "rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
            if len(data) <= FILE_BYTES_MAX:
                return data
    except (OSError, ValueError):
        pass  # the long way says why
    return b"\0"


def _values(data: bytes) -> "dict[str, str] | None":
    """The settings that the socket's path is made of; None when a line is not as plain as KEY=VALUE."""
    found: dict[str, str] = {}
    for raw in data.splitlines():
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            return None
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if not line or line.startswith("#"):
            continue
        if not equals or not key or key in found or "\0" in line or not key.isascii():
            return None
        found[key] = value.strip()
    values = {key: found.get(key, default) for key, default in DEFAULTS.items()}
    return values if all(values.values()) else None


def _absolute(path: str, folder: str) -> str:
    return path if path.startswith("/") else f"{folder}/{path}"


def _is_plain_name(text: str) -> bool:
    """Whether core.names would surely take it."""
    is_short = 0 < len(text) <= NAME_CHARACTERS_MAX
    return is_short and _NAME_CHARACTERS.issuperset(text) and text[0] not in ".-" and not text.endswith(".bdcert")


def _address(text: str) -> "tuple[str, int] | None":
    """(host, port) of an IPv4 address in its canonical form; None for all else, which core.address has to look at."""
    host, colon, digits = text.partition(":")
    numbers = [_number(each, 255) for each in host.split(".")]
    port = _number(digits, PORT_MAX) if colon else PORT
    return (host, port) if port and len(numbers) == 4 and None not in numbers else None


def _number(digits: str, most: int) -> "int | None":
    """A whole number in its shortest form, from 0 to `most`."""
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= len(str(most)) else -1
    return number if 0 <= number <= most and digits == str(number) else None


# --- what is said --------------------------------------------------------------------------------------------------


def _locally(given: "dict[str, str]", request: str, deadline: float) -> "list[Any] | None":
    """The answer of this host's node; None, or nearly any exception, where the long way has to be gone."""
    path = None if "--keys" in given else _socket_path(given)
    if path is None:
        return None
    import _socket

    connection = _socket.socket(_socket.AF_UNIX)
    connection.settimeout(max(deadline - monotonic(), 0.001))
    connection.connect(path)
    return _asked(path, connection, request, deadline, "the time is over while waiting for an answer")


def _over_tls(given: "dict[str, str]", request: str, deadline: float) -> "list[Any] | None":
    """The answer of that one node; the same."""
    address, keys = _address(given["--node"]), given.get("--keys") or _environment(b"BDSERVER_KEYS")
    if address is None or not keys:
        return None
    from bdserver.net.onecall import Caller

    where = "{}:{}".format(*address)
    stream = Caller.load(keys, _is_plain_name).dial(*address, deadline)
    return _asked(where, stream, request, deadline, f"{where}: did not answer in time")


def _asked(where: str, connection: "Any", request: str, deadline: float, too_late: str) -> "list[Any] | None":
    """The answer on a connection; BDError when it is an error or comes too late."""
    left = round(max(deadline - monotonic(), 0.0), 3)
    opening = f'["OPEN",{{"version":{VERSION},"oldest":{OLDEST},"deadline":{left}}}]'
    connection.sendall(_frame(opening) + _frame(request))

    def receive() -> bytes:
        connection.settimeout(max(deadline - monotonic(), 0.001))
        return connection.recv(CHUNK_BYTES)  # type: ignore[no-any-return]

    try:
        said = _answer(receive)
    except TimeoutError:
        from bdserver.errors import Deadline

        raise Deadline(too_late) from None
    if said and said[0] == "ERROR":
        _, code, text = said[:3]
        from bdserver.errors import from_wire

        raise from_wire(code, f"{where}: {text}") if isinstance(code, str) and isinstance(text, str) else ValueError
    return said


def _frame(text: str) -> bytes:
    return len(text).to_bytes(4, "big") + b"\0" + text.encode()


def _answer(receive: "Callable[[], bytes]") -> "list[Any] | None":
    """The message in what `receive()` gives bit by bit, if it is a list."""
    data, end = b"", HEADER_BYTES
    while len(data) < end:
        more = receive()
        data += more
        if len(data) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(data[:4], "big")
        if not more or end > FRAME_BYTES_MAX:
            return None
    text, flags = data[HEADER_BYTES:end], data[4]
    text = _inflated(text) if flags == 1 else text
    said = _decoded(text.decode()) if flags <= 1 and b"\\u" not in text else None
    return said if isinstance(said, list) and said else None


def _inflated(text: bytes) -> bytes:
    from zlib import decompressobj

    inflater = decompressobj()
    text = inflater.decompress(text, MESSAGE_BYTES_MAX)
    return text if inflater.eof else b""


class _Rules:
    """What json's scanner, which is compiled, has to be told."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, int  # int("NaN") is an error


def _decoded(text: str) -> object:
    from _json import make_scanner

    value, end = make_scanner(_Rules)(text, 0)  # type: ignore[arg-type]
    return value if end == len(text) else None


def _json_of(value: object, indent: "int | None" = None) -> str:
    import json

    return json.dumps(value, indent=indent)
