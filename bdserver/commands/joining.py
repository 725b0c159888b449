"""`bdkeys init --here` and `bdkeys join`: from an empty host to a node that others see, each by one command.

Promises that a private key is made where it stays, that nothing is overwritten, that what was begun and broken off is gone on
with by the same command, and that success is said when another node sees this one alive. What is wrong is one line.

Leaves to others: who is let in (`core.joining`), who is at the other end (`net.welcome`), the start itself (`starting`).
"""

from __future__ import annotations

import os
import pwd
import shlex
import socket
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from bdserver.api import PORT
from bdserver.commands import renewing, starting
from bdserver.core.address import join_address, normal_host, split_address, without_zone
from bdserver.core.joining import Token, Wish, read_token
from bdserver.core.names import valid_name
from bdserver.core.roles import NODE
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, BadRequest, NotYet
from bdserver.files import durable
from bdserver.files.settings import BY_NAME, DEFAULT_PATH, Settings, default_path, load
from bdserver.net import chain as chains
from bdserver.net import keyfiles, keys, openssl, welcome
from bdserver.net.authority import Authority, general_names, refuse_other_names, request_by
from bdserver.net.identity import identity_of
from bdserver.net.signing import Signer
from bdserver.processes import startup
from bdserver.processes.advertised import interface_addresses, local_addresses
from bdserver.processes.sockets import Sockets

VAR_DIR = "/var/lib/bdserver"
# The account that Debian's package makes for the daemon, and what its unit and init script expect then.
ACCOUNT = "bdserver"
AS_PACKAGED = {"user": ACCOUNT, "socket": "/run/bdserver/bdserver.sock", "pid_file": "/run/bdserver/bdserver.pid"}
# Who has set one of these has a web server in mind.
OF_A_WEB_SERVER = {"web", "services_dir", "axis_port", "axis_web_dir", "service_url"}
# What the kernel names where there is a route, and no address to speak from.
UNSPECIFIED = ("0.0.0.0", "::")
# For the whole conversation.
TALK_SECONDS = 15.0


class Place(NamedTuple):
    """Where a node is to live: its settings, and those of them that its config lacks; whether it has keys there already, and
    whether the host has a web server that nobody has spoken of yet."""

    settings: Settings
    lacking: dict[str, str]
    has_keys: bool
    has_web_server: bool = False


# --- the two commands ---------------------------------------------------------------------------------------------


def begin(options: Namespace) -> int:
    """The first node of a mesh, and its CA."""
    os.umask(startup.UMASK)
    name = _name(options)
    hosts = options.host or _own_hosts()
    place = _place(options, name, hosts, {"signer": "yes"})
    if place.has_keys:
        raise BadConfig(f"{place.settings.path}: is there already, {_who_is_there(place.settings)}; nothing is overwritten")
    _refuse_closed_folders(place)
    _refuse_taken_ports(place.settings)
    authority = _authority(options)
    key_dir = place.settings.key_dir
    _make_folders(place.settings)
    _make_certificates(authority, key_dir, place.settings, name, hosts)
    _settle(place)
    print(f"{authority.folder}/ca.key: the key of the CA of {authority.mesh}. It may go offline, and makes other signers")
    return starting.start(place.settings, options, lambda: _is_begun(place.settings))


def join(options: Namespace) -> int:
    """One more node, or the keys of a client or an admin, by a token."""
    os.umask(startup.UMASK)
    token = _token(options.token)
    address = join_address(*split_address(options.address, PORT))
    deadline = time.monotonic() + TALK_SECONDS
    meeting = welcome.meet(address, token, deadline)
    try:
        name = _name(options)
        hosts = options.host or [without_zone(meeting.own)]
        place = _place(options, name, hosts, {"hints": address}) if options.role == NODE else _keys_place(options, name)
        if place.has_keys:
            _refuse_certified(place.settings)
        _refuse_closed_folders(place)
        _refuse_other_mesh(place.settings, meeting)
        if options.role == NODE:
            _refuse_taken_ports(place.settings)
            if not options.host:
                _refuse_translated(meeting)
        key = _key(place.settings)
        chain, authorities, nodes = _admitted(meeting, token, key, name, hosts, deadline)
    finally:
        meeting.close()
    identity, base = identity_of(*chain), os.path.join(place.settings.key_dir, place.settings.username)
    keyfiles.write(os.path.join(place.settings.key_dir, "ca.crt"), keyfiles.pem(authorities))
    keyfiles.write(base + ".crt", chain.pem())
    if identity.role == NODE != options.role:
        raise BadConfig(f"{base}: the token was a node's: the same line without --role {options.role} makes this host one")
    if identity.role != NODE:
        renewing.write_nodes(base, [address, *nodes])
        print(f"{base}: {identity.role} {name} of {identity.mesh}: bdwhereis --node {address} --keys {base} SERVICE")
        return 0
    _settle(place)
    return starting.start(
        place.settings, options, lambda: starting.wait_seen(place.settings, name, meeting.welcome.name, address)
    )


# --- what they need -----------------------------------------------------------------------------------------------


def _token(text: str) -> Token:
    try:
        return read_token(text)
    except BadRequest as error:
        raise BadConfig(str(error)) from None


def _name(options: Namespace) -> str:
    name = options.name or _host_name()
    refuse_other_names(name)
    return str(name)


def _host_name() -> str:
    name = socket.gethostname().partition(".")[0]
    if not valid_name(name) or name == "localhost":
        raise BadConfig(f"this host's name, {name!r}, is none for a node: say another one with --name")
    return name


def _own_hosts() -> list[str]:
    """The addresses that are obvious: those that this host would speak from, else the only one that it has of a kind."""
    found = [each for each in local_addresses() if each not in UNSPECIFIED]
    if found:
        return found
    found = interface_addresses()
    if not found:
        raise BadConfig("this host has no address by which others could reach it: say it with --host")
    if len({":" in each for each in found}) < len(found):
        raise BadConfig(f"by which of {', '.join(found)} do others reach this host? Say it with --host")
    return found


def _place(options: Namespace, name: str, hosts: list[str], more: dict[str, str]) -> Place:
    path = os.path.abspath(options.config or default_path())
    there = load(path) if os.path.exists(path) else None
    if there is not None and os.path.exists(os.path.join(there.key_dir, f"{there.username}.crt")):
        return Place(there, {}, True)
    given = {"username": name, **more, "var_dir": VAR_DIR, "key_dir": "{var_dir}/keys"}
    if path == DEFAULT_PATH and os.geteuid() == 0 and _is_account(ACCOUNT):
        given |= AS_PACKAGED
    if len(hosts) > 1:
        given["advertise"] = hosts[0]
    kept = there.given if there is not None else {}
    # Of a package's config too nobody has said anything yet: the first word of whoever edits it is the name.
    is_new = "username" not in kept and not kept.keys() & OF_A_WEB_SERVER
    wished = _given(options)
    usual = BY_NAME["axis_port"].default
    has_web_server = is_new and _has_web_server(_read(wished).get("axis_port", usual))
    if is_new and not has_web_server:
        given["web"] = "embedded"
    given |= wished
    _refuse_other_words(path, kept, wished)
    lacking = {key: text for key, text in given.items() if key not in kept}
    settings = Settings(path, {**_read(lacking), **kept})
    return Place(settings, lacking, False, has_web_server and settings.axis_port == usual)


def _keys_place(options: Namespace, name: str) -> Place:
    """Of a client or an admin: a folder for keys, be there a node on this host or not. The config says where the node's keys
    are, and is not written."""
    path = os.path.abspath(options.config or default_path())
    given = _given(options)
    if not {"key_dir", "var_dir"} & given.keys():
        given["key_dir"] = load(path).key_dir if os.path.exists(path) else os.path.join(VAR_DIR, "keys")
    settings = Settings(path, _read({"var_dir": VAR_DIR, "key_dir": "{var_dir}/keys", **given, "username": name}))
    return Place(settings, {}, os.path.exists(os.path.join(settings.key_dir, f"{name}.crt")))


def _refuse_other_mesh(settings: Settings, meeting: welcome.Meeting) -> None:
    """Keys of another mesh that lie there would lose their ca.crt."""
    path = os.path.join(settings.key_dir, "ca.crt")
    names = [
        each for each in (os.listdir(settings.key_dir) if os.path.isdir(settings.key_dir) else []) if each.endswith(".crt")
    ]
    if not set(names) - {"ca.crt", f"{settings.username}.crt"} or not os.path.exists(path):
        return
    try:
        is_ours = meeting.root in openssl.load_all(durable.read(path, CONFIG_BYTES_MAX)[0])
    except ValueError:
        is_ours = False
    if not is_ours:
        raise BadConfig(f"{path}: is another mesh's, and others' keys lie beside it: say another folder with --set key_dir=DIR")


def _refuse_closed_folders(place: Place) -> None:
    """Before anything is made: an ordinary account would leave a CA behind, and no node."""
    settings = place.settings
    wanted = {"var_dir": settings.var_dir, "key_dir": settings.key_dir, "config": os.path.dirname(settings.path)}
    for key, path in wanted.items() if place.lacking else [("key_dir", settings.key_dir)]:
        folder = path
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            option = "--config FILE" if key == "config" else f"--set {key}=DIR"
            who = startup.name_of(os.geteuid())
            raise BadConfig(f"{who} may not write into {path}: do this as root, or choose another place with {option}")


def _refuse_taken_ports(settings: Settings) -> None:
    """Before a token is spent: this host has another node, as a rule, and this one is to have ports of its own. The node
    that is to get its keys anew may run meanwhile."""
    if startup.claims(settings)[0].is_held():
        return
    sockets = Sockets(settings, (os.geteuid(), os.getegid()))
    try:
        sockets.open_tcp(is_check=True)
    except NotYet as error:
        raise BadConfig(f"{error}; nothing was made (--set port=N is for another one)") from None
    finally:
        sockets.close()
        sockets.close_ears()


def _refuse_translated(meeting: welcome.Meeting) -> None:
    """A certificate for the address from which this host has called is of no use where the node there sees another one."""
    own, seen = (without_zone(normal_host(each)) for each in (meeting.own, meeting.welcome.seen_at))
    if own != seen:
        words = f"this host called from {own}, and {meeting.welcome.name} sees {seen}: an address is translated between them"
        raise BadConfig(f"{words}, so say with --host by which one the others reach this host; nothing was sent")


def _has_web_server(port: int) -> bool:
    """Whether something listens where services are to be served."""
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _given(options: Namespace) -> dict[str, str]:
    given = {}
    for pair in options.set:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadConfig(f"--set {pair}: a setting is KEY=VALUE")
        given[key] = value
    return given


def _refuse_other_words(path: str, kept: Mapping[str, Any], given: dict[str, str]) -> None:
    """A config that is there keeps what it says: who asks for something else would wait for it in vain."""
    for key, value in _read(given).items():
        if key in kept and kept[key] != value:
            raise BadConfig(f"--set {key}={given[key]}: {path} says otherwise, and is not overwritten: edit it there")


def _read(given: dict[str, str]) -> dict[str, Any]:
    values = {}
    for key, text in given.items():
        if key not in BY_NAME:
            raise BadConfig(f"--set {key}: there is no such setting (bdserverd.conf(5))")
        try:
            values[key] = BY_NAME[key].kind.read(text)
        except (ValueError, BadRequest):
            raise BadConfig(f"--set {key}={text}: must be {BY_NAME[key].kind.words}") from None
    return values


def _is_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _who_is_there(settings: Settings) -> str:
    try:
        identity = keys.load(settings.key_dir, settings.username, settings.group).identity
    except BadConfig as error:
        return f"and its node has no good certificate ({error})"
    return f"of {identity.name} of mesh {identity.mesh}; the next host is invited by bdctl invite"


def _refuse_certified(settings: Settings) -> None:
    """A node whose certificate has ended joins again; one that has a good one does not."""
    try:
        credentials = keys.load(settings.key_dir, settings.username, settings.group)
    except BadConfig:
        return
    identity, days = credentials.identity, credentials.days_left(time.time())
    files = os.path.join(settings.key_dir, f"{settings.username}.{{key,crt}}")
    again = f"where its certificate is revoked, remove {files}, and join again"
    if identity.role != NODE:
        raise BadConfig(f"{files}: {identity.role} {identity.name} is here already, and good for {days:.0f} days; {again}")
    then = "it runs" if starting.runs(settings) else f"start it with {starting.line_of('bdserverd', settings)}"
    there = f"{identity.name} of mesh {identity.mesh} is here already, and good for {days:.0f} days"
    raise BadConfig(f"{settings.path}: {there}: {then}; {again}; for a client's or an admin's keys beside it: --role")


def _authority(options: Namespace) -> Authority:
    folder = options.dir or os.path.join(os.path.expanduser("~"), "bdserver-ca")
    if not os.path.exists(os.path.join(folder, "ca.key")):
        return Authority.make(folder, options.mesh, options.days)
    authority = Authority.load(folder)
    if authority.mesh != options.mesh:
        raise BadConfig(f"{folder}: is there already, and the CA of mesh {authority.mesh}")
    return authority


def _make_certificates(authority: Authority, key_dir: str, settings: Settings, name: str, hosts: list[str]) -> None:
    """The signer's first, and the node's by it: so it is renewed as all others are."""
    if not os.path.exists(os.path.join(key_dir, f"{settings.username}.signer.crt")):
        authority.make_signer(key_dir, name, username=settings.username)
    authority.put_bundle(key_dir)
    signer = Signer.load(key_dir, settings.username, authority.mesh, authority.certificates)
    key = keyfiles.kept_key(os.path.join(key_dir, f"{settings.username}.key"))
    chain = signer.certify(key.public_key(), name, NODE, general_names(hosts), settings.certificate_days)
    keyfiles.write(os.path.join(key_dir, f"{settings.username}.crt"), chain.pem())


def _key(settings: Settings) -> ec.EllipticCurvePrivateKey:
    """This host's, made now if a try before has not made it."""
    _make_folders(settings)
    return keyfiles.kept_key(os.path.join(settings.key_dir, f"{settings.username}.key"))


def _make_folders(settings: Settings) -> None:
    """What the daemon keeps is its own, and its keys are in there: it renews its certificate itself."""
    if not os.path.isdir(settings.var_dir):
        os.makedirs(settings.var_dir, 0o755)
        if os.geteuid() == 0:
            os.chown(settings.var_dir, *startup.user_ids(settings))
    keyfiles.make_folder(settings.key_dir)


def _admitted(
    meeting: welcome.Meeting,
    token: Token,
    key: ec.EllipticCurvePrivateKey,
    name: str,
    hosts: list[str],
    deadline: float,
) -> tuple[chains.Chain, list[Any], list[str]]:
    """(our certificate, the mesh's CAs), both as they should be, and the addresses of some nodes."""
    request = request_by(key, name, general_names(hosts)).decode()
    said = meeting.wish(Wish(token.id.hex(), token.secret.hex(), request), deadline)
    try:
        chain, authorities = chains.from_pem(said.certificate.encode()), openssl.load_all(said.authorities.encode())
        identity = identity_of(*chain)
    except ValueError as error:
        raise BadConfig(f"{meeting.where}: the certificate that came {error}") from None
    is_ours = identity.name == name and openssl.is_key_of(key, chain.certificate) and chains.roots(authorities, chain)
    if not is_ours or meeting.root not in authorities:
        raise BadConfig(f"{meeting.where}: the certificate that came is not the one that was asked for")
    return chain, authorities, said.hints


def _settle(place: Place) -> None:
    """The config, the owner of what was made, and all that a start tries."""
    settings = place.settings
    if place.lacking:
        _write_config(settings.path, place.lacking)
    owner = startup.user_ids(settings)
    if os.geteuid() == 0 and owner != (0, 0):
        os.chown(settings.key_dir, *owner)
        for each in os.listdir(settings.key_dir):
            os.chown(os.path.join(settings.key_dir, each), *owner)
    startup.check(settings.path)
    if place.has_web_server:
        where = f"port {settings.axis_port} has a web server: let it serve {settings.services_dir} at /{settings.axis_web_dir}/"
        print(f"{where}, or set web=embedded, and another axis_port, in {settings.path}")


def _write_config(path: str, lacking: dict[str, str]) -> None:
    """What a config of before says stays as it is: a package, or a person, has written it."""
    folder, before = os.path.dirname(path), HEAD
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o755)
    like = None
    if os.path.exists(path):
        data, like = durable.read(path, CONFIG_BYTES_MAX)
        before = data.decode(errors="surrogateescape")
        before += "\n" * (not before.endswith("\n")) + "\n# Added by bdkeys:\n"
    text = before + "".join(f"{key}={value}\n" for key, value in lacking.items())
    durable.replace(path, [text.encode(errors="surrogateescape")], mode=0o644, like=like)


CONFIG_BYTES_MAX = 1 << 20
HEAD = """\
# bdserverd.conf: KEY=VALUE, one a line; see bdserverd.conf(5). Made by bdkeys, and from now on yours to edit.
# services_dir, axis_port, axis_web_dir and service_url say where a web server serves services; web=embedded: ours does.
"""


def _is_begun(settings: Settings) -> str:
    """The node answers; what to type on the next host."""
    token, address = starting.invite(settings)
    status, doctor = (starting.line_of(f"bdctl {word}", settings) for word in ("status", "doctor"))
    runs = f"{settings.username} runs at {address}: {status}, and what is wrong: {doctor}"
    return f"{runs}\non the next host, within an hour:\n    bdkeys join {shlex.quote(address)} {token}"
