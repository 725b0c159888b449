"""The one table of settings: KEY=VALUE in, values and FILE:LINE complaints out.

Parsing, `bdserverd --check`, the sample config, bdserverd.conf(5) and what SIGHUP may change all come from SETTINGS.
`bdwhereis` reads a config for each lookup: nothing heavy is imported here. What a value means is its user's business.
"""

from __future__ import annotations

import os
from collections import namedtuple

from bdserver.core.names import valid_name
from bdserver.errors import BadConfig, BDError

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PATH = "/etc/bdserver/bdserverd.conf"
FILE_BYTES_MAX = 1 << 20

Setting = namedtuple("Setting", "name kind default meaning reloadable")
Kind = namedtuple("Kind", "read write words")


def default_path() -> str:
    """$BDSERVER_CONFIG, else /etc/bdserver/bdserverd.conf."""
    return os.environ.get("BDSERVER_CONFIG", DEFAULT_PATH)


# --- kinds of values ----------------------------------------------------------------------------------------------


def _whole(least, most):
    def read(text):
        if not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
            raise ValueError
        return int(text)

    return Kind(read, str, f"a whole number from {least} to {most}")


def _number(least, words):
    def read(text):
        value = float(text)
        if not least < value < 1e12:
            raise ValueError
        return value

    return Kind(read, "{:g}".format, words)


def _one_of(*values):
    def read(text):
        if text.lower() not in values:
            raise ValueError
        return text.lower()

    return Kind(read, str, " or ".join(values))


def _read_name(text):
    if not valid_name(text):
        raise ValueError
    return text


def _read_addresses(text):
    from bdserver.core.address import join_address, split_address

    try:
        return tuple(join_address(*split_address(each)) for each in text.replace(",", " ").split())
    except BDError as error:
        raise ValueError(str(error)) from None


def _read_hosts(text):
    from bdserver.core.address import split_address

    try:
        return tuple(split_address(each, 1)[0] for each in text.replace(",", " ").split())
    except BDError as error:
        raise ValueError(str(error)) from None


def _read_octal(text):
    value = int(text, 8)
    if not 0 <= value <= 0o777:
        raise ValueError
    return value


TEXT = Kind(str, str, "a text")
PATH = Kind(str, str, "a path; a relative one begins at this file's folder")
NAME = Kind(_read_name, str, "1 to 100 of letters, digits and ._- that does not begin with . or -")
PORT = _whole(1, 65535)
COUNT = _whole(0, 10**9)
SECONDS = _number(0, "a number of seconds above 0")
ABOVE_ZERO = _number(0, "a number above 0")
HOSTS = Kind(_read_hosts, " ".join, "addresses, separated by blanks")
ADDRESSES = Kind(_read_addresses, " ".join, "HOST:PORT, several separated by blanks")
OCTAL = Kind(_read_octal, "{:04o}".format, "an octal file mode")

# --- the table ----------------------------------------------------------------------------------------------------

# A default that begins with {…} follows another setting.
SETTINGS = (
    Setting("port", PORT, 9001, "The port of this node, for the mesh and for clients over TLS.", False),
    Setting("username", NAME, "bdserver", "Names this node's files: USERNAME.key, .crt, .bdcache, .sock, .pid.", False),
    Setting("services_dir", PATH, "{var_dir}/services", "Where services lie: inside the web server's tree.", False),
    Setting("graveyard_dir", PATH, "{var_dir}/graveyard", "Where withdrawn services and retired replicas go.", False),
    Setting("service_log_dir", PATH, "{var_dir}/log", "Where hits are logged, a file a service.", False),
    Setting("receiver_threshold", ABOVE_ZERO, 100.0, "The weight above which this node is overloaded (RT).", True),
    Setting("max_dynamic", COUNT, 5, "How many replicas this node takes; 0 takes none.", True),
    Setting("axis_port", PORT, 8080, "The port of the web server that serves services_dir.", True),
    Setting("axis_web_dir", TEXT, "axis", "The path at which it serves it.", True),
    Setting("service_url", TEXT, "", "URLs of services here; empty: the original's form, as below.", True),
    Setting("admin_password", TEXT, "", "Lets who knows it KILL this node; a hash by bdctl password. Empty: none.", True),
    Setting("backlog", _whole(1, 65535), 128, "Connections that may wait to be accepted.", False),
    Setting("bind", HOSTS, (), "Addresses to listen on; empty: all.", False),
    Setting("advertise", TEXT, "", "HOST or HOST:PORT by which others reach this node; empty: the obvious.", False),
    Setting("hints", ADDRESSES, (), "Nodes to join; this node itself among them does no harm.", True),
    Setting("key_dir", PATH, ".", "Where USERNAME.key, USERNAME.crt and ca.crt lie.", False),
    Setting("var_dir", PATH, "var", "Where this node keeps its cache and, unless told, all else.", False),
    Setting("ws_policy", PATH, "", "This node's WS-Policy document; empty: talk to everyone.", True),
    Setting("black_list", PATH, "", "A file of addresses that are closed unread and never called.", True),
    Setting("policy_mode", _one_of("lax", "strict"), "lax", "How policies are intersected (wsp:Ignorable).", True),
    Setting("socket", PATH, "{var_dir}/run/{username}.sock", "The local socket for bdwhereis and bdctl.", False),
    Setting("socket_mode", OCTAL, 0o666, "Who may look up through it; only root and this user administer.", False),
    Setting("pid_file", PATH, "{var_dir}/run/{username}.pid", "Locked as long as the listener lives.", False),
    Setting("user", TEXT, "", "Whom to become after the start as root; empty: stay.", False),
    Setting("group", TEXT, "", "With user; empty: that user's group.", False),
    Setting("log_level", _one_of("debug", "info", "warning", "error"), "info", "What is worth a line.", True),
    Setting("log_file", PATH, "", "Log of the background daemon; empty: syslog.", False),
    Setting("max_children", _whole(1, 100000), 512, "Connections served at once.", False),
    Setting("max_children_per_address", _whole(1, 100000), 64, "The same, from one address.", False),
    Setting("idle_timeout", SECONDS, 60.0, "How long a connection may be idle.", True),
    Setting("request_timeout", SECONDS, 5.0, "How long a request may take whose caller gives no deadline.", True),
    Setting("probe_interval", SECONDS, 1.0, "Another node is probed this often.", False),
    Setting("round_min", SECONDS, 10.0, "The shortest pause between rounds of synchronising.", False),
    Setting("round_max", SECONDS, 30.0, "The pause between rounds at full weight.", False),
    Setting("package_bytes_max", COUNT, 64 << 20, "The largest service that is copied, packed.", True),
    Setting("package_files_max", COUNT, 1000, "The most files of a service that is copied.", True),
    Setting("hit_log_bytes", COUNT, 1 << 20, "A hit log larger than this is trimmed to what counts.", True),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
_PATHS = tuple(setting.name for setting in SETTINGS if setting.kind is PATH)


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
        """Make paths absolute and fill in the defaults that follow others."""
        self.var_dir: str = os.path.join(self.folder, self.given.get("var_dir", BY_NAME["var_dir"].default))
        for name in _PATHS:
            value = getattr(self, name)
            if value:
                filled = value.replace("{var_dir}", self.var_dir).replace("{username}", self.username)
                setattr(self, name, os.path.normpath(os.path.join(self.folder, filled)))

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
    values: dict = {}
    lines: dict = {}
    complaints = []
    for number, key, text in read_pairs(path):
        setting = BY_NAME.get(key)
        if setting is None:
            complaints.append(f"{path}:{number}: unknown key {key!r}{_nearest(key)}")
        elif key in lines:
            complaints.append(f"{path}:{number}: {key} was set in line {lines[key]} already")
        else:
            lines[key] = number
            try:
                values[key] = setting.kind.read(text)
            except ValueError:
                complaints.append(f"{path}:{number}: {key}={text!r} must be {setting.kind.words}")
    if values.get("admin_password") and os.stat(path).st_mode & 0o077:
        complaints.append(
            f"{path}:{lines['admin_password']}: others can read this file and its admin_password: chmod 600 {path}"
        )
    if complaints:
        raise BadConfig("\n".join(complaints))
    return Settings(path, values)


def _nearest(key: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, BY_NAME, 1)
    return f" (did you mean {close[0]}?)" if close else ""


# --- KEY=VALUE ----------------------------------------------------------------------------------------------------


def read_pairs(path: str) -> list[tuple[int, str, str]]:
    """(line, key, value) of a KEY=VALUE file: `#` comments, keys in lower case, values as they are; BadConfig."""
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise BadConfig(f"{path}: larger than {FILE_BYTES_MAX} bytes")
    pairs = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            raise BadConfig(f"{path}:{number}: not UTF-8 text") from None
        if "\0" in line:
            raise BadConfig(f"{path}:{number}: a NUL byte")
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise BadConfig(f"{path}:{number}: not KEY=VALUE: {line[:60]!r}")
        pairs.append((number, key.strip().lower(), value.strip()))
    return pairs


def write_pairs(path: str, pairs) -> None:
    """Write a KEY=VALUE file so that it is there whole or not at all."""
    new = f"{path}.new.{os.getpid()}"
    try:
        with open(new, "w", encoding="utf-8") as file:
            file.writelines(f"{key}={value}\n" for key, value in pairs)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        if os.path.exists(new):
            os.unlink(new)
        raise
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# --- what is made from the table ----------------------------------------------------------------------------------


def effective(settings: Settings) -> str:
    """All settings as a config that loads to the same values."""
    return "".join(f"{each.name}={each.kind.write(getattr(settings, each.name))}\n" for each in SETTINGS)


def sample() -> str:
    """The sample config: every setting at its default, commented out, with its meaning."""
    blocks = [SAMPLE_HEAD]
    for each in SETTINGS:
        reload_note = " SIGHUP changes it." if each.reloadable else ""
        value = each.kind.write(each.default) if not isinstance(each.default, str) else each.default
        blocks.append(f"# {each.meaning}{reload_note}\n# ({each.kind.words})\n#{each.name}={value}\n")
    return "\n".join(blocks)


SAMPLE_HEAD = """\
# bdserverd.conf: KEY=VALUE, one a line. What is commented out is the default.
# Made from the table in bdserver/settings.py; see bdserverd.conf(5).
# service_url's default is http://{host}:{axis_port}/{axis_web_dir}/{service}?wsdl
"""
