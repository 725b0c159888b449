"""Which edition a service here is: what is offered is hashed, and what was changed by hand gets a new edition by that.

Hashing takes as long as the files are large: it is done by a child, at the wish of an administrator or of the discoverer, and
never in a look-up. What an edition is, is core.copies' business.
"""

from __future__ import annotations

from bdserver.core import copies
from bdserver.core.membership import Edition
from bdserver.core.view import View
from bdserver.errors import BadService, BDError
from bdserver.files import package, publishers
from bdserver.files.bdcert import Service
from bdserver.processes.node import Node


def digest_of(node: Node, service: Service) -> str:
    """Of what is offered; "" when there is nothing that could be copied."""
    if not service.is_here:
        return ""
    try:
        return _hashed(node, service)
    except BDError:  # it is offered here, and never copied
        return ""


def refuse_uncopied(node: Node, service: Service) -> None:
    """BadService says why what is offered can't be copied."""
    try:
        _hashed(node, service)
    except BDError as error:
        raise BadService(f"others are to have it, and it can't be copied: {error}") from None


def _hashed(node: Node, service: Service) -> str:
    return package.edition_digest(service, node.settings.package_bytes_max, node.settings.package_files_max)


def of_original(node: Node, view: View, service: Service) -> Edition:
    """The edition of a service that an administrator has brought, signed or changed; what is signed anew is a new one, with the
    counter that was signed, if that is above those before."""
    digest, here = digest_of(node, service), node.services.get(service.name)
    if here is not None and here.signature != service.signature:
        here = here._replace(edition=Edition(here.edition.counter))
    at = publishers.counter_of(service.signature, digest) or node.clock()
    return copies.numbered(view, service.name, digest, here, service.after, at)


def to_be_signed(node: Node, view: View, name: str) -> int:
    """The counter for the next edition's signature, so that it is above all that came before."""
    here = node.services.get(name)
    edition = copies.numbered(view, name, "a new one", here, here.after if here is not None else "", node.clock())
    return max(edition.counter, node.trust.newest(name) + 1)


def labelled(service: Service, edition: Edition) -> Service:
    """The service as that edition; of another content, its signature is none."""
    if edition.digest == service.edition.digest:
        return service._replace(edition=edition)
    return service._replace(edition=edition, signer="", signature="")
