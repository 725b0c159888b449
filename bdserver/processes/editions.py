"""Which edition a service here is: what is offered is hashed, and what was changed by hand gets a new edition by that.

Hashing takes as long as the files are large: it is done by a child, at the wish of an administrator or of the discoverer, and
never in a look-up. What an edition is, is core.copies' business.
"""

from __future__ import annotations

from bdserver.core import copies
from bdserver.core.membership import Edition
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
    """The edition of a service that an administrator has brought or changed."""
    digest, here = digest_of(node, service), node.services.get(service.name)
    return copies.numbered(view, service.name, digest, here, service.after, node.clock())
