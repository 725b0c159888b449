"""Signatures without cryptography, for views and nodes of tests: a record is signed by a hash that its owner's name goes into."""

from base64 import b64encode
from hashlib import sha256

from bdserver.core import membership
from bdserver.core.membership import certificate_digest


def certificate_of(name):
    """The certificate of that node, as it travels: as long as a real one."""
    return b64encode(f"the certificate of {name} ".encode() * 30)[:800].decode()


def _signature(name, said):
    return b64encode(sha256(f"{name} {said}".encode()).digest() * 2).decode()


def sealed(record):
    """The record as its owner would have signed it."""
    text = certificate_of(record.name)
    said = membership.statement(record)
    return record._replace(said=said, signature=_signature(record.name, said), certificate=certificate_digest(text))


def seal_own(view):
    """What the lock of a cache does on its way out; the view's own certificate is known, too."""
    view.seal(sealed)
    if view.own.certificate:
        view.learn_certificate(view.own.certificate, certificate_of(view.me))
    return view


def believe(record, certificate):
    """For records that nobody has signed."""


def prove(record, certificate):
    """As net.proofs."""
    if certificate != certificate_of(record.name):
        return "its certificate is another's"
    return None if record.signature == _signature(record.name, record.said) else "its signature does not fit"


class Believing:
    """In place of net.proofs.Proofs, for nodes without a key: nothing is signed, everything is believed."""

    digest = certificate = ""

    def seal(self, record):
        return record

    def doubt(self, record, certificate):
        return None

    doubt_certificate = doubt

    def vouch(self, statement):
        return None
