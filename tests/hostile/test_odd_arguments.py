"""Whatever stands in a request's arguments that its shape lets through: an answer, or one that says why not, and never a bug."""

import contextlib
import copy
import itertools
import os
import random
import time

import pytest

from bdserver.core import messages
from bdserver.core.messages import NEWS
from bdserver.errors import BDError
from bdserver.net import keys
from tests.hosts import Mesh, until
from tests.unit.gossipers import Said

COUNT, SECONDS = int(os.environ.get("COUNT", "1500")), float(os.environ.get("SECONDS", "8"))

NUMBERS = [0, 1, -1, 2**53, 2**63 - 1, -(2**63) + 1, 1e308, -1e308, 5e-324, 0.5, 1_700_000_000, 10**18]
TEXTS = [
    "", "Echo", "n1", "n2", "..", "/", "a" * 100, "a" * 101, "x" * 65_536, "\0", "\n", "a\nb", "\x1b[31m", "%s%n", "é", "\u202e", "\U0001f600",
    "127.0.0.1:1", "[::1]:1", ":0", "h:99999", "http://[x/", "1e999", "NaN", "9" * 400, "../../etc/passwd", "-x", "*", "٣", "\ufeff",
    "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n", "1 " + "a" * 64 + " x x x",
]  # fmt: skip
OTHERS = [None, True, False, [], {}, [[]], [None], {"": {}}, [1, [2, [3, [4, [5, [6, [7]]]]]]]]
# What objects have in requests, beside their shapes.
KEYS = [
    "of", "brief", "from", "detail", "timeline", "bytes", "sha256", "url", "weight", "type", "name", "role", "uses", "seconds", "what",
    "value", "at", "why", "in", "statement", "said", "signature", "certificate", "spent", "self", "n2", "Echo", "original", "edition", "signer",
    "digest", "versions", "wanted", "unmet", "records", "policies", "certificates", "unknown", "known", "stated", "statements", "refused",
    "until", "buckets", "now", "health", "replicas", "copies", "take_over",
]  # fmt: skip
# These end the node, as they should.
DEADLY = {"LEAVE", "KILL"}


def odd(rng, depth=0):
    """Anything that travels."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return rng.choice(TEXTS)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind == 4:
        return copy.deepcopy(rng.choice(OTHERS))
    if kind == 5:
        return [odd(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(KEYS + TEXTS[:6]): odd(rng, depth + 1) for _ in range(rng.randrange(5))}


def fitting(rng, field):
    """What its shape lets through, if that is found soon."""
    for _ in range(40):
        value = odd(rng)
        with contextlib.suppress(Exception):
            if field.is_right(value):
                return value
    return odd(rng)


def request(rng, row):
    count = rng.randrange(sum(not each.optional for each in row.arguments), len(row.arguments) + 1)
    return [row.name, *(fitting(rng, each) for each in row.arguments[:count])]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    with Mesh(str(tmp_path_factory.mktemp("odd"))) as mesh:
        mesh.start(2, receiver_threshold=1e9, max_dynamic=2)
        mesh.hosts[0].add_service("Echo")
        mesh.wait_known()
        yield mesh


@pytest.mark.parametrize(("role", "port"), [("client", "callers"), ("node", "callers"), ("admin", "callers"), ("node", "news")])
def test_odd_arguments_meet_no_bug(mesh, role, port):
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    print("SEED", seed)
    rng, target = random.Random(seed), mesh.hosts[0]
    name = f"odd-{role}-{port}"
    credentials = keys.load(mesh.issue(name, role=role, folder=f"{mesh.folder}/{name}"), name)
    rows = [row for row in messages.REQUESTS.values() if role in row.roles and row.name not in DEADLY]
    rows = [row for row in rows if (NEWS in row.ports) == (port == "news")] if port == "news" else rows
    number = target.config["port"] + (1 if port == "news" else 0)
    said, until_then = None, time.monotonic() + SECONDS
    discoverer = target.discoverer_pid()
    for _, row in zip(range(COUNT), itertools.cycle(rows), strict=False):
        if time.monotonic() > until_then:
            break
        asked = request(rng, row)
        try:
            said = said or Said.dial(number, credentials)
            answer = said.ask(asked)
        except BDError:
            answer = None
        if answer is None or row.name == "PUBLISH":  # it hung up, or waits for a package
            if said is not None:
                said.close()
            said = None
            continue
        assert "bug" not in str(answer)[:300], f"SEED={seed}: {asked}: {answer}: {target.log[-3000:]}"
    for host in mesh.hosts:
        assert "Traceback" not in host.log and "a bug" not in host.log, f"SEED={seed}: {host.log[-3000:]}"
    assert target.is_running and target.discoverer_pid() == discoverer
    until(lambda: "Echo" in target.ctl("services") or target.ctl("services") is not None, 10, "it answers")
