"""The one table of settings: KEY=VALUE in, values and FILE:LINE complaints out.

Parsing, `bdserverd --check`, the sample config, bdserverd.conf(5) and what SIGHUP may change all come from SETTINGS.
`bdwhereis` reads a config for each lookup: nothing heavy is imported here. What a value means is its user's business.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import namedtuple

from bdserver.core.names import valid_name
from bdserver.core.wire import OLDEST, VERSION
from bdserver.errors import BadConfig, BDError, NoSpace

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PATH = "/etc/bdserver/bdserverd.conf"
# A config of a thousand hints is 30 KB; whatever is larger is no config, and must not be read whole to find out.
FILE_BYTES_MAX = 1 << 20
# Of a wrong value or line, this much is shown in a complaint.
SHOWN_CHARACTERS_MAX = 60

Setting = namedtuple("Setting", "name kind default meaning reloadable")
Kind = namedtuple("Kind", "read write words")


def default_path() -> str:
    """$BDSERVER_CONFIG, else /etc/bdserver/bdserverd.conf."""
    return os.environ.get("BDSERVER_CONFIG") or DEFAULT_PATH


# --- kinds of values ----------------------------------------------------------------------------------------------


# What int() and float() take besides is no number to a person: 1_000, "１", inf, nan.
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_OCTAL = re.compile(r"[0-7]{1,5}", re.ASCII)
_FILLED_IN = ("{host}", "{axis_port}", "{axis_web_dir}", "{service}")


def decimal(text: str) -> float:
    """A number as a person writes it; ValueError for everything else that float() takes."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text[:SHOWN_CHARACTERS_MAX]!r} is no number")
    return float(text)


def _whole(least, most):
    def read(text):
        if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return Kind(read, str, f"a whole number from {least} to {most}")


def _above_zero(most, words):
    def read(text):
        value = decimal(text)
        if not 0 < value <= most:
            raise ValueError
        return value

    return Kind(read, _shortest, words)


def _shortest(number):
    return repr(number).removesuffix(".0")


def _one_of(*values):
    def read(text):
        if text.lower() not in values:
            raise ValueError
        return text.lower()

    return Kind(read, str, " or ".join(values))


def _read_text(text):
    if not text.isprintable():
        raise ValueError
    return text


def _read_path(text):
    if not text:
        raise ValueError
    return text


def _read_name(text):
    if not valid_name(text):
        raise ValueError
    return text


def _read_account(text):
    if not text.isprintable() or " " in text or ":" in text:
        raise ValueError
    return text


def _read_url_part(text):
    if not text.isprintable() or any(character in text for character in ' "<>\\'):
        raise ValueError
    return text


def _read_log_format(text):
    from bdserver.files.accesslog import pattern

    pattern(text)
    return text


def _read_template(text):
    rest = _read_url_part(text)
    for name in _FILLED_IN:
        rest = rest.replace(name, "")
    if "{" in rest or "}" in rest or (text and "://" not in rest):
        raise ValueError
    return text


def _read_advertise(text):
    """HOST or HOST:PORT in canonical form; without a port it stays without: the node's own is meant."""
    from bdserver.core.address import join_address, split_address

    if not text:
        return text
    host, port = split_address(text, 1)
    return host if port != split_address(text, 2)[1] else join_address(host, port)


def _read_addresses(text):
    from bdserver.core.address import join_address, split_address

    return tuple(join_address(*split_address(each)) for each in text.replace(",", " ").split())


def _read_hosts(text):
    from bdserver.core.address import split_address

    return tuple(split_address(each, 1)[0] for each in text.replace(",", " ").split())


def _read_octal(text):
    if not _OCTAL.fullmatch(text) or int(text, 8) > 0o777:
        raise ValueError
    return int(text, 8)


def _read_password(text):
    if text.startswith("scrypt$"):
        from bdserver.files.password import is_hash

        if not is_hash(text):
            raise ValueError
    return _read_text(text)


TEMPLATE = Kind(_read_template, str, "a URL in which only {host} {axis_port} {axis_web_dir} {service} are filled in")
LOG_FORMAT = Kind(_read_log_format, str, "common, combined, or a LogFormat of Apache's with %r or %U")
URL_PATH = Kind(_read_url_part, str, "a path in URLs")
ACCOUNT = Kind(_read_account, str, "the name of a user or group")
PASSWORD = Kind(_read_password, str, "a text, or a whole hash as bdctl password prints it")
PATH = Kind(_read_path, str, "a path")
PATH_OR_NONE = Kind(str, str, "a path, or empty")
NAME = Kind(_read_name, str, "1 to 100 of letters, digits and ._- that does not begin with . or -")
PORT = _whole(1, 65535)
COUNT = _whole(0, 10**12)
# A day: whoever writes more has mistaken the unit.
SECONDS = _above_zero(86400, "a number of seconds above 0, up to 86400")
ABOVE_ZERO = _above_zero(1e12, "a number above 0")
HOSTS = Kind(_read_hosts, " ".join, "addresses, separated by blanks")
ADDRESSES = Kind(_read_addresses, " ".join, "HOST:PORT, several separated by blanks")
ADVERTISE = Kind(_read_advertise, str, "HOST or HOST:PORT")
OCTAL = Kind(_read_octal, "{:04o}".format, "an octal file mode up to 0777")

# --- the table ----------------------------------------------------------------------------------------------------

# In paths, {var_dir} and {username} stand for those settings, in defaults as in a config.
SETTINGS = (
    Setting("port", PORT, 9001, "The port of this node, for the mesh and for clients over TLS.", False),
    Setting("username", NAME, "bdserver", "Names this node's files: USERNAME.key, .crt, .bdcache, .sock, .pid.", False),
    Setting("services_dir", PATH, "{var_dir}/services", "Where services lie: inside the web server's tree.", False),
    Setting("graveyard_dir", PATH, "{var_dir}/graveyard", "Where withdrawn services and retired replicas go.", False),
    Setting("service_log_dir", PATH, "{var_dir}/log", "Where hits are logged, a file a service.", False),
    Setting("receiver_threshold", ABOVE_ZERO, 100.0, "The weight above which this node is overloaded (RT).", True),
    Setting("max_dynamic", COUNT, 5, "How many replicas this node takes; 0 takes none.", True),
    Setting("axis_port", PORT, 8080, "The port of the web server that serves services_dir.", True),
    Setting("axis_web_dir", URL_PATH, "axis", "The path at which it serves it.", True),
    Setting("service_url", TEMPLATE, "", "URLs of services here; empty: the original's form, as below.", True),
    Setting("admin_password", PASSWORD, "", "Lets who knows it KILL this node; a hash by bdctl password. Empty: none.", True),
    Setting("backlog", _whole(1, 65535), 128, "Connections that may wait to be accepted.", False),
    Setting("bind", HOSTS, (), "Addresses to listen on; empty: all.", False),
    Setting("advertise", ADVERTISE, "", "HOST or HOST:PORT by which others reach this node; empty: the obvious.", False),
    Setting("hints", ADDRESSES, (), "Nodes to join; this node itself among them does no harm.", True),
    Setting("key_dir", PATH, ".", "Where USERNAME.key, USERNAME.crt and ca.crt lie.", False),
    Setting("var_dir", PATH, "var", "Where this node keeps its cache and, unless told, all else.", False),
    Setting("ws_policy", PATH_OR_NONE, "", "This node's WS-Policy document; empty: talk to everyone.", True),
    Setting("black_list", PATH_OR_NONE, "", "A file of addresses that are closed unread and never called.", True),
    Setting("revoked", PATH_OR_NONE, "", "A file of certificates that are refused: NAME or serial HEX, one a line.", True),
    Setting("policy_mode", _one_of("lax", "strict"), "lax", "How policies are intersected (wsp:Ignorable).", True),
    Setting(
        "routing",
        _one_of("measured", "original"),
        "measured",
        "Whom to ask first: of two holders the one with the lower load, or, as in 2006, any.",
        True,
    ),
    Setting("socket", PATH, "{var_dir}/run/{username}.sock", "The local socket for bdwhereis and bdctl.", False),
    Setting("socket_mode", OCTAL, 0o666, "Who may look up through it; only root and this user administer.", False),
    Setting("pid_file", PATH, "{var_dir}/run/{username}.pid", "Locked as long as the listener lives.", False),
    Setting("user", ACCOUNT, "", "Whom to become after the start as root; empty: stay.", False),
    Setting("group", ACCOUNT, "", "With user; empty: that user's group.", False),
    Setting("log_level", _one_of("debug", "info", "warning", "error"), "info", "What is worth a line.", True),
    Setting("log_file", PATH_OR_NONE, "", "Log of the background daemon; empty: syslog.", False),
    Setting("access_log", PATH_OR_NONE, "", "The web server's log, from which hits are counted; empty: as nodes agree.", True),
    Setting("access_log_format", LOG_FORMAT, "combined", "Its format: common, combined, or Apache's LogFormat.", True),
    Setting("max_children", _whole(1, 100000), 512, "Connections served at once.", False),
    Setting("max_children_per_address", _whole(1, 100000), 64, "The same, from one address.", False),
    Setting("idle_timeout", SECONDS, 60.0, "How long a connection may be idle.", True),
    Setting("request_timeout", SECONDS, 5.0, "How long a request may take whose caller gives no deadline.", True),
    Setting("probe_interval", SECONDS, 1.0, "Another node is probed this often.", False),
    Setting("round_min", SECONDS, 10.0, "The shortest pause between rounds of synchronising.", False),
    Setting("round_max", SECONDS, 30.0, "The pause between rounds at full weight.", False),
    Setting(
        "protocol", _whole(OLDEST, VERSION), VERSION, "The version spoken: an older one while a mesh is rolled back.", False
    ),
    Setting("package_bytes_max", COUNT, 64 << 20, "The largest service that is copied, packed.", True),
    Setting("package_files_max", COUNT, 1000, "The most files of a service that is copied.", True),
    Setting("hit_log_bytes", COUNT, 1 << 20, "A hit log larger than this is trimmed to what counts.", True),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
_PATHS = tuple(setting.name for setting in SETTINGS if setting.kind in (PATH, PATH_OR_NONE))


class Settings:
    """A node's settings as attributes; `path` is the file they come from, `folder` where relative paths begin."""

    def __init__(self, path: str, values: dict):
        self.path = os.path.abspath(path)
        self.folder = os.path.dirname(self.path)
        self.given = dict(values)
        for setting in SETTINGS:
            setattr(self, setting.name, values.get(setting.name, setting.default))
        self._complete()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def _complete(self) -> None:
        """Make paths absolute, and fill in what follows other settings: var_dir first."""
        self.var_dir: str = self._absolute(self.given.get("var_dir", BY_NAME["var_dir"].default))
        for name in _PATHS:
            value = getattr(self, name)
            if value:
                setattr(self, name, self._absolute(value.replace("{var_dir}", self.var_dir)))

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.folder, path.replace("{username}", self.username)))

    def with_reloadable(self, fresh: Settings) -> Settings:
        """These settings, with what SIGHUP may change taken from `fresh`."""
        values = dict(self.given)
        for setting in SETTINGS:
            if setting.reloadable:
                values.pop(setting.name, None)
                if setting.name in fresh.given:
                    values[setting.name] = fresh.given[setting.name]
        return Settings(self.path, values)


def load(path: str) -> Settings:
    """Read a config; BadConfig has one `FILE:LINE: …` line for each thing that is wrong."""
    values, lines, complaints, mode = read_values(path, BY_NAME)
    if values.get("admin_password") and mode & 0o077:
        number = lines["admin_password"]
        complaints.append(f"{path}:{number}: others can read this file and its admin_password: chmod 600 {path}")
    if complaints:
        raise BadConfig("\n".join(complaints))
    settings = Settings(path, values)
    if settings.round_min > settings.round_max:
        number = max(lines.get("round_min", 0), lines.get("round_max", 0))
        raise BadConfig(f"{path}:{number}: round_min={settings.round_min:g} is above round_max={settings.round_max:g}")
    return settings


def read_values(path: str, table: dict[str, Setting]) -> tuple[dict, dict[str, int], list[str], int]:
    """({key: value}, {key: line}, complaints, file mode) of a KEY=VALUE file by a table of settings."""
    values: dict = {}
    lines: dict[str, int] = {}
    complaints = []
    data, mode = _read_file(path)
    for number, key, text, complaint in _parsed(data):
        complaint = complaint or _take(table, values, lines, number, key, text)
        if complaint:
            complaints.append(f"{path}:{number}: {complaint}")
    return values, lines, complaints, mode


def _take(table: dict, values: dict, lines: dict, number: int, key: str, text: str) -> str | None:
    """One line into `values`; else what is wrong with it."""
    setting = table.get(key)
    if setting is None:
        return f"unknown key {key[:SHOWN_CHARACTERS_MAX]!r}{_nearest(key, table)}"
    if key in lines:
        return f"{key} was set in line {lines[key]} already"
    lines[key] = number
    try:
        values[key] = setting.kind.read(text)
    except (ValueError, BDError) as error:
        shown = "" if setting.kind is PASSWORD else f"={text[:SHOWN_CHARACTERS_MAX]!r}"
        reason = f" ({error})" if isinstance(error, BDError) else ""
        return f"{key}{shown} must be {setting.kind.words}{reason}"
    return None


def _nearest(key: str, table: dict) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, table, 1)
    return f" (did you mean {close[0]}?)" if close else ""


# --- KEY=VALUE ----------------------------------------------------------------------------------------------------


def read_pairs(path: str) -> list[tuple[int, str, str]]:
    """(line, key, value) of a KEY=VALUE file: `#` comments, keys in lower case, values as they are.

    BadConfig has one `FILE:LINE: …` line for each line that is something else."""
    parsed = list(_parsed(_read_file(path)[0]))
    complaints = [f"{path}:{number}: {complaint}" for number, _, _, complaint in parsed if complaint]
    if complaints:
        raise BadConfig("\n".join(complaints))
    return [(number, key, value) for number, key, value, _ in parsed]


def _read_file(path: str) -> tuple[bytes, int]:
    """Content and mode of a regular file. A pipe or device of that name would keep us waiting for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise BadConfig(f"{path}: not a regular file")
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(FILE_BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    except ValueError:
        raise BadConfig(f"{path!r}: no file can have this name") from None
    if len(data) > FILE_BYTES_MAX:
        raise BadConfig(f"{path}: larger than {FILE_BYTES_MAX} bytes")
    return data, mode


def _parsed(data: bytes):
    """(line, key, value, complaint or None) of every line that is neither blank nor comment."""
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            yield number, "", "", "not UTF-8 text"
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if "\0" in line:
            yield number, "", "", "a NUL byte"
        elif line and not line.startswith("#"):
            is_pair = equals and key
            yield number, key.lower(), value, None if is_pair else f"not KEY=VALUE: {line[:SHOWN_CHARACTERS_MAX]!r}"


def write_pairs(path: str, pairs) -> None:
    """Write a KEY=VALUE file so that it is there whole or not at all. NoSpace when the disk does not take it;
    BadConfig for a pair that would not be read back the same."""
    folder, name = os.path.split(path)
    folder = folder or "."
    data = _written(path, list(pairs))
    new = os.path.join(folder, f".{name}.new.{os.getpid()}")  # a dot: web servers and we ourselves pass over it
    try:
        _write_durably(new, data)
        os.replace(new, path)
        _sync_folder(folder)
    except OSError as error:
        _unlink_if_there(new)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{path}: {error.strerror}") from None
        raise


def _written(path: str, pairs: list) -> bytes:
    for key, value in pairs:
        try:
            data = f"{key}={value}\n".encode()
        except UnicodeEncodeError:
            data = b""
        if list(_parsed(data)) != [(1, key, value, None)]:
            raise BadConfig(f"{path}: {key[:SHOWN_CHARACTERS_MAX]!r} has a value that a KEY=VALUE line can't hold")
    return "".join(f"{key}={value}\n" for key, value in pairs).encode()


def _write_durably(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # it was never made, or its disk is beyond our help: the caller gets the first error
        pass


# --- what is made from the table ----------------------------------------------------------------------------------


def effective(settings: Settings) -> str:
    """All settings as a config that loads to the same values."""
    return "".join(f"{each.name}={each.kind.write(getattr(settings, each.name))}\n" for each in SETTINGS)


def sample() -> str:
    """The sample config: every setting at its default, commented out, with its meaning."""
    return written_sample(SAMPLE_HEAD, SETTINGS)


def written_sample(head: str, table: tuple[Setting, ...]) -> str:
    """A sample config of any such table."""
    blocks = [head]
    for each in table:
        reload_note = " SIGHUP changes it." if each.reloadable else ""
        value = each.kind.write(each.default) if not isinstance(each.default, str) else each.default
        blocks.append(f"# {each.meaning}{reload_note}\n# ({each.kind.words})\n#{each.name}={value}\n")
    return "\n".join(blocks)


SAMPLE_HEAD = """\
# bdserverd.conf: KEY=VALUE, one a line. What is commented out is the default.
# A # begins a comment at the beginning of a line only; values may hold it, and another = too.
# A relative path begins at this file's folder; in paths, {var_dir} and {username} stand for those settings.
# Made from the table in bdserver/files/settings.py; see bdserverd.conf(5).
# service_url's default is http://{host}:{axis_port}/{axis_web_dir}/{service}?wsdl
"""
