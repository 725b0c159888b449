"""Two live nodes of one name: what each of them says of it, so that every node of the mesh can say which two they are.

Only the two find it out, each by a newer record of its own name from another address (`view.View.living_rival`): to all others
it is one record that changes. So both tell in their records where the two are, and by which certificates.

Promises that what a record says of it is bounded before it is shown. A node is believed in that as in whatever it says of
itself, and nothing else follows from it. Leaves to `attention` how it is told, and to the signers that no second one is let in.
"""

from __future__ import annotations

import re
from typing import Any

from bdserver.core.address import join_address, split_address
from bdserver.core.membership import ADDRESS_CHARACTERS_MAX, Record
from bdserver.core.names import valid_name
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadRequest

# The field of a record beside those that all have.
FIELD = "rival"
# X.509 has serial numbers of 20 bytes.
_SERIAL = re.compile("[0-9a-f]{1,40}")


class Claim(NamedTuple):
    """Where a node of the name is; of its certificate the serial number in hex, "" where it is not known, and who signed it,
    "" for the CA itself."""

    address: str
    serial: str = ""
    signer: str = ""

    @property
    def words(self) -> str:
        """For a person."""
        by = f"signed by {self.signer}" if self.signer else "signed by the CA"
        return f"at {self.address}" + (f" (serial {self.serial}, {by})" if self.serial else "")


class Namesakes(NamedTuple):
    """The two, in no order: `one` is whoever tells it."""

    one: Claim
    other: Claim

    @property
    def words(self) -> str:
        """For a person, the same whoever of the two tells it."""
        return " and ".join(claim.words for claim in sorted(self))

    def as_json(self) -> list[list[str]]:
        """For the record of one of them."""
        return [list(claim) for claim in sorted(self)]


def told(record: Record) -> Namesakes | None:
    """What a node says of another one of its name; None where it says nothing, or nothing that is to be shown."""
    said = record.extra.get(FIELD)
    try:
        one, other = map(_claim, said) if isinstance(said, list) else (None, None)
    except (TypeError, ValueError, BadRequest):
        return None
    return Namesakes(one, other) if one is not None and other is not None else None


def _claim(said: Any) -> Claim | None:
    address, serial, signer = said
    if not all(isinstance(each, str) for each in said) or len(address) > ADDRESS_CHARACTERS_MAX:
        return None
    is_normal = join_address(*split_address(address)) == address
    is_well = is_normal and (not serial or _SERIAL.fullmatch(serial)) and (not signer or valid_name(signer))
    return Claim(address, serial, signer) if is_well else None
