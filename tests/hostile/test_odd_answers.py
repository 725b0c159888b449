"""A node that answers what it likes, in whatever shape: whoever asks it goes on, and says in a line why not."""

import contextlib
import os
import random
import time

import pytest

from bdserver.core.membership import Record, Service
from bdserver.errors import BDError, CantFind
from bdserver.net import keys
from tests.hostile.attacks import Liar
from tests.hostile.test_odd_arguments import odd
from tests.hosts import Mesh, until
from tests.unit.gossipers import Peer

SECONDS = float(os.environ.get("SECONDS", "8"))
WORDS = [
    "YES",
    "NO",
    "DONTHAVE",
    "CANTFIND",
    "NETFAULT",
    "ERROR",
    "PONG",
    "SYNCHRONIZE",
    "STATUS",
    "DOCTOR",
    "OK",
    "CERTIFIED",
    "",
    5,
    None,
]
CODES = ["error", "too-busy", "forbidden", "policy-mismatch", "policy-unknown", "deadline", "no-such-command", "x"]


def answer(rng, request):
    """Of the right shape now and then."""
    kind = rng.randrange(6)
    if kind == 0:
        return odd(rng)
    if kind == 1:
        return [rng.choice(WORDS), *(odd(rng) for _ in range(rng.randrange(6)))]
    if kind == 2:
        return ["ERROR", rng.choice(CODES), rng.choice(["x\ny", "\x1b[2J", "x" * 60_000, "", 5])]
    if kind == 3:
        promise = {"tickets": rng.choice([0, 1, 10**18, -1, 1.5]), "seconds": rng.choice([0, 1, 1e308, -1])}
        return [
            "YES",
            rng.choice([80, 0, -1, 10**18]),
            rng.choice(["axis", "", "../.."]),
            rng.choice(["", "http://h/", "x"]),
            promise,
        ]
    if kind == 4:
        return ["NO", {"not_before": rng.choice([0, 1, 1e308, -1, "x"])}]
    described = {"bytes": rng.choice([0, 5, 10**18, -1]), "sha256": rng.choice(["", "a" * 64]), "label": odd(rng)}
    return ["YES", described] if request[0] != "FIND" else ["YES", "evil", described]


@pytest.fixture
def mesh(tmp_path):
    with Mesh(str(tmp_path)) as mesh:
        mesh.start(2, receiver_threshold=1e9, max_dynamic=2)
        mesh.wait_known()
        yield mesh


def test_whatever_a_holder_answers_look_ups_of_others_go_on_and_no_bug_is_met(mesh):
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    print("SEED", seed)
    rng, target = random.Random(seed), mesh.hosts[0]
    evil = keys.load(mesh.issue("evil", role="node", folder=f"{mesh.folder}/evil"), "evil")

    def behave(said):
        while (request := said.hear()) is not None:
            if request[0] != "OPEN":
                said.say(answer(rng, request))

    def behave_among_nodes(said):
        """It is there, or it would soon be asked no more."""
        while (request := said.hear()) is not None:
            if request[0] == "PING":
                said.say(["PONG", "0"])
            elif request[0] != "OPEN":
                said.say(["SYNCHRONIZE", odd(rng)] if rng.randrange(2) else answer(rng, request))

    callers, news = Peer(evil, behave), Peer(evil, behave_among_nodes)
    port, gossip_port = (int(each.address.rpartition(":")[2]) for each in (callers, news))
    offers = {"Evil": Service("static", 1.0, "", True), "Echo": Service("static", 1.0, "", True)}
    record = Record("evil", callers.address, (int(time.time()), 1), services=offers, gossip_port=gossip_port)
    mesh.hosts[1].add_service("Echo")
    Liar(target, evil).tell(Liar(target, evil).says(record))
    until(lambda: "n2" in {each["node"] for each in target.ctl("services").get("Echo", ())}, 10, "another one has it, too")
    until_then = time.monotonic() + SECONDS
    while time.monotonic() < until_then:
        asked = rng.choice(["WHEREIS", "WHEREIS", "FIND", "DOCTOR", "PLACE", "PROBE", "TEND"])
        request = {
            "WHEREIS": ["WHEREIS", "Evil", None], "FIND": ["FIND", "Nowhere", [], 3], "DOCTOR": ["DOCTOR"],
            "PLACE": ["PLACE", "Evil", "evil"], "PROBE": ["PROBE", callers.address], "TEND": ["TEND", ["Evil"]],
        }[asked]  # fmt: skip
        with contextlib.suppress(BDError, CantFind):
            target.ask(request)
        began = time.monotonic()
        found = target.lookup("Echo")
        assert found[-1]["node"] in ("n2", "evil"), f"SEED={seed}: {found}: {target.log[-2000:]}"
        assert time.monotonic() - began < 5, f"SEED={seed}"
    for each in (callers, news):
        each.close()
    for host in mesh.hosts:
        assert host.is_running and host.discoverer_pid()
        assert "Traceback" not in host.log and "a bug" not in host.log, f"SEED={seed}: {host.log[-4000:]}"
    assert port and callers.called
