"""The roles that a certificate of the mesh can give to its holder, from bd://MESH/ROLE/NAME.

Promises one spelling for certificates, the table of requests and the commands. What a role may ask stands in `requests`.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """A node serves and is dialled, a client looks up, an admin gives orders."""

    NODE = "node"
    CLIENT = "client"
    ADMIN = "admin"


NODE, CLIENT, ADMIN = Role.NODE, Role.CLIENT, Role.ADMIN
EVERYONE = (CLIENT, NODE, ADMIN)
