"""The one table of settings: KEY=VALUE in, values and FILE:LINE complaints out.

Parsing, `bdserverd --check`, the sample config, bdserverd.conf(5) and what SIGHUP may change all come from SETTINGS.
Settings in force are a value that is replaced, never changed: nobody sees half of a SIGHUP. A part of the node that keeps what
it made of one compares it with those in force; the column `applied_by` says which part that is. `bdwhereis` reads a config
for each lookup: nothing heavy is imported here. What a value means is its user's business.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from types import MappingProxyType

from bdserver.core.names import valid_name
from bdserver.core.tuples import NamedTuple
from bdserver.core.wire import OLDEST, VERSION
from bdserver.errors import BadConfig, BDError
from bdserver.files import lines, pairs
from bdserver.files.lines import SHOWN_CHARACTERS_MAX

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

DEFAULT_PATH = "/etc/bdserver/bdserverd.conf"
# Where the local node is found by those who may not read its config: its socket, or a link to it.
USUAL_SOCKET = "/run/bdserver/bdserver.sock"
# Of `web`: our own web server serves services_dir.
EMBEDDED = "embedded"
# The port of a node, where nobody says another one.
USUAL_PORT = 9001


class AppliedBy(StrEnum):
    """Who makes a change of a setting count when SIGHUP comes; "" when nobody does, and the node must be started anew."""

    NOBODY = ""
    NODE = "node"  # nobody keeps it: it is read at each use from the settings in force
    FILES = "files"  # the node reads the file that it names, anew
    DISCOVERER = "discoverer"
    LOG = "log"  # each process sets its own logger's level
    GATEWAY = "gateway"  # of bdgateway's own settings, its faces


class Kind(NamedTuple):
    """How a value is read from its text (ValueError or BDError when it can't be) and written, and what it must be."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]
    words: str


class Setting(NamedTuple):
    """A row of the table."""

    name: str
    kind: Kind
    default: Any
    meaning: str
    applied_by: AppliedBy = AppliedBy.NOBODY

    @property
    def reloadable(self) -> bool:
        """Whether SIGHUP changes it."""
        return bool(self.applied_by)


def default_path() -> str:
    """$BDSERVER_CONFIG, else /etc/bdserver/bdserverd.conf."""
    return os.environ.get("BDSERVER_CONFIG") or DEFAULT_PATH


def local_socket(config: str | None) -> str:
    """The socket of this host's node: as its config says; at the usual place where an account may not read the usual config.
    While the node runs on, what else is wrong with the config is no obstacle."""
    path = config or default_path()
    if path == DEFAULT_PATH and not os.access(path, os.R_OK) and os.path.exists(USUAL_SOCKET):
        return USUAL_SOCKET
    if path == DEFAULT_PATH and not os.path.lexists(path):
        raise BadConfig(f"{path}: No such file or directory (this host is no node yet: bdkeys join; --node HOST asks another)")
    values, at, complaints, _ = read_values(path, BY_NAME)
    found = Settings(path, values).socket
    is_sure = all(key in values for key in _OF_SOCKET if key in at)
    if complaints and not (is_sure and os.path.exists(found)):
        raise BadConfig("\n".join(complaints))
    return found


# The settings that the socket's path is made of.
_OF_SOCKET = ("username", "var_dir", "socket")


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


def _whole(least: int, most: int) -> Kind:
    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return Kind(read, str, f"a whole number from {least} to {most}")


def _above_zero(most: float, words: str) -> Kind:
    return _seconds(lambda value: 0 < value <= most, words)


def _seconds(is_right: Callable[[float], bool], words: str) -> Kind:
    def read(text: str) -> float:
        value = decimal(text)
        if not is_right(value):
            raise ValueError
        return value

    return Kind(read, _shortest, words)


# As in core.membership: others would not take a record with longer ones.
WEB_DIR_CHARACTERS_MAX, URL_CHARACTERS_MAX = 500, 2000


def _shortest(number: float) -> str:
    return repr(number).removesuffix(".0")


def _one_of(*values: str) -> Kind:
    def read(text: str) -> str:
        if text.lower() not in values:
            raise ValueError
        return text.lower()

    return Kind(read, str, " or ".join(values))


def _read_text(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _read_path(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _read_name(text: str) -> str:
    if not valid_name(text):
        raise ValueError
    return text


def _read_account(text: str) -> str:
    if not text.isprintable() or " " in text or ":" in text:
        raise ValueError
    return text


def _read_url_part(text: str) -> str:
    from bdserver.core.urls import is_part

    if not is_part(text):
        raise ValueError
    return text


def _read_log_format(text: str) -> str:
    from bdserver.files.accesslog import pattern

    pattern(text)
    return text


def _read_url_path(text: str) -> str:
    if len(text) > WEB_DIR_CHARACTERS_MAX:
        raise ValueError
    return _read_url_part(text)


def _read_template(text: str) -> str:
    if len(text) > URL_CHARACTERS_MAX:
        raise ValueError
    rest = _read_url_part(text)
    for name in _FILLED_IN:
        rest = rest.replace(name, "")
    from bdserver.core.urls import is_url

    if "{" in rest or "}" in rest or (text and not is_url(text)):
        raise ValueError
    return text


def _read_advertise(text: str) -> str:
    """HOST or HOST:PORT in canonical form; without a port it stays without: the node's own is meant."""
    from bdserver.core.address import join_address, split_address

    if not text:
        return text
    host, port = split_address(text, 1)
    return host if port != split_address(text, 2)[1] else join_address(host, port)


def _read_addresses(text: str) -> tuple[str, ...]:
    from bdserver.core.address import join_address, split_address

    return tuple(join_address(*split_address(each)) for each in text.replace(",", " ").split())


def _read_nodes(text: str) -> tuple[str, ...]:
    """As a person names nodes: the usual port may be left out."""
    from bdserver.core.address import join_address, split_address

    return tuple(join_address(*split_address(each, USUAL_PORT)) for each in text.replace(",", " ").split())


def _read_hosts(text: str) -> tuple[str, ...]:
    from bdserver.core.address import split_address

    return tuple(split_address(each, 1)[0] for each in text.replace(",", " ").split())


def _read_octal(text: str) -> int:
    if not _OCTAL.fullmatch(text) or int(text, 8) > 0o777:
        raise ValueError
    return int(text, 8)


def _read_password(text: str) -> str:
    if text.startswith("scrypt$"):
        from bdserver.files.password import is_hash

        if not is_hash(text):
            raise ValueError
    return _read_text(text)


TEMPLATE = Kind(
    _read_template,
    str,
    f"a URL of up to {URL_CHARACTERS_MAX} characters, in which only {{host}} {{axis_port}} {{axis_web_dir}} {{service}} are "
    "filled in",
)
LOG_FORMAT = Kind(_read_log_format, str, "common, combined, or a LogFormat of Apache's with %r or %U")
URL_PATH = Kind(_read_url_path, str, f"a path in URLs, of up to {WEB_DIR_CHARACTERS_MAX} characters")
ACCOUNT = Kind(_read_account, str, "the name of a user or group")
PASSWORD = Kind(_read_password, str, "a text, or a whole hash as bdctl password prints it")
PATH = Kind(_read_path, str, "a path")
PATH_OR_NONE = Kind(str, str, "a path, or empty")
NAME = Kind(_read_name, str, "1 to 100 of letters, digits and ._- that does not begin with . or -")
PORT = _whole(1, 65535)
COUNT = _whole(0, 10**12)
# A day: somebody who writes more has mistaken the unit.
SECONDS_OR_NEVER = _seconds(lambda value: 0 <= value <= 10**7, "a number of seconds, or 0 for never")
SECONDS = _above_zero(86400, "a number of seconds above 0, up to 86400")
ABOVE_ZERO = _above_zero(1e12, "a number above 0")
HOSTS = Kind(_read_hosts, " ".join, "addresses, separated by blanks")
ADDRESSES = Kind(_read_addresses, " ".join, "HOST:PORT, several separated by blanks")
NODES = Kind(_read_nodes, " ".join, f"HOST or HOST:PORT (port: {USUAL_PORT}), several separated by blanks")
ADVERTISE = Kind(_read_advertise, str, "HOST or HOST:PORT")
OCTAL = Kind(_read_octal, "{:04o}".format, "an octal file mode up to 0777")

NODE, FILES, DISCOVERER, LOG = AppliedBy.NODE, AppliedBy.FILES, AppliedBy.DISCOVERER, AppliedBy.LOG

# --- the table ----------------------------------------------------------------------------------------------------

# In paths, {var_dir} and {username} stand for those settings, in defaults as in a config.
SETTINGS = (
    Setting("port", PORT, USUAL_PORT, "The port of this node, for the mesh and for clients over TLS."),
    Setting("gossip_port", _whole(0, 65535), 0, "The port on which other nodes tell their news; 0: the one behind port."),
    Setting("username", NAME, "bdserver", "Names this node's files: USERNAME.key, .crt, .bdcache, .sock, .pid."),
    Setting("services_dir", PATH, "{var_dir}/services", "Where services lie: inside the web server's tree."),
    Setting("graveyard_dir", PATH, "{var_dir}/graveyard", "Where withdrawn services and retired replicas go."),
    Setting("service_log_dir", PATH, "{var_dir}/log", "Where hits are logged, a file a service."),
    Setting("receiver_threshold", ABOVE_ZERO, 100.0, "The weight above which this node is overloaded (RT).", NODE),
    Setting("max_dynamic", COUNT, 5, "How many replicas this node takes; 0 takes none.", NODE),
    Setting("replica_idle", SECONDS_OR_NEVER, 600.0, "A copy that nobody called for so long retires; 0: never.", DISCOVERER),
    Setting(
        "copies", _one_of("any", "meeting", "none"), "any", "Where services may be copied to, unless their .bdcert says.", NODE
    ),
    Setting("axis_port", PORT, 8080, "The port of the web server that serves services_dir.", NODE),
    Setting("axis_web_dir", URL_PATH, "axis", "The path at which it serves it.", NODE),
    Setting("web", _one_of("none", EMBEDDED), "none", "Who serves services_dir: a web server of yours, or ours."),
    Setting("web_user", ACCOUNT, "nobody", "Under whom ours runs programs, after a start as root; else it runs none."),
    Setting("service_url", TEMPLATE, "", "URLs of services here; empty: the original's form, as below.", NODE),
    Setting("admin_password", PASSWORD, "", "Lets who knows it KILL this node; a hash by bdctl password. Empty: none.", NODE),
    Setting("backlog", _whole(1, 65535), 128, "Connections that may wait to be accepted."),
    Setting("bind", HOSTS, (), "Addresses to listen on; empty: all."),
    Setting("advertise", ADVERTISE, "", "HOST or HOST:PORT by which others reach this node; empty: the obvious."),
    Setting("hints", NODES, (), "Nodes to join; this node itself among them does no harm.", DISCOVERER),
    Setting("key_dir", PATH, ".", "Where USERNAME.key, USERNAME.crt and ca.crt lie."),
    Setting("var_dir", PATH, "var", "Where this node keeps its cache and, unless told, all else."),
    Setting("ws_policy", PATH_OR_NONE, "", "This node's WS-Policy document; empty: talk to everyone.", FILES),
    Setting("black_list", PATH_OR_NONE, "", "A file of addresses that are closed unread and never called.", FILES),
    Setting("revoked", PATH_OR_NONE, "", "A file of certificates that are refused: NAME or serial HEX, one a line.", FILES),
    Setting("publishers", PATH_OR_NONE, "", "A list of minisign keys: a copy needs a signature by one; empty: none.", FILES),
    Setting("require_signed", _one_of("no", "yes"), "no", "Yes: without publishers a node does not start.", NODE),
    Setting("signer", _one_of("yes", "no"), "no", "Whether this node signs for others, by USERNAME.signer.key.", FILES),
    Setting(
        "certificate_days",
        _above_zero(36500, "a number of days above 0, up to 36500"),
        90.0,
        "How long what it signs is good.",
        NODE,
    ),
    Setting("policy_mode", _one_of("lax", "strict"), "lax", "How policies are intersected (wsp:Ignorable).", NODE),
    Setting(
        "routing",
        _one_of("measured", "original", "random"),
        "measured",
        "Whom to ask first: of two holders the less loaded; always the same, as in 2006; or any.",
        NODE,
    ),
    Setting("socket", PATH, "{var_dir}/run/{username}.sock", "The local socket for bdwhereis and bdctl."),
    Setting("socket_mode", OCTAL, 0o666, "Who may look up through it; only root and this user administer."),
    Setting("pid_file", PATH, "{var_dir}/run/{username}.pid", "Locked as long as the listener lives."),
    Setting("user", ACCOUNT, "", "Whom to become after the start as root; empty: stay."),
    Setting("group", ACCOUNT, "", "With user; empty: that user's group."),
    Setting("log_level", _one_of("debug", "info", "warning", "error"), "info", "What is worth a line.", LOG),
    Setting("log_format", _one_of("text", "json"), "text", "How its lines are: for people, or a JSON object each."),
    Setting("log_file", PATH_OR_NONE, "", "Log of the background daemon; empty: syslog."),
    Setting(
        "access_log", PATH_OR_NONE, "", "The web server's log, from which hits are counted; empty: as nodes agree.", DISCOVERER
    ),
    Setting("access_log_format", LOG_FORMAT, "combined", "Its format: common, combined, or Apache's LogFormat.", DISCOVERER),
    Setting(
        "on_change", PATH_OR_NONE, "", "A program that is told what changes in the mesh, as JSON on its stdin.", DISCOVERER
    ),
    Setting("on_change_seconds", SECONDS, 60.0, "How long one run of it may take.", DISCOVERER),
    Setting("max_children", _whole(1, 100000), 512, "Connections served at once."),
    Setting("max_children_per_address", _whole(1, 100000), 64, "The same, from one address."),
    Setting("connections_per_child", _whole(1, 10**6), 200, "Callers of one process, in turn; 1: each has its own."),
    Setting("idle_timeout", SECONDS, 60.0, "How long a connection may be idle.", NODE),
    Setting("request_timeout", SECONDS, 5.0, "How long a request may take whose caller gives no deadline.", NODE),
    Setting("probe_interval", SECONDS, 1.0, "Another node is probed this often."),
    Setting("round_min", SECONDS, 10.0, "The shortest pause between rounds of synchronising."),
    Setting("round_max", SECONDS, 30.0, "The pause between rounds at full weight."),
    Setting("protocol", _whole(OLDEST, VERSION), VERSION, "The version spoken: an older one while a mesh is rolled back."),
    Setting("package_bytes_max", COUNT, 64 << 20, "The largest service that is copied, packed.", NODE),
    Setting("package_files_max", COUNT, 1000, "The most files of a service that is copied.", NODE),
    Setting("hit_log_bytes", COUNT, 1 << 20, "A hit log larger than this is trimmed to what counts.", NODE),
    Setting(
        "callers_seen_by",
        _one_of("client", "admin"),
        "client",
        "Who is told the addresses of those who call: client and audit, or admin alone.",
        NODE,
    ),
    Setting("timeline_hours", _whole(0, 168), 24, "The time line that the audit shows: 2 kB an hour; 0: none.", DISCOVERER),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
_PATHS = tuple(setting.name for setting in SETTINGS if setting.kind in (PATH, PATH_OR_NONE))


class Settings:
    """A node's settings as attributes; `path` is the file they come from, `folder` where relative paths begin.

    Each setting is named here once more, with its type, so that a misspelt one is found before it runs; a test compares the
    names and types with SETTINGS."""

    path: str
    folder: str
    given: Mapping[str, Any]  # what the file says; all else is at its default

    port: int
    gossip_port: int
    username: str
    services_dir: str
    graveyard_dir: str
    service_log_dir: str
    receiver_threshold: float
    max_dynamic: int
    replica_idle: float
    copies: str
    axis_port: int
    axis_web_dir: str
    web: str
    web_user: str
    service_url: str
    admin_password: str
    backlog: int
    bind: tuple[str, ...]
    advertise: str
    hints: tuple[str, ...]
    key_dir: str
    var_dir: str
    ws_policy: str
    black_list: str
    revoked: str
    publishers: str
    require_signed: str
    signer: str
    certificate_days: float
    policy_mode: str
    routing: str
    socket: str
    socket_mode: int
    pid_file: str
    user: str
    group: str
    log_level: str
    log_format: str
    log_file: str
    access_log: str
    access_log_format: str
    on_change: str
    on_change_seconds: float
    max_children: int
    max_children_per_address: int
    connections_per_child: int
    idle_timeout: float
    request_timeout: float
    probe_interval: float
    round_min: float
    round_max: float
    protocol: int
    package_bytes_max: int
    package_files_max: int
    hit_log_bytes: int
    callers_seen_by: str
    timeline_hours: int

    def __init__(self, path: str, given: Mapping[str, Any]):
        path = os.path.abspath(path)
        values = {each.name: given.get(each.name, each.default) for each in SETTINGS}
        self.__dict__.update(values, path=path, folder=os.path.dirname(path), given=MappingProxyType(dict(given)))
        # Paths follow other settings: var_dir first.
        self.__dict__["var_dir"] = self._absolute(self.var_dir)
        for name in _PATHS:
            if values[name]:
                self.__dict__[name] = self._absolute(values[name].replace("{var_dir}", self.var_dir))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name}: settings are replaced, never changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name}: settings are replaced, never changed")

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.folder, path.replace("{username}", self.username)))

    def with_reloadable(self, fresh: Settings) -> Settings:
        """These settings, with what SIGHUP may change taken from `fresh`."""
        kept = {name: value for name, value in self.given.items() if not BY_NAME[name].reloadable}
        taken = {name: value for name, value in fresh.given.items() if BY_NAME[name].reloadable}
        return Settings(self.path, {**kept, **taken})

    def kept_against(self, fresh: Settings) -> list[str]:
        """The names of those in which `fresh` differs, and which only a restart changes."""
        fixed = [each.name for each in SETTINGS if not each.reloadable]
        return [name for name in fixed if getattr(self, name) != getattr(fresh, name)]


def in_words(settings: Settings) -> dict[str, str]:
    """The settings in force, as a config has them; of a password only whether there is one."""
    words = {each.name: each.kind.write(getattr(settings, each.name)) for each in SETTINGS}
    secret = {each.name: "(set)" for each in SETTINGS if each.kind is PASSWORD and words[each.name]}
    return {**words, **secret}


def load(path: str) -> Settings:
    """Read a config; BadConfig has one `FILE:LINE: …` line for each thing that is wrong."""
    values, at, complaints, mode = read_values(path, BY_NAME)
    if values.get("admin_password") and mode & 0o077:
        number = at["admin_password"]
        complaints.append(f"{path}:{number}: others can read this file and its admin_password: chmod 600 {path}")
    if complaints:
        raise BadConfig("\n".join(complaints))
    settings = Settings(path, values)
    _refuse_together(path, settings, at)
    return settings


def _refuse_together(path: str, settings: Settings, at: Mapping[str, int]) -> None:
    """BadConfig for settings each of which is right by itself."""
    if settings.round_min > settings.round_max:
        number = max(at.get("round_min", 0), at.get("round_max", 0))
        raise BadConfig(f"{path}:{number}: round_min={settings.round_min:g} is above round_max={settings.round_max:g}")
    if settings.require_signed == "yes" and not settings.publishers:
        raise BadConfig(
            f"{path}:{at['require_signed']}: require_signed=yes, and no publishers are set whose signatures would count"
        )
    if settings.gossip_port == settings.port or (settings.port == 65535 and not settings.gossip_port):
        number = max(at.get("port", 0), at.get("gossip_port", 0))
        raise BadConfig(f"{path}:{number}: gossip_port must be another port than port={settings.port}, at most 65535")
    for trouble, names in (_port_trouble(settings), _folder_trouble(settings)):
        if trouble:
            raise BadConfig(f"{path}:{max(at.get(name, 0) for name in names)}: {trouble}")


def _port_trouble(settings: Settings) -> tuple[str, tuple[str, ...]]:
    """(what is wrong with the embedded web server's port, the settings that say so); ("", ()) when all is well."""
    ours = {"port": settings.port, "gossip_port": settings.gossip_port or settings.port + 1}
    same = [name for name, port in ours.items() if port == settings.axis_port and settings.web == EMBEDDED]
    if not same:
        return "", ()
    return f"axis_port={settings.axis_port}: is {same[0]}, and web=embedded needs one of its own", ("axis_port", "port", *same)


# What lies in services_dir is served; these hold what must not be.
_KEPT_APART = ("key_dir", "var_dir", "graveyard_dir", "service_log_dir")


def _folder_trouble(settings: Settings) -> tuple[str, tuple[str, ...]]:
    """The same of services_dir: all in it is offered and handed out, but for names that begin with a dot."""
    for name in _KEPT_APART:
        below = os.path.relpath(getattr(settings, name), settings.services_dir)
        if below == os.curdir or not below.startswith("."):
            said = f"services_dir={settings.services_dir}: {name}={getattr(settings, name)} lies there, and would be served"
            return said, ("services_dir", name)
    return "", ()


def place_of(settings: Settings, name: str) -> str:
    """FILE:LINE of a setting, as the file is now."""
    at = read_values(settings.path, BY_NAME)[1]
    return f"{settings.path}:{at[name]}" if name in at else settings.path


def read_values(path: str, table: Mapping[str, Setting]) -> tuple[dict[str, Any], dict[str, int], list[str], int]:
    """({key: value}, {key: line}, complaints, file mode) of a KEY=VALUE file by a table of settings."""
    values: dict[str, Any] = {}
    at: dict[str, int] = {}
    complaints = []
    data, status = lines.content(path)
    for number, key, text, complaint in pairs.parsed(data):
        complaint = complaint or _take(table, values, at, number, key, text)
        if complaint:
            complaints.append(f"{path}:{number}: {complaint}")
    return values, at, complaints, status.st_mode


def _take(table: Mapping[str, Setting], values: dict[str, Any], at: dict[str, int], number: int, key: str, text: str) -> str:
    """One line into `values`; else what is wrong with it."""
    setting = table.get(key)
    if setting is None:
        return f"unknown key {key[:SHOWN_CHARACTERS_MAX]!r}{_nearest(key, table)}"
    if key in at:
        return f"{key} was set in line {at[key]} already"
    at[key] = number
    try:
        values[key] = setting.kind.read(text)
    except (ValueError, BDError) as error:
        shown = "" if setting.kind is PASSWORD else f"={text[:SHOWN_CHARACTERS_MAX]!r}"
        reason = f" ({error})" if isinstance(error, BDError) else ""
        return f"{key}{shown} must be {setting.kind.words}{reason}"
    return ""


def _nearest(key: str, table: Mapping[str, Setting]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, table, 1)
    return f" (did you mean {close[0]}?)" if close else ""


# --- what is made from the table ----------------------------------------------------------------------------------


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
