"""A node that lies: whatever one holder of a node's certificate tells, nobody takes in, names or asks what is not proved."""

import os
import threading
import time

import pytest

from bdserver.core import membership
from bdserver.core.exchange import RECORDS_TOLD_MAX
from bdserver.core.membership import DEAD, Record, Service, as_json, certificate_digest
from bdserver.net import keys
from tests.hostile.attacks import Liar
from tests.hosts import Mesh, until

LOOK_UP_SECONDS = 1.0  # far above what one takes, far below what one takes that asks somebody silent


def a_liar(mesh, name="liar"):
    """That tells n1, with keys of a node of that name."""
    return Liar(mesh.hosts[0], keys.load(mesh.issue(name, folder=f"{mesh.folder}/{name}-{time.monotonic_ns()}"), name))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """n1 and n2 know each other, and n1 has Echo."""
    with Mesh(str(tmp_path_factory.mktemp("liars"))) as mesh:
        one, two = _started(mesh)
        one.add_service("Echo")
        mesh.wait_known()
        until(lambda: "Echo" in two.ctl("services"), 20, "Echo is told")
        yield mesh


def _started(mesh):
    for name in ("n1", "n2"):
        host = mesh.host(name, receiver_threshold=1e9, revoked="revoked", hints=mesh.hosts[0].address if mesh.hosts else "")
        open(os.path.join(host.folder, "revoked"), "w").close()
        host.start()
    return mesh.hosts


@pytest.fixture
def liar(mesh):
    return a_liar(mesh)


@pytest.fixture(autouse=True)
def all_is_well_afterwards(mesh):
    before = {host.name: host.ask(["STATUS"])[1]["version"] for host in mesh.hosts}
    yield
    one, two = mesh.hosts[:2]
    assert one.status_of("n2") == two.status_of("n1") == "alive"
    for host in (one, two):
        began = time.monotonic()
        assert host.lookup("Echo")[-1]["node"] == "n1" and time.monotonic() - began < LOOK_UP_SECONDS
        version = host.ask(["STATUS"])[1]["version"]
        assert version[0] == before[host.name][0] and version[1] < before[host.name][1] + 50, "it was made to jump"
        assert "Traceback" not in host.log and "met a bug" not in host.log


def names(host):
    return {node["name"] for node in host.nodes()}


def test_what_a_node_says_of_itself_is_taken_in_and_then_it_is_a_node_like_others(liar, mesh):
    """So what follows fails for what it says, and not for how."""
    record = Record("liar", "127.0.0.1:9", (int(time.time()), 1))
    assert liar.tell(liar.says(record)) == {"known": 0}
    assert "liar" in names(mesh.hosts[0])
    assert liar.tell(liar.says(record)) == {"known": 1}
    until(lambda: mesh.hosts[1].status_of("liar") == "dead", 20, "nobody is there")


@pytest.mark.parametrize("how", ["by our key", "by our key, under its certificate", "unsigned", "its signature"])
@pytest.mark.parametrize("what", ["dead", "left", "elsewhere"])
def test_the_record_of_another_node_forged(liar, mesh, how, what):
    """With the highest version of all, which its owner could not outbid."""
    real, certificate = liar.record_of("n2")
    generation = int(time.time()) + 86000
    forged = real._replace(version=(generation, 2**53))
    forged = {
        "dead": forged._replace(status=DEAD, since=time.time()),
        "left": forged._replace(status=membership.LEFT, since=time.time()),
        "elsewhere": forged._replace(
            address="127.0.0.1:9", services={"Echo": Service("static", 1.0, "http://evil.example/", True)}
        ),
    }[what]
    value, text = liar.says(forged, certificate=certificate if "under its" in how else None)
    if how == "unsigned":
        del value["signature"]
    elif how == "its signature":
        value["signature"], value["certificate"] = real.signature, real.certificate
    for host in mesh.hosts:  # also to n2 itself
        liar.host = host
        assert liar.tell((value, text)) == {"known": 0}
    mine, _ = liar.record_of("n2")
    assert mine.said == real.said or mine.version[0] == real.version[0]


def test_left_and_absurd_times_beside_the_statement_of_another(liar):
    real, certificate = liar.record_of("n2")
    for beside in (
        {"status": "left"}, {"status": "suspect", "since": 1e300}, {"status": "dead", "since": time.time() + 90_000},
        {"status": "dead", "since": -1}, {"status": "suspect", "accusers": ["../x"]}, {"status": 5}, {"since": "x"},
    ):  # fmt: skip
        assert liar.tell((as_json(real) | beside, certificate)) in ({"known": 0}, {"known": 1})
        assert liar.record_of("n2")[0] == real


def test_that_another_is_dead_is_refuted_at_once_and_no_more(liar, mesh):
    real, certificate = liar.record_of("n2")
    dead = real._replace(status=DEAD, since=time.time())
    liar.tell((as_json(dead), certificate))
    until(lambda: mesh.hosts[0].status_of("n2") == "alive", 5, "it says that it lives")


def test_an_old_statement_of_another_replayed(liar, mesh):
    old, certificate = liar.record_of("n2")
    mesh.hosts[1].add_service("News")
    until(lambda: "News" in liar.record_of("n2")[0].services, 10, "n2 has changed")
    for value in (as_json(old), as_json(old) | {"status": "dead", "since": time.time()}):
        assert liar.tell((value, certificate)) == {"known": 1}
    assert "News" in liar.record_of("n2")[0].services


@pytest.mark.parametrize(
    "change",
    [
        {"load": 10**18}, {"load": -(10**18)}, {"free_dynamic": 10**12}, {"receiver_threshold": 1e300}, {"web_port": 10**6},
        {"since": 1e300}, {"version": (int(time.time()) + 10 * 86400, 1)}, {"address": "evil.example:9"},
        {"services": {f"S{number}": Service("static", 1.0, "", True) for number in range(1001)}}, {"web_dir": "x" * 501},
        {"services": {"Echo": Service("static", 1e300, "", True)}}, {"extra": {"x": "y" * (256 << 10)}}, {"name": "liar2"},
    ],
)  # fmt: skip
def test_what_a_node_says_of_itself_beyond_any_range(liar, mesh, change):
    before = names(mesh.hosts[0])
    record = Record("liar", "127.0.0.1:9", (int(time.time()) + 100, 1))._replace(**change)
    liar.tell(liar.says(record))
    assert names(mesh.hosts[0]) == before
    node = next((node for node in mesh.hosts[0].nodes() if node["name"] == "liar"), None)
    assert node is None or (node["load"] == 0 and node["version"][0] < time.time() + 50)


def test_certificates_that_are_not_those_of_a_node_of_this_mesh(mesh, tmp_path):
    liar = a_liar(mesh, "forger")
    client = keys.load(mesh.issue("ghost", role="client", folder=str(tmp_path / "client")), "ghost")
    other = keys.load(Mesh(str(tmp_path / "other"), mesh.name).issue("ghost", folder=str(tmp_path / "others")), "ghost")
    revoked = keys.load(mesh.issue("ghost", folder=str(tmp_path / "revoked")), "ghost")
    for host in mesh.hosts:
        with open(os.path.join(host.folder, "revoked"), "w") as file:
            file.write(f"serial {revoked.identity.serial:x}\n")
    record = Record("ghost", "127.0.0.1:9", (int(time.time()), 1))
    for signer in (client, other, revoked, liar.keys):
        assert liar.tell(liar.says(record, by=signer)) == {"known": 0}
    for text in ("", "AAAA", liar.keys.der[:-4]):
        assert liar.tell(liar.says(record, certificate=text)) == {"known": 0}
    assert "ghost" not in names(mesh.hosts[0])
    wanted = "left out of what forger tells: the record of ghost: its certificate is for the role client, not for the role node"
    assert wanted in mesh.hosts[0].log


def test_300_phantoms_that_hold_what_is_asked_for_at_a_silent_address(liar, mesh):
    echo = {"Echo": Service("static", 1.0, "", True)}
    phantoms = [
        liar.says(Record(f"phantom{number}", "127.0.0.1:9", (int(time.time()), 1), services=echo)) for number in range(300)
    ]
    assert liar.tell(*phantoms) == {"known": 0}
    for host in mesh.hosts:
        for _ in range(5):
            began = time.monotonic()
            host.lookup("Echo")
            assert time.monotonic() - began < LOOK_UP_SECONDS
    assert not any(name.startswith("phantom") for name in names(mesh.hosts[0]))


def test_20_000_records_made_up(mesh):
    """Look-ups go on, the teller is not heard any more, and a node that really comes is known within seconds."""
    liar = a_liar(mesh, "flood")
    value, text = liar.says(Record("made-up", "127.0.0.1:9", (1, 1)))
    made_up = [value | {"said": value["said"].replace("made-up", f"made-up-{number}")} for number in range(20_000)]
    answers, is_over = [], threading.Event()

    def flood():
        for first in range(0, len(made_up), RECORDS_TOLD_MAX):
            said = {"records": made_up[first : first + RECORDS_TOLD_MAX], "certificates": {certificate_digest(text): text}}
            answers.append(liar.exchange(said))
        is_over.set()

    thread = threading.Thread(target=flood)
    thread.start()
    host = mesh.host("n3", hints=mesh.hosts[0].address, receiver_threshold=1e9).start()
    took = []
    while not is_over.is_set() or len(took) < 20:
        began = time.monotonic()
        mesh.hosts[0].lookup("Echo")
        took.append(time.monotonic() - began)
    thread.join(60)
    mesh.wait_known(10)
    host.end()
    mesh.hosts.remove(host)
    assert answers[0] == {"known": 0} and answers[1:] == [None] * (len(answers) - 1)
    assert max(took) < LOOK_UP_SECONDS and not any("made-up" in name for name in names(mesh.hosts[0]))
    assert mesh.hosts[0].log.count("flood told too much for a minute") == 1


def test_a_revoked_node_disappears_everywhere_and_does_not_come_back(mesh):
    host = mesh.host("n4", hints=mesh.hosts[0].address, receiver_threshold=1e9).start()
    mesh.wait_known()
    for each in mesh.hosts[:2]:
        with open(os.path.join(each.folder, "revoked"), "a") as file:
            file.write("n4\n")
    for each in mesh.hosts[:2]:
        until(lambda each=each: "n4" not in names(each), 5, f"{each.name} knows it no more")
        assert "n4 is known no longer: the certificate of n4" in each.log
    watched_until = time.monotonic() + 3  # it goes on telling of itself, and the two tell each other
    while time.monotonic() < watched_until:
        assert not any("n4" in names(each) for each in mesh.hosts[:2])
        time.sleep(0.1)
    host.end()
    mesh.hosts.remove(host)
