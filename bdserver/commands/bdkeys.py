"""bdkeys: the mesh's certificate authority, the keys of its nodes, clients and administrators, and of publishers.

bdkeys init DIR --mesh NAME · init --mesh NAME --here · join ADDR TOKEN · signer DIR NAME · request NAME --host H… ·
sign DIR FILE.csr [--role R] · issue DIR NAME --host H… · show FILE · renew DIR NAME · renew DIR/NAME · roll DIR ·
publisher DIR

Promises one line for what was done and one for what comes next, or one that says what is wrong. The CA itself is
`net.authority`'s business, what a publisher signs that of `files.publishers`.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509

from bdserver import __version__
from bdserver.commands import calling
from bdserver.commands.output import written
from bdserver.core.names import valid_name
from bdserver.core.roles import NODE, Role
from bdserver.errors import BadConfig, BDError
from bdserver.files import durable
from bdserver.files.minisign import RANDOM_BYTES, SecretKey
from bdserver.files.settings import default_path
from bdserver.net import keyfiles, keys, openssl
from bdserver.net.authority import CA_DAYS, DAYS, DAYS_MAX, SIGNER_DAYS, Authority, general_names, make_request, read_request
from bdserver.net.identity import identity_of, is_authority
from bdserver.net.issuing import Hosts

# What the files of a publisher's key are named, unless somebody gives it a name.
PUBLISHER = "publisher"


def main(arguments: list[str] | None = None) -> int:
    """Exit 0, or another status with one line that says which file, name or token is wrong."""
    try:
        return written(lambda: _run(_parser().parse_args(arguments)))
    except BDError as error:
        print(f"bdkeys: {error}", file=sys.stderr)
        return error.exit
    except OSError as error:
        print(f"bdkeys: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int | None:
    status: int | None = options.run(options)
    return status


def _parser() -> calling.Parser:
    parser = calling.Parser(prog="bdkeys", description="Keys and certificates for a BDserver mesh.")
    parser.add_argument("--version", action="version", version=f"bdkeys {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int | None], text: str, days: int = 0) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if days:
            sub.add_argument("--days", type=_days, default=days, help=f"how long it is good (default {days})")
        return sub

    sub = add("init", init, "make a certificate authority in DIR; with --here the first node of its mesh, too", CA_DAYS)
    sub.add_argument("dir", metavar="DIR", type=calling.path, nargs="?", help="with --here by default ~/bdserver-ca")
    sub.add_argument("--mesh", metavar="NAME", required=True)
    sub.add_argument("--here", action="store_true", help="make this host the first node, and start it")
    _add_place(sub)
    sub = add("join", join, "make this host a node of a mesh that has invited it (bdctl invite), and start it")
    sub.add_argument("address", metavar="ADDR", help="of the node that has invited")
    sub.add_argument("token", metavar="TOKEN")
    _add_role(sub)
    _add_place(sub)
    sub = add("signer", signer, "let a node sign for others: NAME.signer.key and NAME.signer.crt", SIGNER_DAYS)
    sub.add_argument("dir", metavar="DIR", type=calling.path)
    sub.add_argument("name", metavar="NAME")
    sub.add_argument(
        "--out", metavar="DIR", type=calling.path, help="where to put them, which is the node's key_dir (default: DIR/NAME)"
    )
    sub = add("request", request, "make a key and a signing request, on the node itself")
    sub.add_argument("name", metavar="NAME")
    _add_hosts(sub)
    sub.add_argument("--dir", metavar="DIR", default=".", help="where to put NAME.key and NAME.csr (default: here)")
    sub = add("sign", sign, "sign a request; the role is yours to give, whatever the request says", DAYS)
    sub.add_argument("dir", metavar="DIR", type=calling.path)
    sub.add_argument("csr", metavar="FILE.csr")
    _add_role(sub)
    sub = add("issue", issue, "make a key and its certificate at once", DAYS)
    sub.add_argument("dir", metavar="DIR", type=calling.path)
    sub.add_argument("name", metavar="NAME")
    _add_hosts(sub)
    _add_role(sub)
    sub.add_argument("--out", metavar="DIR", type=calling.path, help="where to put them, with ca.crt (default: DIR/NAME)")
    sub = add("show", show, "say what a certificate or request is")
    sub.add_argument("file", metavar="FILE")
    sub = add("renew", renew, "a new certificate for the same key, name, role and hosts: by the CA in DIR, or by a signer")
    sub.add_argument(
        "dir", metavar="DIR", type=calling.path, nargs="?", help="with NAME: where the CA is; DIR/NAME alone: a client's keys"
    )
    sub.add_argument("name", metavar="NAME", nargs="?")
    places = "DIR/NAME, DIR, here, or where this host's config is"
    sub.add_argument(
        "--in", dest="within", metavar="DIR", type=calling.path, help=f"where NAME.crt is (default: the first of {places})"
    )
    sub.add_argument("--days", type=_days, help=f"how long it is good (by the CA; default {DAYS})")
    sub.add_argument(
        "--node", metavar="HOST[:PORT]", action="append", default=[], help="of DIR/NAME: ask there who signs (may be repeated)"
    )
    sub.add_argument("--now", action="store_true", help="of DIR/NAME: though two thirds of its life are not over")
    sub = add("roll", roll, "a second CA: it signs from now on, ca.crt holds both", CA_DAYS)
    sub.add_argument("dir", metavar="DIR", type=calling.path)
    sub.add_argument("--again", action="store_true", help="though the last roll was within 30 days")
    sub.add_argument("--signers", action="store_true", help="no second CA: new certificates for its signers alone")
    sub = add("publisher", publisher, "make a publisher's key in DIR: it signs services, minisign reads it")
    sub.add_argument("dir", metavar="DIR", type=calling.path)
    sub.add_argument("--name", default=PUBLISHER, help=f"of its files, NAME.key and NAME.pub (default: {PUBLISHER})")
    parser.commands = list(commands.choices)
    return parser


def _add_hosts(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--host", metavar="HOST", action="append", default=[], help="address or name it is dialled at")


def _add_place(sub: argparse.ArgumentParser) -> None:
    _add_hosts(sub)
    sub.add_argument("--name", help="the node's (default: this host's)")
    sub.add_argument(
        "--config", metavar="CONFIG", type=calling.path, help=f"the config that is written (default: {default_path()})"
    )
    sub.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="a setting that it has (may be repeated)")
    how = sub.add_mutually_exclusive_group()
    how.add_argument("--foreground", action="store_true", help="become the daemon, instead of starting it")
    how.add_argument("--no-start", action="store_true", help="make all files, start nothing")


def _add_role(sub: argparse.ArgumentParser) -> None:
    roles = [role.value for role in Role]
    sub.add_argument("--role", choices=roles, default=NODE.value, help=f"default: {NODE}")


def _days(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= DAYS_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text[:20]!r} is no number of days from 1 to {DAYS_MAX}")


# --- the commands -------------------------------------------------------------------------------------------------


def init(options: argparse.Namespace) -> int | None:
    """DIR with ca.key and ca.crt, and a publisher's key; with --here the first node."""
    if options.here:
        from bdserver.commands import joining

        return joining.begin(options)
    if options.dir is None:
        raise BadConfig("init needs DIR, where to keep the CA, or --here for the first node of a mesh")
    authority = Authority.make(options.dir, options.mesh, options.days)
    key = os.path.join(options.dir, PUBLISHER + ".key")
    if not os.path.lexists(key):
        _make_publisher(options.dir, PUBLISHER)
    print(f"{options.dir}: the CA of the mesh {authority.mesh}, good for {options.days} days. Keep ca.key to yourself.")
    print(f"{key}: a publisher's key, which signs services, so that hosts can refuse all others: see `publishers`")
    print(f"next, for each host: bdkeys issue {options.dir} NAME --host ADDRESS")
    return None


def join(options: argparse.Namespace) -> int:
    """A node's keys and config by a token, or a client's keys."""
    from bdserver.commands import joining

    return joining.join(options)


def signer(options: argparse.Namespace) -> None:
    """The key of a signer."""
    authority = Authority.load(options.dir)
    folder = options.out or os.path.join(options.dir, options.name)
    certificate = authority.make_signer(folder, options.name, options.days)
    days = f"{_days_left(certificate):.0f} days"
    print(f"{folder}: {options.name} may sign for the mesh {authority.mesh}, for {days}")
    print("next: both files into its key_dir, the daemon's user their owner, signer=yes into its config, and SIGHUP")


def request(options: argparse.Namespace) -> None:
    """NAME.key and NAME.csr."""
    make_request(options.dir, options.name, general_names(options.host))
    key_path, csr_path = (os.path.join(options.dir, options.name + suffix) for suffix in (".key", ".csr"))
    print(f"{key_path}: stays here. {csr_path}: take it to the CA's host")
    print(f"next, there: bdkeys sign DIR {os.path.basename(csr_path)}")


def sign(options: argparse.Namespace) -> None:
    """NAME.crt beside the request; name and hosts are the request's, the role is ours."""
    authority = Authority.load(options.dir)
    path, certificate = authority.sign_request(options.csr, Role(options.role), options.days)
    name = identity_of(certificate).name
    print(f"{path}: {options.role} {name} of {authority.mesh}, good for {_days_left(certificate):.0f} days")
    print(f"next: put it and {os.path.join(options.dir, 'ca.crt')} beside the node's key")


def issue(options: argparse.Namespace) -> None:
    """A folder with NAME.key, .csr, .crt and ca.crt, which is a node's key_dir."""
    authority, role = Authority.load(options.dir), Role(options.role)
    hosts = general_names(options.host)
    if role == NODE and not hosts:
        raise BadConfig("a node needs --host, the address or name that others dial")
    folder = options.out or os.path.join(options.dir, options.name)
    certificate = authority.issue(folder, options.name, role, hosts, options.days)
    days = f"{_days_left(certificate):.0f} days"
    print(f"{folder}: {role} {options.name} of {authority.mesh} at {_places(hosts)}, good for {days}")
    if role == NODE:
        print(f"next: copy {folder} to the host; in its config: key_dir=… and username={options.name}")
    else:
        print(f"next: bdwhereis --node HOST:PORT --keys {os.path.join(folder, options.name)} SERVICE")


def show(options: argparse.Namespace) -> None:
    """Role, name, mesh, hosts, days left and issuer of each certificate, or name and hosts of a request."""
    data = keys.read_public(options.file)
    try:
        certificates = openssl.load_all(data)
    except ValueError:
        if b"CERTIFICATE REQUEST-----" not in data:
            raise BadConfig(f"{options.file}: is neither a certificate nor a signing request in PEM") from None
        wish = read_request(options.file)
        print(f"{options.file}: request of CN={wish.name} for {_places(wish.hosts)}")
        return
    for certificate in certificates:
        _show_certificate(certificate, options.file)


def renew(options: argparse.Namespace) -> int:
    """A new certificate over the old one, from the old one; the key stays."""
    if options.name is None:
        if options.within or options.days:
            raise BadConfig("renew: --in and --days are for what a CA renews: renew DIR NAME")
        from bdserver.commands import renewing

        return renewing.renew(options)
    if options.node or options.now:
        raise BadConfig("renew: --node and --now are for what a signer renews: renew DIR/NAME")
    authority = Authority.load(options.dir)
    path = _find_certificate(options.dir, options.name, options.within)
    certificate = authority.renew(path, options.days or DAYS)
    identity, days = identity_of(certificate), f"{_days_left(certificate):.0f} days"
    print(f"{path}: {identity.role} {identity.name} of {authority.mesh}, good for {days} more")
    print("next: it and ca.crt to its host, unless this is it, and `kill -HUP` its bdserverd: no connection is dropped")
    return 0


def roll(options: argparse.Namespace) -> None:
    """A new CA key; ca.crt holds the new certificate and the one before it. Where there are signers, the mesh does the rest."""
    before = Authority.load(options.dir)
    if not options.signers:
        if not options.again:
            before.refuse_another_roll()
        old_key = before.roll(options.days)
        print(f"{options.dir}: a new CA signs from now on; ca.crt holds both, {old_key} is the old one's key")
    if os.path.isdir(os.path.join(options.dir, "signers")):
        path = os.path.join(options.dir, "roll.json")
        statement = Authority.load(options.dir).statement(before.issuer)
        keyfiles.write(path, json.dumps(statement.as_json()).encode() + b"\n")
        print(f"next, on any node: bdctl roll {path}; bdctl status shows how far it is, and nothing else is to be done")
        return
    print("next: 1. this ca.crt to every host, and SIGHUP  2. bdkeys renew each node, and SIGHUP  3. bdkeys roll again one day")


def publisher(options: argparse.Namespace) -> None:
    """NAME.key and NAME.pub."""
    path, key = _make_publisher(options.dir, options.name)
    print(f"{path}: signs services (bdctl publish --sign {path}). Keep it to yourself, and away from the hosts")
    print(f"next, into the list that `publishers` names on every host: {key.public.line} # {options.name}")


def _make_publisher(folder: str, name: str) -> tuple[str, SecretKey]:
    """(the path of the secret key, the key), both of its files on the disk."""
    if not valid_name(name):
        raise BadConfig(f"{name[:60]!r} is no name: 1 to 100 letters, digits and ._-")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    key_path, public_path = (os.path.join(folder, name + suffix) for suffix in (".key", ".pub"))
    for path in (key_path, public_path):
        if os.path.lexists(path):
            raise BadConfig(f"{path}: is there already, and is not overwritten")
    key = SecretKey.of_random(secrets.token_bytes(RANDOM_BYTES))
    durable.replace(key_path, [key.file], mode=0o600)
    durable.replace(public_path, [key.public.file], mode=0o644)
    return key_path, key


# --- what they say and find ---------------------------------------------------------------------------------------


def _places(hosts: Hosts) -> str:
    return ", ".join(str(host.value) for host in hosts) or "no address"


def _days_left(certificate: x509.Certificate) -> float:
    return (openssl.ends(certificate) - datetime.now(UTC)).total_seconds() / 86400


def _show_certificate(certificate: x509.Certificate, path: str) -> None:
    days = _days_left(certificate)
    left = f"{days:.0f} days left" if days >= 0 else f"expired {-days:.0f} days ago"
    issuer = certificate.issuer.rfc4514_string()
    if is_authority(certificate):
        print(f"{path}: CA {certificate.subject.rfc4514_string()}, {left}")
        return
    try:
        identity = identity_of(certificate)
    except ValueError as reason:
        raise BadConfig(f"{path}: {reason}") from None
    print(
        f"{path}: {identity.role} {identity.name} of {identity.mesh} at {', '.join(identity.hosts) or 'no address'}, {left}, "
        f"issued by {issuer}, serial {certificate.serial_number:x}"
    )


def _find_certificate(folder: str, name: str, within: str | None) -> str:
    """Where we are told that it is, else where `issue` or `sign` put it."""
    here = os.path.dirname(default_path()) or "."
    folders = [within] if within else list(dict.fromkeys((os.path.join(folder, name), folder, ".", here)))
    for path in (os.path.join(each, f"{name}.crt") for each in folders):
        if os.path.exists(path):
            return path
    remedy = "" if within else " (say where it is with --in DIR)"
    raise BadConfig(f"{name}.crt is not in {' nor in '.join(folders)}{remedy}")
