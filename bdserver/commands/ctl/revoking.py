"""bdctl revoke and roll: what a person wants the mesh to believe no longer, or from now on."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from base64 import b64encode
from typing import Any

from bdserver import api
from bdserver.core.names import valid_name
from bdserver.core.roles import ADMIN
from bdserver.core.statements import NAME, PREFIX, SAID_CHARACTERS_MAX, SERIAL, SIGNER, Revocation
from bdserver.errors import BadConfig
from bdserver.files import durable

# What a signer has signed is told in advance, so that its nodes have others sign: else they would all be out at once.
SIGNER_SECONDS = 600.0
# A revocation that an admin signs is kept for so long: longer than a certificate that bdkeys makes is good.
REVOKED_SECONDS = 400 * 86400.0


def wish(options: Namespace) -> dict[str, Any]:
    """The argument of REVOKE: what a signer is to say; over TLS, what an admin says and signs itself."""
    what = SERIAL if options.serial else SIGNER if options.signer else NAME
    value = _value(options, what)
    seconds = options.within if options.within is not None else SIGNER_SECONDS if what == SIGNER else 0.0
    if not options.node:
        return {"what": what, "value": value, "why": options.why, "in": seconds}
    credentials = api.credentials_of(options.keys, options.config)
    if credentials.identity.role != ADMIN:
        raise BadConfig(f"revoke --node needs the keys of an admin, and {credentials.identity.name} is not one")
    at = time.time() + seconds
    text = Revocation(what, value, at, at + REVOKED_SECONDS, options.why).text()
    signature = b64encode(credentials.sign(PREFIX + text.encode())).decode()
    return {"statement": {"said": text, "signature": signature, "certificate": credentials.der}}


def refuse_beside_list(options: Namespace) -> None:
    """BadConfig for a name beside --list: whoever gives both takes it for revoked afterwards."""
    if options.value is not None or options.serial or options.signer or options.within is not None or options.why:
        raise BadConfig("revoke: --list shows what is revoked, and revokes nothing: give it alone")


def _value(options: Namespace, what: str) -> str:
    value = options.value
    if value is None:
        raise BadConfig("revoke needs a NAME, or --list")
    if options.serial and options.signer:
        raise BadConfig("revoke: --serial is for one certificate, --signer for all that one has signed: give one of the two")
    if what != SERIAL:
        if not valid_name(value):
            raise BadConfig(f"{value[:60]!r} is no name")
        return str(value)
    try:
        return f"{int(value.replace(':', ''), 16):x}"
    except ValueError:
        raise BadConfig(f"{value[:60]!r} is no serial number: bdkeys show prints it") from None


def statement_in(path: str) -> dict[str, Any]:
    """What bdkeys roll has written."""
    try:
        said = json.loads(durable.read(path, 4 * SAID_CHARACTERS_MAX)[0])
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise BadConfig(f"{path}: is not what bdkeys roll has written")
    return said


def show(revoked: list[dict[str, Any]], is_json: bool) -> None:
    """What the mesh says to be revoked."""
    if is_json:
        print(json.dumps(revoked, indent=2))
        return
    for each in revoked:
        at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(each["at"]))
        what = "all that is signed by" if each["what"] == SIGNER else each["what"]
        why = f" ({each['why']})" if each["why"] else ""
        print(f"{what} {each['value']}: since {at}{why}")
    if not revoked:
        print("the mesh has revoked nothing (what the file of one node alone revokes is not told here)")
