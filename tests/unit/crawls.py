"""Crawls made up for tests of the audit: a mesh of any size in which some nodes are dead, silent, overloaded, apart."""

import shutil
import time

import pytest

from bdserver.audit.crawl import Crawl, Hearsay, Offer, Sight, Status
from bdserver.core import attention, policy
from bdserver.core.attention import Facts

DOCUMENT = '<Policy xmlns="http://schemas.xmlsoap.org/ws/2004/09/policy" xmlns:t="urn:t"><All>{}</All></Policy>'
HOSTILE = ['"];evil[label="', "<b>&amp;</b>", "back\\", "line\nfeed", "\x00\x1b[31m", "💥" * 400]
needs_graphviz = pytest.mark.skipif(shutil.which("neato") is None, reason="needs Debian's graphviz")
SERVICES = ("Primes", "TimeOfDay", "Temperature", "Orders", "Stock", "Users", "Mail", "Search", "Billing", "Maps")


def document(*assertions):
    """A policy of one alternative."""
    return DOCUMENT.format("".join(f"<t:{name}/>" for name in assertions))


def status(name, number=1, services=None, weight=10.0, text=None, **changes):
    """What a healthy node says of itself."""
    services = {} if services is None else services
    made = Status(
        name,
        f"10.0.0.{number}:9001",
        "demo",
        "1.0",
        weight,
        100.0,
        weight > 100,
        False,
        5,
        4000.0 + number,
        300.0,
        text,
        "lax",
        None,
        [],
        attention.findings(Facts(name, f"10.0.0.{number}:9001", 0.0, load=weight / 100)),
        [],
        services,
    )
    return made._replace(**changes)


def sight(name, number=1, state="alive", talkable=True, heard_at=None):
    """What a node says of another."""
    return Sight(name, f"10.0.0.{number}:9001", state, (1, number), talkable, time.time() - 2 if heard_at is None else heard_at)


def offers(number, weight):
    """The services of the node with this number."""
    names = [SERVICES[(number * 7 + k * 3) % len(SERVICES)] for k in range(number % 4)]
    return {
        name: Offer(
            "dynamic" if (number + k) % 3 == 0 else "static",
            weight / len(names),
            1.0,
            not (number == 5 and k == 0),
            f"http://10.0.0.{number}:8080/axis/{name}?wsdl",
        )
        for k, name in enumerate(names)
    }


def mesh(count, dead=(), suspect=(), left=(), silent=(), overloaded=(), unknown=(), policies=()):
    """A crawl of `count` nodes n000, n001, …: the sets name numbers. `unknown`: (A, B), A does not know B.
    `policies`: texts, or None, of the nodes in turn."""
    names = [f"n{number:03}" for number in range(count)]
    texts = [policies[number % len(policies)] if policies else None for number in range(count)]
    parsed = {text: policy.parse(text) if text else None for text in texts}
    can_talk = {(a, b): policy.can_talk(parsed[a], parsed[b]) for a in parsed for b in parsed}
    states = {**dict.fromkeys(dead, "dead"), **dict.fromkeys(suspect, "suspect"), **dict.fromkeys(left, "left")}
    # What is said of a node differs by nothing but who can talk to it, so few are made, and shared.
    said = {
        talkable: [sight(name, number, states.get(number, "alive"), talkable) for number, name in enumerate(names)]
        for talkable in (True, False)
    }
    statuses, sights = {}, {}
    for number, name in enumerate(names):
        if number in states or number in silent:
            continue
        weight = 130.0 if number in overloaded else (number * 37) % 90
        statuses[name] = status(name, number, offers(number, weight), weight, texts[number])
        sights[name] = {
            other: said[can_talk[texts[number], texts[k]]][k] for k, other in enumerate(names) if (number, k) not in unknown
        }
    digests = {policy.digest(text): text for text in policies if text}
    hearsay = {
        name: Hearsay(
            {k: v._replace(weight=None) for k, v in offers(number, 1.0).items()},
            3,
            100.0,
            policy.digest(texts[number]) if texts[number] else None,
            False,
        )
        for number, name in enumerate(names)
    }
    failures = {names[number]: ("deadline", "the time is over") for number in silent}
    entry = next(iter(statuses))
    return Crawl(time.time(), 0.123, entry, statuses, sights, hearsay, failures, [], digests)


def troubled():
    """Eight nodes: one dead, one suspect, one silent, one overloaded, one left, one that another does not know."""
    return mesh(8, dead=[3], suspect=[4], left=[7], silent=[6], overloaded=[2], unknown=[(0, 5)])


# --- pictures -----------------------------------------------------------------------------------------------------


def rgb(colour):
    """(red, green, blue) of #rrggbb."""
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))


def has_colour(image, colour):
    """Whether any pixel has it."""
    return any(pixel == rgb(colour) for _, pixel in image.getcolors(1 << 24))
