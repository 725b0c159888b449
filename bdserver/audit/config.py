"""audit.conf: how the audit page and whereis.cgi reach the mesh, and how long they may take.

A file of its own: the web server's user must read it, and must not read bdserverd.conf, which may hold a password.
"""

from __future__ import annotations

import os
import pwd
from functools import partial
from typing import TYPE_CHECKING, Any

from bdserver.errors import BadConfig
from bdserver.files import durable, settings
from bdserver.files.settings import HOSTS, NODES, PATH_OR_NONE, SECONDS, USUAL_SOCKET, Setting
from bdserver.net import dialling

DEFAULT_PATH = "/etc/bdserver/audit.conf"

SETTINGS = (
    Setting("socket", PATH_OR_NONE, USUAL_SOCKET, "The local node's socket; empty: use nodes."),
    Setting("nodes", NODES, (), "Nodes to begin with where the socket does not answer; needs keys."),
    Setting("keys", PATH_OR_NONE, "", "DIR/NAME of a client's key and certificate; empty: the local node asks for us."),
    Setting(
        "crawl_seconds",
        SECONDS,
        3.0,
        "For asking all nodes; a node that does not answer by then, or in half of it, is shown as silent.",
    ),
    Setting("draw_seconds", SECONDS, 5.0, "For drawing the topology."),
    Setting("whereis_policy", PATH_OR_NONE, "", "The WS-Policy of those who use whereis.cgi; empty: none."),
    Setting("whereis_hosts", HOSTS, (), "Hosts outside the mesh that whereis.cgi may lead to as well."),
    Setting("whereis_seconds", SECONDS, 10.0, "For a look-up by whereis.cgi, which may replicate the service."),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}

SAMPLE_HEAD = """\
# audit.conf: how audit.cgi and whereis.cgi reach the mesh. KEY=VALUE, as bdserverd.conf; what is commented out is the
# default, and without this file all is. Relative paths begin at this file's folder. Read anew at each request.
# Made from the table in bdserver/audit/config.py; see audit.conf(5).
"""

if TYPE_CHECKING:
    from bdserver.net.entrances import Entrance
    from bdserver.net.keys import Credentials


class AuditConfig:
    """The settings as attributes; paths absolute."""

    def __init__(self, path: str, values: dict[str, Any]):
        self.path = os.path.abspath(path)
        for setting in SETTINGS:
            value = values.get(setting.name, setting.default)
            if setting.kind is PATH_OR_NONE and value:
                value = os.path.normpath(os.path.join(os.path.dirname(self.path), value))
            setattr(self, setting.name, value)

    socket: str
    nodes: tuple[str, ...]
    keys: str
    crawl_seconds: float
    draw_seconds: float
    whereis_policy: str
    whereis_hosts: tuple[str, ...]
    whereis_seconds: float


def load(path: str | None = None) -> AuditConfig:
    """The config at `path`, else at $BDSERVER_AUDIT_CONFIG, else of the default place, where it may be missing.

    BadConfig has one `FILE:LINE: …` line for each thing that is wrong; its cause is a PermissionError where the file may not be
    read."""
    path = path or os.environ.get("BDSERVER_AUDIT_CONFIG") or DEFAULT_PATH
    try:
        os.close(durable.open_regular(path))
    except PermissionError as error:
        defaults = AuditConfig(path, {})
        is_hidden = path == DEFAULT_PATH and not os.access(os.path.dirname(path), os.X_OK)
        if is_hidden and os.path.exists(defaults.socket):  # there may be no such file, and all that it could say is right
            return defaults
        raise BadConfig(_not_readable(path)) from error
    except OSError:
        if path == DEFAULT_PATH and not os.path.lexists(path):
            return AuditConfig(path, {})
    values, _, complaints, _ = settings.read_values(path, BY_NAME)
    config = AuditConfig(path, values)
    if not config.socket and not (config.nodes and config.keys):
        complaints.append(f"{config.path}: set socket, or nodes and keys: there is nobody to ask")
    elif config.nodes and not config.keys:
        complaints.append(f"{config.path}: nodes are asked over TLS: set keys to DIR/NAME of a client's certificate")
    if complaints:
        raise BadConfig("\n".join(complaints))
    return config


def _not_readable(path: str) -> str:
    """Permissions are what a new installation stumbles over: the folder is where bdkeys puts keys, closed to others."""
    folder = os.path.dirname(os.path.abspath(path))
    return (
        f"may not read {path} as {_account()}: open the folder (chmod 755 {folder}; keys and bdserverd.conf in it stay 0600) "
        f"and the file (chmod 644 {path})"
    )


def _account() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def entrances_of(config: AuditConfig, policy_text: str | None = None) -> tuple[list[Entrance], Credentials | None]:
    """How audit.conf says to reach a node, in order, and the client's credentials or None."""
    found: list[Entrance] = []
    if config.socket:
        found.append(partial(dialling.dial_local, config.socket))
    if not config.keys:
        return found, None
    from bdserver.net import keys

    credentials = keys.load_named(config.keys)
    return [*found, *(dialling.entrance(address, credentials, policy_text) for address in config.nodes)], credentials


def sample() -> str:
    """The sample config: every setting at its default, commented out, with its meaning."""
    return settings.written_sample(SAMPLE_HEAD, SETTINGS)
