"""`bdkeys renew DIR/NAME`: a client's or an admin's certificate renewed over itself by a signer of the mesh; for a timer.

Promises that nothing is changed before two thirds of the certificate's life are over, unless told; that what a signer gives is
what it was asked for, or is not taken; that the files are good whenever a crash comes, keep owner and mode, and that the
private key is not touched. While the mesh rolls its CA, each run looks for the next step: another CA is believed only when
one that is believed already has signed that it follows (core.statements), whatever the signer says.

A node of this kind of key needs none of this: its daemon does it (processes.renewing).
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from argparse import Namespace
from base64 import b64decode
from typing import Any

from cryptography import x509

from bdserver import api
from bdserver.core import pages, renewal, statements
from bdserver.core.address import join_address, split_address
from bdserver.core.membership import ALIVE
from bdserver.core.messages import Certified, Status
from bdserver.core.renewal import Life
from bdserver.core.roles import NODE
from bdserver.core.statements import Roll
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig, BadRequest, BDError, CommandFailed, NobodyThere
from bdserver.files import durable, lines
from bdserver.net import chain as chains
from bdserver.net import keyfiles, keys, openssl
from bdserver.net.authority import general_names, request_by
from bdserver.net.entrances import in_turn
from bdserver.net.keys import Credentials
from bdserver.net.proofs import Proofs

# For each conversation: with the node that is asked who signs, and with the signers.
TALK_SECONDS = 10.0
# Of addresses at which the mesh is found next time, so many are kept.
NODES_KEPT = 8
# When so little of its life is left, a certificate that nobody gives a longer one for is a failure.
LATE_SHARE = 1 / 10


class Holder(NamedTuple):
    """Whose certificate: DIR/NAME without a suffix, what lies there, and when it begins and ends."""

    base: str
    credentials: Credentials
    life: Life

    @property
    def said(self) -> str:
        """How it begins every line."""
        identity = self.credentials.identity
        return f"{self.base}: {identity.role} {identity.name} of {identity.mesh}"

    def path(self, suffix: str) -> str:
        """Of one of its files, where it really lies: a link to it stays one."""
        return os.path.realpath(self.base + suffix)


def renew(options: Namespace) -> int:
    """One run of the timer: exit 0 when all is well, renewed or not."""
    now, holder = time.time(), _holder(options.dir or os.environ.get("BDSERVER_KEYS") or "")
    is_due = options.now or now >= holder.life.due_at
    try:
        status = _status(holder, options.node)
    except BDError as error:
        if is_due:
            raise type(error)(f"{holder.said} is not renewed, and ends on {_date(holder.life.ends)}: {error}") from None
        print(f"{_well(holder, now)}; nobody could be asked whether the CA is rolled: {error}")
        return 0
    if not is_due and not status.own.get("roll") and len(holder.credentials.authorities) == 1:
        print(_well(holder, now))
        return 0
    signers = _signers(holder, status)
    certified = in_turn(_ways(signers, holder), time.monotonic() + TALK_SECONDS, _asking(holder))
    print(_take(holder, certified, now, options.now))
    _note_nodes(holder, [*signers, *_addresses(status)])
    return 0


def nodes_path(base: str) -> str:
    """Where the addresses of some nodes stand, one a line, beside the keys at DIR/NAME: renew asks there."""
    return base + ".nodes"


def write_nodes(base: str, addresses: list[str]) -> None:
    """For the renewals to come. What is there already keeps owner and mode."""
    path, good = os.path.realpath(nodes_path(base)), []
    for each in addresses:
        with contextlib.suppress(BadRequest):
            good.append(join_address(*split_address(each, api.PORT)))
    text = "".join(f"{each}\n" for each in list(dict.fromkeys(good))[:NODES_KEPT]).encode()
    durable.replace(path, [text], mode=0o644, like=_like(path))


def _holder(base: str) -> Holder:
    if not base:
        raise BadConfig("renew needs DIR/NAME of a client's or an admin's keys, or $BDSERVER_KEYS")
    if os.path.isdir(base):
        raise BadConfig(
            f"{base}: is a folder; renew DIR NAME is for one with a CA in it, renew DIR/NAME for the keys of a client"
        )
    credentials = keys.load_named(base)
    identity = credentials.identity
    if identity.role == NODE:
        raise BadConfig(f"{base}: is a node's, which its bdserverd renews itself; one by the CA itself: bdkeys renew DIR NAME")
    return Holder(base, credentials, Life(identity.not_before, credentials.not_after))


# --- whom to ask --------------------------------------------------------------------------------------------------


def _status(holder: Holder, nodes: list[str]) -> Status:
    """Of a node that is told, or noted beside the keys; without any, of this host's node."""
    path = nodes_path(holder.base)
    noted = [] if nodes or not os.path.exists(path) else [text for _, text in lines.entries(path, lines.content(path)[0])]
    try:
        addresses = [join_address(*split_address(each, api.PORT)) for each in nodes or noted]
    except BadRequest as error:
        raise BadConfig(f"--node: {error}" if nodes else f"{path}: {error}") from None
    try:
        ways = _ways(addresses, holder) if addresses else api.entrances([], None, None, None)
        return in_turn(ways, time.monotonic() + TALK_SECONDS, pages.status_of)
    except BDError as error:
        if addresses:
            raise
        raise type(error)(f"{error} (say whom to ask with --node HOST)") from None


def _ways(addresses: list[str], holder: Holder) -> list[Any]:
    from bdserver.net import dialling

    return [dialling.entrance(each, holder.credentials) for each in addresses]


def _signers(holder: Holder, status: Status) -> list[str]:
    """Their addresses, in the order in which they are asked."""
    found = {each["name"]: each["address"] for each in status.nodes if each.get("signs") and each["status"] == ALIVE}
    if not found:
        raise NobodyThere(f"{holder.said} is not renewed: {status.own['name']} knows no signer that lives")
    return [found[name] for name in renewal.order("", list(found), (), random.Random())]


def _addresses(status: Status) -> list[str]:
    return [each["address"] for each in status.nodes if each["name"] and each["status"] == ALIVE]


def _note_nodes(holder: Holder, addresses: list[str]) -> None:
    """It is a help for the next time, and no reason to fail."""
    with contextlib.suppress(OSError, BDError):
        write_nodes(holder.base, addresses)


# --- what came ----------------------------------------------------------------------------------------------------


def _asking(holder: Holder) -> Any:
    identity = holder.credentials.identity
    request = request_by(holder.credentials.key, identity.name, general_names(identity.hosts)).decode()
    return lambda talk, deadline: talk.ask(["RENEW", request], deadline)


def _take(holder: Holder, certified: Certified, now: float, is_wished: bool) -> str:
    """Into the files, if it is as it should be, and worth it; what there is to say."""
    ours = holder.credentials
    try:
        chain = chains.from_pem(certified.certificate.encode())
        told = openssl.load_all(certified.authorities.encode())
        believed = _believed(ours, told, certified)
        ours.refuse_other(chain, believed)
    except (ValueError, BDError) as error:
        raise BadConfig(f"{holder.said} is not renewed: {error}") from None
    [*_, root] = chains.roots(believed, chain)
    ends = min(openssl.ends(each).timestamp() for each in (*chain.certificates, root))
    life = Life(ours.identity.not_before, ends)
    is_rolled = not chains.roots([ours.root], chain)
    is_longer = ends >= holder.life.ends if is_wished else renewal.is_gain(holder.life, life)
    is_taken = is_rolled or is_longer
    if is_taken or believed != ours.authorities:
        _write(holder, chain if is_taken else ours.chain, believed)
    if is_taken:
        signer = chain.signer and chains.names_of(chain.signer)
        by = f" by {signer[1]}" if signer else ""
        return f"{holder.said} is renewed{by}, and good for {(ends - now) / 86400:.0f} days"
    if now > holder.life.ends - LATE_SHARE * holder.life.seconds:
        raise CommandFailed(f"{holder.said} is not renewed: no signer gives it longer than until {_date(ends)}")
    return f"{_well(holder, now)}; no signer gives it longer than until {_date(ends)} now"


def _believed(ours: Credentials, told: list[x509.Certificate], certified: Certified) -> list[x509.Certificate]:
    """Of the CAs that the signer told, those that we know, or that one which we know has signed to follow it."""
    proofs = Proofs(ours, lambda identity: None)
    followers = []
    for each in certified.rolls:
        statement = statements.from_json(each)
        said = statements.meaning(statement)
        if isinstance(said, Roll) and proofs.vouch(statement) is None:
            followers.append(x509.load_der_x509_certificate(b64decode(said.authority)))
    return [each for each in told if each in ours.authorities or each in followers]


def _write(holder: Holder, chain: chains.Chain, believed: list[x509.Certificate]) -> None:
    """First the CAs of both certificates, then the new one, then its own CAs alone: after a crash in between all is good."""
    folder = os.path.dirname(holder.base) or "."
    authorities, certificate = os.path.realpath(os.path.join(folder, "ca.crt")), holder.path(".crt")
    both = believed + [each for each in holder.credentials.authorities if each not in believed]
    others = [each for each in _others(folder, certificate) if not chains.roots(believed, each)]
    kept = [each for each in both if each in believed or any(chains.roots([each], other) for other in [chain, *others])]
    for path, data in (
        (authorities, keyfiles.pem(both)),
        (certificate, chain.pem()),
        (authorities, keyfiles.pem(kept)),
    ):
        if lines.content(path)[0] != data:
            durable.replace(path, [data], mode=0o644, like=_like(path))


def _others(folder: str, ours: str) -> list[chains.Chain]:
    """The certificates of others who share the folder, and so its ca.crt."""
    found = []
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(".crt") and name != "ca.crt" and os.path.realpath(path) != ours:
            with contextlib.suppress(BadConfig):
                found.append(keys.load_chain(path))
    return found


def _like(path: str) -> os.stat_result | None:
    return os.stat(path) if os.path.exists(path) else None


# --- what is said -------------------------------------------------------------------------------------------------


def _well(holder: Holder, now: float) -> str:
    days = (holder.life.ends - now) / 86400
    return f"{holder.said} is good for {days:.0f} days, and renewed from {_date(holder.life.due_at)} on"


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
