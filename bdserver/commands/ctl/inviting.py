"""bdctl invite: a token for the next host, and what became of those before."""

from __future__ import annotations

import json
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from bdserver.commands import showing
from bdserver.core.joining import read_token
from bdserver.core.messages import Invitations, Invited
from bdserver.core.roles import NODE
from bdserver.errors import BadRequest


def invite(options: Namespace, ask: Callable[[list[Any]], Any]) -> None:
    """Do what the options say, by `ask(request)`."""
    if options.revoke:
        ask(["UNINVITE", _id_of(options.revoke)])
        return
    if options.list:
        _list(ask(["INVITATIONS"]), options.json)
        return
    wish = {"name": options.name, "role": options.role, "uses": options.hosts, "seconds": options.valid}
    said: Invited = ask(["INVITE", wish])
    line = _line(said, options)
    if options.json:
        line = json.dumps({"token": said.token, "address": said.address, "until": said.until, "line": line}, indent=2)
    print(line)
    if said.note:
        print(f"bdctl: note: {said.note}", file=sys.stderr)


def _line(said: Invited, options: Namespace) -> str:
    """What the host types as it stands: without them it would take its own name, and become a node."""
    name = f" --name {options.name}" if options.name else ""
    role = f" --role {options.role}" if options.role != NODE else ""
    return f"bdkeys join {shlex.quote(said.address)} {said.token}{name}{role}"


def _id_of(text: str) -> str:
    """Of an invitation: as it is listed, or by the token that was printed."""
    try:
        return read_token(text).id.hex()
    except BadRequest:
        return text


def _list(said: Invitations, is_json: bool) -> None:
    if is_json:
        print(json.dumps({"invitations": said.invitations, "unknown": said.unknown}, indent=2))
        return
    for each in said.invitations:
        left = each["until"] - time.time()
        until = f", {showing.duration(max(left, 0.0))} left" if each["state"] == "open" else ""
        joined = ", ".join(each["joined"]) or "nobody yet"
        whom = f"{each['role']} {each['name']}" if each["name"] else f"any {each['role']}"
        wrong = f", wrong secrets: {each['wrong']}" if each["wrong"] else ""
        print(f"{each['id']}: {each['state']}{until}; {whom}, {len(each['joined'])} of {each['uses']} ({joined}){wrong}")
    if not said.invitations:
        print("nobody is invited")
    if said.unknown:
        print(f"tokens tried that do not exist here: {said.unknown}")
