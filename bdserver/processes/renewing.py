"""A node's own certificate: renewed in time by a signer, and in its turn when the mesh's CA is rolled.

A chore of the discoverer, which asks a signer on one of its lines, as it asks for anything. Only a node whose certificate is
a signer's has it renewed so: one by the CA itself was made by hand, and is renewed by hand. What comes is checked as at a
start, and lies on the disk before it is in force; other processes see by the file's time that it is another one, and no
connection ends for it. When, and by whom, is core.renewal's rule; how far a roll is, core.rolling's.
"""

from __future__ import annotations

import logging
import math
import os
import time
from base64 import b64decode
from typing import Any

from cryptography import x509

from bdserver.core import joining, membership, renewal, rolling, statements
from bdserver.core.membership import LEFT, ROOTS, SIGNER
from bdserver.core.messages import Certified
from bdserver.core.renewal import Life, Renewal
from bdserver.core.rolling import Sight, Stage
from bdserver.core.statements import Roll, Statement, meaning
from bdserver.core.view import View
from bdserver.errors import BadConfig, BDError
from bdserver.net import chain as chains
from bdserver.net import keyfiles, openssl, signing
from bdserver.net.authority import general_names, request_by
from bdserver.net.proofs import fingerprint, holder
from bdserver.processes.line import Talk
from bdserver.processes.lines import Lines
from bdserver.processes.node import Node

RENEW_SECONDS = 10.0
WORDS_CHARACTERS_MAX = 200

log = logging.getLogger("bdserver.renewing")


class Renewing:
    """`look(wall)` is to be called every second or so; BDError when something can't be written."""

    def __init__(self, node: Node, lines: Lines) -> None:
        self.node, self._lines = node, lines
        self._renewal: Renewal | None = None
        self._of = ""  # the digest of the certificate that it is about
        self._is_asking = False

    def look(self, wall: float) -> None:
        """Take the next step, if it is time for one."""
        try:
            self._look(wall)
        except OSError as error:
            raise BadConfig(f"{error.filename or self.node.settings.key_dir}: can't be written: {error.strerror}") from None

    def _look(self, wall: float) -> None:
        node = self.node
        node.look_at_keys()
        if node.credentials.chain.signer is None:
            return
        view = node.cache.view()
        self._roll(view, wall)
        current = self._current()
        by = self._urgent_by(view, wall)
        if by is not None:
            current = self._renewal = current.urged(wall, node.rng, by)
        if current.is_failing(wall):
            ends = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(current.life.ends))
            self._try(wall)
            raise BadConfig(f"it can't be renewed, and ends on {ends}: {current.why}"[:WORDS_CHARACTERS_MAX])
        self._try(wall)

    def _current(self) -> Renewal:
        """The renewal of the certificate that is in force."""
        credentials = self.node.credentials
        if self._renewal is None or credentials.digest != self._of:
            identity = credentials.identity
            draw = int(credentials.digest[:8], 16) / 0x100000000  # the same after a restart
            life = Life(identity.not_before, credentials.not_after, draw)
            self._renewal, self._of = Renewal(life), credentials.digest
        return self._renewal

    def _try(self, wall: float) -> None:
        current = self._current()
        if self._is_asking or not current.is_due(wall):
            return
        node, view = self.node, self.node.cache.view()
        signers = [each.name for each in view.records.values() if each.extra.get(SIGNER) and each.is_there]
        names = renewal.order(node.name, signers, self._avoided(view, wall), node.rng)
        if not names:
            self._failed("no signer is there", wall)
        elif names[0] == node.name and node.signer is not None:
            self._sign_ourselves(wall)
        else:
            self._ask(names[0], view)

    # -- by whom

    def _sign_ourselves(self, wall: float) -> None:
        node, identity = self.node, self.node.credentials.identity
        assert node.signer is not None
        days, hosts = node.settings.certificate_days, general_names(identity.hosts)
        try:
            chain = node.signer.certify(node.credentials.public_key, node.name, identity.role, hosts, days)
            self._take(chain, node.credentials.authorities, node.name)
        except (BDError, OSError) as error:
            self._failed(str(error), wall)

    def _ask(self, name: str, view: View) -> None:
        node, identity = self.node, self.node.credentials.identity
        request = request_by(node.credentials.key, node.name, general_names(identity.hosts)).decode()

        def done(result: Any) -> None:
            self._is_asking = False
            try:
                if not isinstance(result, Certified):
                    raise result
                pem = result.certificate.encode(), result.authorities.encode()
                self._take(chains.from_pem(pem[0]), node.credentials.authorities, name)
            except (BDError, OSError, ValueError) as error:
                self._failed(f"{name}: {error}", node.clock())

        self._is_asking = True
        address = view.records[name].address
        self._lines.start(_renew(request), address, name, self._lines.patience(RENEW_SECONDS), done, is_slow=True)

    def _failed(self, why: str, wall: float) -> None:
        log.info("the certificate of %s is not renewed: %s", self.node.name, why)
        self._renewal = self._current().failed(why[:WORDS_CHARACTERS_MAX], wall, self.node.rng)

    def _take(self, chain: chains.Chain, authorities: list[x509.Certificate], by: str) -> None:
        """Into the file, and into force, if it is as it should be."""
        node = self.node
        identity = node.credentials.refuse_other(chain, authorities)
        ends = min(openssl.ends(each) for each in chain.certificates).timestamp()
        current = self._current()
        if not current.is_urgent and not renewal.is_gain(current.life, Life(identity.not_before, ends)):
            raise BadConfig(f"{by} is no longer good than our certificate is already")
        keyfiles.write(os.path.join(node.settings.key_dir, f"{node.settings.username}.crt"), chain.pem())
        node.read_keys_anew()
        days = node.credentials.days_left(node.clock())
        log.info("the certificate of %s is renewed by %s, for %.1f days", node.name, by, days)

    # -- who vouches for us changes

    def _urgent_by(self, view: View, wall: float) -> float | None:
        """Until when a new certificate is needed, whatever the age of ours: its signer is told to be revoked then, or (inf)
        signers sign by a new CA, and ours is by the old one. None: it is not needed."""
        ends_at = view.revocations.ends_at(holder(self.node.credentials.identity))
        if wall < ends_at < math.inf:
            return ends_at
        newest = _newest(view)
        if newest is None or fingerprint(self.node.credentials.root) == newest:
            return None
        is_signed = any(each.extra.get(SIGNER) == newest for each in view.records.values() if each.is_there)
        return math.inf if is_signed else None

    def _avoided(self, view: View, wall: float) -> set[str]:
        """Signers by whose hand a certificate would not last."""
        newest, found = _newest(view), set()
        signers = [each for each in view.records.values() if each.extra.get(SIGNER)]
        if newest is not None and any(each.extra.get(SIGNER) == newest for each in signers):
            found = {each.name for each in signers if each.extra.get(SIGNER) != newest}
        told = {each.value for each in view.revocations.all(wall) if each.what == statements.SIGNER}
        return found | told

    def _roll(self, view: View, wall: float) -> None:
        """Take a new CA in beside the old one; sign by it when all have it; drop the old one at the end."""
        for statement in list(view.statements.values()):
            roll = meaning(statement)
            if isinstance(roll, Roll):
                self._roll_one(statement, roll, view, wall)

    def _roll_one(self, statement: Statement, roll: Roll, view: View, wall: float) -> None:
        node = self.node
        fresh, old = _der(roll.authority), _der(statement.certificate)
        authorities = node.credentials.authorities
        if fresh not in authorities:
            self._put_authorities([fresh, *authorities])
            log.warning("the CA of %s is rolled: both are believed from now on", node.mesh)
        stage = stage_of(view, roll, node.credentials.identity, wall)
        if stage.may_sign and node.signer is not None:
            self._sign_by(roll)
        if fresh != old and old in node.credentials.authorities and stage.may_drop:
            self._put_authorities([each for each in node.credentials.authorities if each != old])
            log.warning("the roll of the CA of %s is at its end: the old one is dropped", node.mesh)
            with node.cache.locked() as changed:
                changed.unstate(statement.id)

    def _sign_by(self, roll: Roll) -> None:
        """Our signer's certificate by the new CA, if the roll brings one."""
        node = self.node
        assert node.signer is not None
        for certificate in map(_der, roll.signers):
            ours = node.signer.certificate
            is_newer = certificate != ours and openssl.begins(certificate) >= openssl.begins(ours)
            if is_newer and openssl.is_key_of(node.signer.key, certificate):
                path = signing.paths(node.settings.key_dir, node.settings.username)[1]
                keyfiles.write(path, keyfiles.pem([certificate]))
                node.read_keys_anew()
                log.warning("%s signs by the new certificate of its signer", node.name)
                return

    def _put_authorities(self, authorities: list[x509.Certificate]) -> None:
        keyfiles.write(os.path.join(self.node.settings.key_dir, "ca.crt"), keyfiles.pem(authorities))
        self.node.read_keys_anew()


def _renew(request: str) -> Talk:
    """One RENEW; its answer."""
    return (yield ["RENEW", request])


def _der(text: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(b64decode(text))


def _newest(view: View) -> str | None:
    """The CA that the last roll leads to; None when there was none."""
    rolls = view.revocations.rolls
    return joining.fingerprint(b64decode(rolls[-1].authority)).hex() if rolls else None


def stage_of(view: View, roll: Roll, identity: Any, wall: float) -> Stage:
    """How far a roll is, as this view shows it."""
    authority, name = _der(roll.authority), fingerprint(_der(roll.authority))
    life = identity.not_after - identity.not_before
    sights = [_sight(view, each, authority, name) for each in view.records.values() if each.status != LEFT]
    return rolling.stage(sights, wall - roll.at, life)


def _sight(view: View, record: membership.Record, authority: x509.Certificate, name: str) -> Sight:
    text, signer = view.certificates.get(record.certificate, ""), record.extra.get(SIGNER)
    try:
        is_under = bool(text) and bool(chains.roots([authority], chains.from_der(b64decode(text))))
    except ValueError:
        is_under = False
    said = record.extra.get(ROOTS)  # as its node says it, in whatever form
    return Sight(record.name, isinstance(said, list) and name in said, is_under, signer == name if signer else None)


def rolls_told(node: Node, view: View, wall: float) -> list[str]:
    """How far each roll is."""
    identity = node.credentials.identity
    return [stage_of(view, roll, identity, wall).words() for roll in view.revocations.rolls]
