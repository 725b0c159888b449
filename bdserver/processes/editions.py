"""Which edition a service here is: what is offered is hashed, and what was changed by hand gets a new edition by that.

Hashing takes as long as the files are large: it is done by a child, at the wish of an administrator or of the discoverer, and
never in a look-up. What an edition is, is core.copies' business.
"""

from __future__ import annotations

from bdserver.core import copies
from bdserver.core.membership import NO_EDITION, Edition
from bdserver.core.view import View
from bdserver.errors import BDError
from bdserver.files import package
from bdserver.files.services import Service
from bdserver.processes.node import Node


def digest_of(node: Node, service: Service) -> str:
    """Of what is offered; "" when there is nothing that could be copied."""
    if not service.is_here:
        return ""
    try:
        return package.edition_digest(service, node.settings.package_bytes_max, node.settings.package_files_max)
    except BDError:  # it is offered here, and never copied
        return ""


def of_original(node: Node, view: View, service: Service) -> Edition:
    """The edition of a service that an administrator has brought or changed: that of the one that is here, if nothing differs,
    else one above all that its copies have, and above what was withdrawn."""
    digest = digest_of(node, service)
    if not digest:
        return NO_EDITION
    here, withdrawal = node.services.get(service.name), view.own.withdrawn.get(service.name)
    last = Edition(withdrawal.counter) if withdrawal is not None else NO_EDITION
    before = here.edition if here is not None else NO_EDITION
    is_same = here is not None and not here.is_copy and before.digest == digest and before.counter > last.counter
    edition = before if is_same else copies.next_edition(digest, node.clock(), before, last)
    return copies.above_copies(view, service.name, edition, service.after)
