"""bdctl services: which services there are, who has each, and how the copies of one stand.

All of it is what one node knows, by core.holding; of one service, its holders are asked for their own word on its weight, and
on who calls it.
"""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

from bdserver.commands import calling, showing
from bdserver.core import attention, holding, pages
from bdserver.core.holding import Holder
from bdserver.core.membership import SUSPECT
from bdserver.core.messages import Status
from bdserver.errors import BDError, CantFind, Deadline
from bdserver.net.conversation import Conversation

# Of one service, so many holders are asked for their word, and for so long together: it is of interest, no more.
ASKED_MAX, ASKED_SECONDS = 50, 2.0
# Of a holder, the callers that called most.
CALLERS_SHOWN = 10
# Of a publisher's key, as of an edition, so much is shown.
SIGNER_SHOWN = 16
_UNKNOWN = "-"


def everything(said: Status) -> tuple[list[list[Any]], list[str]]:
    """A row for each holder of each service, and the heads."""
    rows = []
    for name, holders in holding.services(said).items():
        count = holding.whole_of(holders).living_of_wanted
        rows += [[name, each["node"], _kind(each), count, each["url"]] for each in holders]
    return rows, ["service", "node", "type", "holders", "url"]


def _kind(holder: dict[str, Any]) -> str:
    held = holding.from_json(holding.kind_of(holder["type"]), holder)
    return ", ".join([holder["type"], *held.marks, *_unchecked(held)])


def _unchecked(held: Holder) -> list[str]:
    """Its web server may be gone."""
    return [] if held.checked else ["not checked"]


def one(options: Namespace) -> dict[str, Any]:
    """Of one service: the documented shape of `bdctl services NAME --json`; CantFind when nobody who lives has it."""
    return calling.conversation(options, lambda talk, deadline: _one(talk, deadline, options.service))


def _one(talk: Conversation, deadline: float, name: str) -> dict[str, Any]:
    said = pages.status_of(talk, deadline, {"detail": name})
    holders = holding.services(said).get(name, [])
    if not holders:
        raise CantFind(f"{name}: no living node that is known here has it")
    whole, nodes = holding.whole_of(holders), {node["name"]: node for node in said.nodes}
    words = _words(talk, deadline, name, said, [each["node"] for each in holders])
    return {
        "service": name,
        "living": whole.living,
        "wanted": whole.wanted,
        "edition": list(whole.newest),
        "rivals": whole.rivals and {"digests": dict(whole.rivals.digests), "since": whole.rivals.since},
        "findings": [attention.as_json(finding) for finding in whole.findings()],
        "holders": [
            {**each, "status": nodes[each["node"]]["status"], "weight": None, **words.get(each["node"], {})}
            for each in sorted(holders, key=lambda each: (each["type"] != "static", each["node"]))
        ],
    }


def _words(talk: Conversation, deadline: float, name: str, said: Status, nodes: list[str]) -> dict[str, dict[str, Any]]:
    """node -> its own word on the service, of those that answer in time: the node that is asked, and others through it."""
    found = {said.own["name"]: _word(said.own, name)} if name in said.own["services"] else {}
    until = min(deadline, time.monotonic() + ASKED_SECONDS)
    suspects = {node["name"] for node in said.nodes if node["status"] == SUSPECT}
    for node in [node for node in nodes if node not in found and node not in suspects][:ASKED_MAX]:
        try:
            theirs = talk.ask(["STATUS", {"of": node, "brief": True, "detail": name}], until).own
        except Deadline:  # nobody knows what comes next on this connection
            break
        except BDError:
            continue
        if name in theirs["services"]:
            found[node] = _word(theirs, name)
    return found


def _word(own: dict[str, Any], name: str) -> dict[str, Any]:
    """The weight; and who called how often within the last minute, where that is told."""
    told = own.get("askers")
    callers = holding.callers(told.get(name)) if isinstance(told, dict) else []
    return {"weight": own["services"][name]["weight"], "callers": [[client, calls] for client, calls in callers if client]}


def shown(found: dict[str, Any]) -> list[str]:
    """For a person."""
    holders, now = found["holders"], time.time()
    lines = [f"{found['service']}: {_holders(found['living'], found['wanted'])}"]
    lines += [f"  WARNING: {finding.line}" for finding in map(attention.from_json, found["findings"])]
    rows = []
    for each in holders:
        held = holding.from_json(holding.kind_of(each["type"]), each)
        counter, digest = held.edition
        state = [each["status"]] if each["status"] != "alive" else []
        rows.append(
            [
                each["node"],
                held.words,
                digest or _UNKNOWN,
                showing.duration(max(now - counter, 0)) if digest else _UNKNOWN,
                held.signer[:SIGNER_SHOWN] or _UNKNOWN,
                f"{each['weight']:g}" if each["weight"] is not None else _UNKNOWN,
                ", ".join([*state, *held.marks, *_unchecked(held)]) or "well",
                each["url"],
            ]
        )
    lines += showing.table(rows, ["node", "what", "edition", "age", "signer", "weight", "state", "url"])
    return lines + [f"  called at {each['node']}: {_callers(each['callers'])}" for each in holders if each.get("callers")]


def _callers(callers: list[list[Any]]) -> str:
    """Those of the last minute, and how often."""
    words = [f"{client} {calls} x" for client, calls in callers[:CALLERS_SHOWN]]
    return ", ".join(words) + (f" and {len(callers) - len(words)} more" if len(callers) > len(words) else "")


def _holders(living: int, wanted: int) -> str:
    if wanted:
        return f"{living} of {wanted} holders"
    return "1 holder" if living == 1 else f"{living} holders"
