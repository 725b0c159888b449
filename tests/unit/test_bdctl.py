"""Each subcommand of bdctl: what it asks, what it prints as text and as JSON, how it ends. No node runs here."""

import errno
import getpass
import io
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from bdserver import __version__, api, errors
from bdserver.commands import bdctl
from bdserver.commands.ctl import nodes, publishing, services, watching
from bdserver.core import shapes
from bdserver.core.messages import (
    Found,
    Goodbye,
    Graveyard,
    NoPong,
    NotFound,
    Ok,
    Pong,
    Status,
    Withdrawn,
)
from bdserver.errors import (
    BadConfig,
    Deadline,
    Forbidden,
    NobodyThere,
    PolicyMismatch,
    TooBusy,
)
from bdserver.files import package
from bdserver.files.password import password_matches
from bdserver.net.container import Container
from bdserver.processes.pidfile import PidFile
from tests.unit.canned import OFFER, Node, let_dial, let_in, outcome, own, seen, unvisited


@pytest.fixture
def node(monkeypatch):
    """The node that commands ask; a test changes its answers."""
    node = Node()
    let_in(monkeypatch, node)
    return node


@pytest.fixture
def run(capsys):
    return lambda *arguments: outcome(bdctl.main, arguments, capsys)


@pytest.fixture
def told(run):
    """The parsed JSON of a command that goes well and has nothing to complain of."""

    def run_it(*arguments):
        status, out, err = run("--json", *arguments)
        assert (status, err) == (0, "")
        return json.loads(out)

    return run_it


# --- looking ------------------------------------------------------------------------------------------------------


def test_ping_of_the_node_itself(node, run, told):
    node.answers["PING"] = Pong("digest")
    status, out, err = run("ping")
    assert (status, err) == (0, "") and out.startswith("this node: PONG in ")
    [row] = told("ping")
    assert row["answer"] == "PONG" and row["ms"] >= 0


def test_ping_takes_names_and_addresses_and_the_usual_port(node, run):
    node.answers |= {"PROBE": Pong(), "STATUS": Status(own(), [seen("alpha"), seen("gamma", 3), unvisited("10.0.0.9:1")])}
    status, out, _ = run("ping", "gamma", "10.0.0.2", "10.0.0.4:77", "fe80::1")
    assert status == 0 and node.requests() == [
        ["PROBE", "10.0.0.3:9001"],
        ["PROBE", "10.0.0.2:9001"],
        ["PROBE", "10.0.0.4:77"],
        ["PROBE", "[fe80::1]:9001"],
    ]
    assert out.startswith("10.0.0.3:9001: PONG in ")


def test_ping_of_addresses_alone_asks_for_no_list_of_nodes(node, run):
    node.answers["PROBE"] = Pong()
    assert run("ping", "10.0.0.2:9001")[0] == 0 and node.asked == [["PROBE", "10.0.0.2:9001"]]


def test_ping_all_asks_after_everybody_who_has_not_left(node, run, told):
    known = [seen("alpha"), seen("beta", 2, status="dead"), seen("gone", 3, status="left"), unvisited("10.0.0.9:9001")]
    node.answers |= {"STATUS": Status(own(), known), "PROBE": Pong()}
    assert [row["address"] for row in told("ping", "--all")] == ["10.0.0.1:9001", "10.0.0.2:9001", "10.0.0.9:9001"]


def test_ping_of_a_silent_node_is_exit_4_and_says_why(node, run):
    node.answers["PROBE"] = lambda address: NoPong("refused", f"{address}: connection refused")
    status, out, _ = run("ping", "10.0.0.2")
    assert status == 4 and out.startswith("10.0.0.2:9001: connection refused in "), "its address once"


def test_ping_of_all_and_of_some_is_wrong_usage(node, run):
    status, out, err = run("ping", "--all", "beta")
    assert (status, out, node.asked) == (2, "", []) and "--all is all that are known" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["revoke", "beta", "--list"],
        ["revoke", "--list", "--in", "10m"],
        ["invite", "beta", "--list"],
        ["invite", "beta", "--revoke", "1f"],
        ["invite", "--list", "--revoke", "1f"],
    ],
)
def test_a_list_beside_what_would_change_something_is_wrong_usage(node, run, arguments):
    """Who has typed it would believe that beta is out, or in."""
    status, out, err = run(*arguments)
    assert (status, out, node.asked) == (2, "", []) and "give" in err and err.count("\n") == 1


def test_status_at_a_glance(node, run):
    services = {
        "Echo": OFFER | {"checked": True},
        "Old": OFFER,
        "Sick": OFFER | {"healthy": False, "checked": True},
        "Wiki": OFFER | {"checked": False},
    }
    noted = [{"severity": "note", "key": "unchecked", "text": "nobody looks at Wiki", "remedy": "health=http"}]
    node.answers["STATUS"] = Status(own(services=services, uptime=90000.0 * 3, findings=noted), [seen("alpha")])
    status, out, err = run("status")
    assert (status, err) == (0, "")
    assert "alpha of home at 10.0.0.1:9001, BDserver 1.0.0" in out and "up 3 d, nodes known: 2" in out
    assert "weight 1.5 of 100: has room\n" in out and "certificate: 300 days left" in out
    assert "well: nothing needs attention\n  note: nobody looks at Wiki: health=http\n" in out
    rows = {line.split()[0]: line.split("  ") for line in out.splitlines()[-4:]}
    healthy = {name: [cell.strip() for cell in cells if cell][4] for name, cells in rows.items()}
    assert healthy == {"Echo": "yes", "Old": "yes", "Sick": "NO", "Wiki": "not checked"}


def test_status_says_what_needs_attention(node, run):
    changed = own(overloaded=True, draining=True, warnings=["a.bdcert:1: bad", "two nodes are named alpha"], services={})
    node.answers["STATUS"] = Status(changed, [])
    _, out, _ = run("status")
    assert ": overloaded, draining\n" in out and "  WARNING: two nodes are named alpha\n" in out
    assert "well" not in out and "healthy" not in out


def test_status_as_json_is_the_nodes_own_word(node, told):
    assert told("status") == own()


def test_nodes_says_of_the_node_that_it_is_itself(node, run):
    known = [
        seen("beta", 2, draining=True, talkable=False, services=()),
        seen("alpha", heard_at=1.0),
        seen("dead", 3, status="dead", heard_at=1.0),
        unvisited("10.0.0.9:9001"),
    ]
    node.answers["STATUS"] = Status(own(), known)
    status, out, _ = run("nodes")
    hint, alpha, beta, dead = (line for line in out.splitlines()[1:])
    assert status == 0 and alpha.split()[-2:] == ["itself", "Echo"]
    assert hint.split()[:3] == ["?", "10.0.0.9:9001", "unvisited"] and "never" in hint
    assert "alive, draining, not talkable" in beta and beta.endswith("-") and " d ago" in dead


def test_nodes_as_json_has_the_documented_shape(node, told):
    node.answers["STATUS"] = Status(own(), [seen("beta", 2), seen("alpha")])
    rows = told("nodes")
    assert [row["name"] for row in rows] == ["alpha", "beta"] and rows[1] == seen("beta", 2)
    assert tuple(rows[0])[: len(shapes.NODE_SHAPE)] == shapes.NODE_SHAPE


def test_services_are_those_of_nodes_that_are_there(node, run, told):
    known = [seen("beta", 2, ["Echo", "Wiki"]), seen("alpha"), seen("dead", 3, ["Old"], status="dead")]
    node.answers["STATUS"] = Status(own(), known)
    _, out, _ = run("services")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["Echo", "beta", "static"],
        ["Echo", "alpha", "static"],
        ["Wiki", "beta", "static"],
    ]
    url = "http://10.0.0.2:8080/axis/Wiki?wsdl"
    assert told("services")["Wiki"][0].items() >= {"node": "beta", "type": "static", "url": url, "stale": False}.items()
    node.answers["STATUS"] = Status(own(), [])
    assert run("services") == (0, "no services are known\n", "")


def a_service_of_three():
    """An original that wants three holders, a copy that is stale, and another one that is silent."""
    copy = {"original": "alpha", "edition": [50, "0d0d0d0d"], "replicas": 3}
    return Status(
        own(services={"Echo": OFFER | {"living": 2, "wanted": 3, "edition": [100, "abababab"]}}),
        [
            seen("beta", 2, types={"Echo": "dynamic"}, offers={"Echo": copy | {"stale": True}}),
            seen("alpha", offers={"Echo": {"edition": [100, "abababab"], "replicas": 3, "signer": "RWQ" + "f" * 29}}),
            seen("dead", 3, status="dead"),
        ],
    )


def asked_by_wish(of=None, **answers):
    """STATUS of the node itself, or of another one through it."""

    def answer(wish=None):
        said = answers.get(wish.get("of")) if wish and "of" in wish else of
        if isinstance(said, Exception):
            raise said
        return said

    return answer


def test_services_shows_how_many_of_those_that_are_wanted_hold_one(node, run):
    node.answers["STATUS"] = a_service_of_three()
    _, out, _ = run("services")
    assert [" ".join(line.split()[:-1]) for line in out.splitlines()] == [
        "service node type holders",
        "Echo beta dynamic, stale 2 of 3",
        "Echo alpha static 2 of 3",
    ]
    assert "2 of 3   abababab  http" in run("status")[1]


def test_one_service_is_shown_with_each_of_its_holders(node, run, told):
    beta = Status(own("beta", services={"Echo": OFFER | {"weight": 7.25}}), [])
    node.answers["STATUS"] = asked_by_wish(a_service_of_three(), beta=beta)
    status, out, err = run("services", "Echo")
    lines = out.splitlines()
    assert (status, err) == (0, "") and lines[0] == "Echo: 2 of 3 holders"
    assert lines[1:3] == [
        "  WARNING: copies that are older than their original: beta",
        "  WARNING: 2 of 3 holders live: do enough hosts have a free slot, and may they have it?",
    ]
    cells = [[cell for cell in line.split("  ") if cell] for line in lines[4:]]
    shown = [[cell.strip() for cell in row] for row in cells]
    assert [[*row[:3], *row[4:7]] for row in shown] == [
        ["alpha", "original", "abababab", "RWQfffffffffffff", "1.5", "well"],
        ["beta", "copy of alpha", "0d0d0d0d", "-", "7.25", "stale"],
    ]
    assert all(row[3].endswith(" d") for row in shown)
    found = told("services", "Echo")
    assert {key: found[key] for key in ("service", "living", "wanted", "edition", "rivals")} == {
        "service": "Echo", "living": 2, "wanted": 3, "edition": [100, "abababab"], "rivals": None,
    }  # fmt: skip
    assert [(each["node"], each["weight"], each["status"]) for each in found["holders"]] == [
        ("alpha", 1.5, "alive"), ("beta", 7.25, "alive"),
    ]  # fmt: skip
    assert [each["key"] for each in found["findings"]] == ["stale", "short"]


def test_who_called_a_holder_is_shown_to_whom_it_is_told(node, run, told):
    said, beta = a_service_of_three(), own("beta", services={"Echo": OFFER})
    said.own["askers"] = {"Echo": [[f"192.0.2.{k}", 20 - k] for k in range(12)]}
    beta["askers"] = {"Echo": [["192.0.2.9\x1b", 3], ["", 2], 7, ["x"]]}
    node.answers["STATUS"] = asked_by_wish(said, beta=Status(beta, []))
    assert [len(each["callers"]) for each in told("services", "Echo")["holders"]] == [12, 1]
    first, second = run("services", "Echo")[1].splitlines()[-2:]
    assert first.startswith("  called at alpha: 192.0.2.0 20 x, 192.0.2.1 19 x, ") and first.endswith(" 11 x and 2 more")
    assert second == "  called at beta: 192.0.2.9? 3 x"
    beta["askers"] = said.own["askers"] = 7
    assert "called" not in run("services", "Echo")[1]


@pytest.mark.parametrize("silence", [NobodyThere("beta: gone"), Deadline("over"), Status(own("beta", services={}), [])])
def test_the_weight_of_a_silent_holder_is_not_known(node, run, told, silence):
    node.answers["STATUS"] = asked_by_wish(a_service_of_three(), beta=silence)
    assert [each["weight"] for each in told("services", "Echo")["holders"]] == [1.5, None]
    assert " -       stale" in run("services", "Echo")[1]


def test_rivals_of_a_service_are_named(node, run, told):
    alpha, beta = ({"Echo": {"edition": [100 + k, 8 * "ab"[k]]}} for k in (0, 1))
    said = Status(own(services={}), [seen("alpha", offers=alpha), seen("beta", 2, offers=beta, status="suspect")])
    node.answers["STATUS"] = asked_by_wish(said, alpha=NobodyThere("no"))
    assert told("services", "Echo")["rivals"] == {"digests": {"alpha": "aaaaaaaa", "beta": "bbbbbbbb"}, "since": 101}
    out = run("services", "Echo")[1]
    assert out.startswith("Echo: 2 holders\n  WARNING: originals of one name that differ: alpha (edition aaaaaaaa), beta ")
    assert "suspect" in out and not [each for each in node.asked if each[1:] and each[1].get("of") == "beta"]


def test_a_holder_whose_health_nobody_looks_at_is_not_called_well(node, run, told):
    said = Status(own(services={}), [seen("alpha", offers={"Echo": {"checked": False}}), seen("beta", 2)])
    node.answers["STATUS"] = asked_by_wish(said, alpha=NobodyThere("no"), beta=NobodyThere("no"))
    assert [line.split()[1:-2] for line in run("services")[1].splitlines()[1:]] == [
        ["alpha", "static,", "not", "checked"],
        ["beta", "static"],
    ]
    assert [line.split()[6:-1] for line in run("services", "Echo")[1].splitlines()[2:]] == [["not", "checked"], ["well"]]
    assert [each["checked"] for each in told("services", "Echo")["holders"]] == [False, True]


def test_a_service_that_nobody_has_is_exit_1(node, run):
    status, out, err = run("services", "Nothing")
    assert (status, out, err) == (1, "", "bdctl: Nothing: no living node that is known here has it\n")
    assert run("services", "Echo")[1].startswith("Echo: 1 holder\n")


def test_find(node, run, told):
    node.answers["FIND"] = Found("beta", {"url": "http://b/"})
    assert run("find", "Echo") == (0, "beta\n", "") and told("find", "Echo") == {"service": "Echo", "node": "beta"}
    assert node.asked[0] == ["FIND", "Echo", [], services.FIND_STEPS]
    node.answers["FIND"] = NotFound(["alpha", "beta"])
    assert run("find", "Echo") == (1, "", "bdctl: Echo: 2 nodes were asked, and none has it\n")


def test_watch_tells_changes_until_it_is_interrupted(node, run, monkeypatch):
    answers = [Status(own(), [seen("alpha")]), Status(own(), [seen("alpha", draining=True)]), NobodyThere("it is gone"),
               NobodyThere("it is gone"), Status(own(), [seen("alpha")]), KeyboardInterrupt()]  # fmt: skip

    def status(*wish):
        answer = answers.pop(0)
        if isinstance(answer, KeyboardInterrupt):
            raise answer
        return answer

    node.answers |= {"STATUS": status, "PING": Pong("")}
    monkeypatch.setattr(watching, "POLL_SECONDS", 0)
    code, out, _ = run("--json", "watch")
    said = [(row["node"], row["change"]) for row in map(json.loads, out.splitlines())]
    assert code == 130 and said == [
        ("alpha", "is alive, at 10.0.0.1:9001, offers Echo (static)"),
        ("alpha", "drains"),
        ("this node", "does not answer: it is gone"),
        ("this node", "answers again"),
        ("alpha", "takes calls again"),
    ]


def test_watch_of_a_node_that_is_not_there_ends_at_once(node, run):
    node.answers["PING"] = NobodyThere("it is not there")
    assert run("watch") == (4, "", "bdctl: it is not there\n")


def test_a_reader_that_has_enough_ends_the_watch_without_a_word():
    program = (
        "import sys; from bdserver.commands import calling\n"
        "def work():\n"
        "    while True: print('x' * 1000)\n"
        "sys.exit(calling.outcome('bdctl', work))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_export_leaves_out_what_no_program_can_call_and_says_so(node, run):
    beta = seen("beta", 2, ["Odd", "Echo"])
    beta["urls"]["Odd"] = "http://10.0.0.2:99999/x"
    node.answers["STATUS"] = Status(own(), [seen("alpha"), beta])
    for form in ("json", "haproxy"):
        status, out, err = run("export", form)
        assert status == 0 and "beta" in out and "99999" not in out
        assert err.startswith("bdctl: Odd of beta is left out: 'http://10.0.0.2:99999/x'") and err.count("\n") == 1


def test_export_of_a_node_that_has_lost_its_mesh_is_exit_4(node, run):
    node.answers["STATUS"] = Status(own(), [seen("alpha"), unvisited("10.0.0.2:9001")])
    status, out, err = run("export", "haproxy")
    assert (status, out) == (4, "") and "10.0.0.2:9001" in err and err.count("\n") == 1
    node.answers["STATUS"] = Status(own(), [seen("alpha")])
    assert run("export", "haproxy")[0] == 0, "a node that is alone and has no hints is a mesh"


def test_export_keeps_a_backend_that_is_asked_for(node, run):
    assert "backend Wiki\n    mode http\n" in run("export", "haproxy", "--keep", "Wiki")[1]


# --- changing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "request_sent"),
    [
        (["forget", "beta"], ["FORGET", "beta"]),
        (["adopt", "Echo"], ["ADOPT", "Echo"]),
        (["leave"], ["LEAVE"]),
        (["drain"], ["DRAIN", True]),
        (["drain", "--off"], ["DRAIN", False]),
        (["graveyard", "restore", "Echo"], ["RESTORE", "Echo"]),
    ],
)
def test_a_command_that_is_one_request_is_silent_when_it_went_well(node, run, arguments, request_sent):
    node.answers |= dict.fromkeys(["FORGET", "ADOPT", "LEAVE", "DRAIN", "RESTORE"], Ok())
    assert run(*arguments) == (0, "", "") and node.asked == [request_sent]


def test_leave_is_back_when_the_node_has_ended(node, run, tmp_path, monkeypatch):
    (tmp_path / "conf").write_text(f"username=a\nvar_dir={tmp_path}\npid_file={tmp_path}/pid\n")
    node.answers["LEAVE"] = Ok()
    daemon, looks = PidFile(f"{tmp_path}/pid"), []
    daemon.claim()

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            daemon.release()

    monkeypatch.setattr(nodes.time, "sleep", sleep)
    leave = "--config", f"{tmp_path}/conf", "leave"
    assert run(*leave) == (0, "", "") and len(looks) == 3
    daemon.claim()
    assert run("--socket", "/any", "leave") == (0, "", ""), "whose node that is nobody knows here"
    monkeypatch.setattr(nodes, "END_SECONDS", 0.0)
    looks += [0.0] * 3
    status, _, err = run("--timeout", "0.01", *leave)
    assert (status, err) == (4, f"bdctl: {tmp_path}/pid: the node leaves, and has not ended yet\n")


def test_a_command_that_is_one_request_prints_the_answer_as_json(node, told):
    node.answers["ADOPT"] = Ok()
    assert told("adopt", "Echo") == ["OK"]


def test_withdraw_says_from_whom_the_copies_went_and_who_was_not_reached(node, run, told):
    node.answers["WITHDRAW"] = Withdrawn(["beta", "gamma"], ["delta"])
    assert run("withdraw", "Echo") == (
        0,
        "Echo: copies went from 2 nodes: beta, gamma\nEcho: not reached, and obey when they hear of it: delta\n",
        "",
    )
    assert told("withdraw", "Echo", "--here") == {"service": "Echo", "gone": ["beta", "gamma"], "left": ["delta"]}
    assert node.asked == [["WITHDRAW", "Echo"], ["WITHDRAW", "Echo", True]]
    node.answers["WITHDRAW"] = Withdrawn([], [])
    assert run("withdraw", "Echo") == (0, "", "")


def hinted(node, *rows_in_turn):
    node.answers |= {
        "HINT": Ok(),
        "PROBE": Pong(),
        "STATUS": [Status(own(), [seen("alpha"), *rows]) for rows in rows_in_turn],
    }


def test_hint_says_by_which_name_the_node_is_known_now(node, run, told, monkeypatch):
    monkeypatch.setattr(nodes, "HINT_POLL_SECONDS", 0.0)
    hinted(node, [], [unvisited("10.0.0.2:9001")], [seen("beta", 2)])
    assert run("hint", "10.0.0.2") == (0, "10.0.0.2:9001: known as beta\n", "")
    assert node.requests() == [["HINT", "10.0.0.2:9001"], ["PROBE", "10.0.0.2:9001"]]
    hinted(node, [seen("beta", 2)])
    assert told("hint", "10.0.0.2") == {"address": "10.0.0.2:9001", "node": "beta", "reason": ""}


def test_hint_knows_a_node_that_goes_by_another_address(node, run, monkeypatch):
    monkeypatch.setattr(nodes, "HINT_POLL_SECONDS", 0.0)
    hinted(node, [seen("other", 3)], [unvisited("beta.example:9001"), seen("other", 3)], [seen("other", 3), seen("beta", 2)])
    assert run("hint", "beta.example")[1] == "beta.example:9001: known as beta\n"


@pytest.mark.parametrize(
    ("probed", "why"),
    [
        (NoPong("refused", "10.0.0.2:9001: connection refused"), "connection refused"),
        (Deadline("the time is over"), "no answer yet"),
        (Pong(), "it answers, and its record has not come yet"),
    ],
)
@pytest.mark.parametrize("row", [unvisited("10.0.0.2:9001"), seen("beta", 2, status="dead")])
def test_hint_says_why_nobody_was_reached_yet(node, run, monkeypatch, row, probed, why):
    monkeypatch.setattr(nodes, "HINT_SECONDS", 0.0)
    hinted(node, [row])
    node.answers["PROBE"] = probed
    said = f"10.0.0.2:9001: not yet reached, and visited again and again: {why}\n"
    assert run("hint", "10.0.0.2") == (0, said, "")


def test_hint_takes_the_name_of_a_node_that_lives_and_a_host_s_name_else(node, run):
    hinted(node, [seen("alpha"), seen("beta", 2), seen("gamma", 3, status="dead")])
    assert run("hint", "beta")[1] == "10.0.0.2:9001: known as beta\n"
    run("hint", "gamma")
    assert [request for request in node.requests() if request[0] == "HINT"][1:] == [["HINT", "gamma:9001"]], "it may have moved"


@pytest.mark.parametrize("address", ["a:b:c", "10.0.0.2:0", "", "256.1.1.1"])
def test_what_is_no_address_is_not_sent(node, run, address):
    status, out, err = run("hint", address)
    assert (status, out, node.asked) == (2, "", []) and "is no HOST:PORT" in err


@pytest.fixture
def listening(monkeypatch):
    """Where something listens and never answers: whoever asks need not wait for long."""
    monkeypatch.setattr(publishing, "LISTENING_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/axis/Echo?wsdl"


def unpacked(node, name, tmp_path):
    [sent] = node.packages
    described = node.asked[-1][2]
    folder = package.unpack(io.BytesIO(sent), described["sha256"], name, str(tmp_path), 1 << 20, 100)
    return os.path.join(folder, name)


def test_publish_of_a_file(node, run, told, tmp_path, listening):
    program = tmp_path / "calculator"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    node.answers["PUBLISH"] = Ok(listening)
    assert run("publish", str(program), "--weight", "5", "--health", "http", "--name", "Echo") == (0, f"{listening}\n", "")
    described = node.asked[0][2]
    assert node.asked[0][:2] == ["PUBLISH", "Echo"] and (described["weight"], described["health"]) == (5, "http")
    assert described["bytes"] == len(node.packages[0]) > 0
    with open(unpacked(node, "Echo", tmp_path)) as file:
        assert file.read() == "#!/bin/sh\n"
    node.answers["PUBLISH"] = Ok(listening, ["what the node says"])
    status, out, err = run("publish", str(program), "--json")
    assert (status, json.loads(out)) == (0, {"service": "calculator", "url": listening})
    assert err == "bdctl: what the node says\n"
    assert set(node.asked[-1][2]) == {"bytes", "sha256"}, "what is not wished for stays as it was"


def test_publish_of_a_url(node, run, listening):
    node.answers["PUBLISH"] = Ok(listening)
    assert run("publish", "wiki", "--health", "tcp", "--url", "http://{host}:8080/wiki") == (0, f"{listening}\n", "")
    [[_, name, described]] = node.asked
    assert (name, described["bytes"], described["url"]) == ("wiki", 0, "http://{host}:8080/wiki")


@pytest.mark.parametrize("url", ["wiki.example.org", "http://h:99999/x", "http://[x/", "http:///x", "http://a b/", "/x"])
def test_what_is_no_url_is_refused_before_anybody_is_asked(node, run, url):
    status, out, err = run("publish", "--url", url, "wiki")
    assert (status, out, node.asked) == (2, "", []) and err.startswith("bdctl: --url ") and err.count("\n") == 1


def test_publish_of_what_is_not_there(node, run):
    status, _, err = run("publish", "/nowhere/wiki")
    assert (status, node.asked) == (2, []) and "--url" in err


def test_publish_of_what_can_not_be_packed_is_one_line(node, run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    status, out, err = run("publish", str(tmp_path / "pipe"))
    assert (status, out, node.asked) == (2, "", []) and err.count("\n") == 1


@pytest.mark.parametrize("weight", ["nan", "inf", "heavy"])
def test_a_weight_that_is_no_number_is_wrong_usage(node, run, weight):
    assert run("publish", "x", "--weight", weight)[0] == 2


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--weight=-1", "argument --weight: -1 is no weight from 0 to 1e+09"),
        ("--weight=2e9", "argument --weight: 2e9 is no weight from 0 to 1e+09"),
        ("--replicas=-2", "argument --replicas: '-2' is no whole number from 0 to 1000"),
        ("--replicas=1.5", "argument --replicas: '1.5' is no whole number from 0 to 1000"),
        ("--replicas=1001", "argument --replicas: '1001' is no whole number from 0 to 1000"),
    ],
)
def test_a_number_out_of_its_range_is_told_by_its_option_and_not_sent(node, run, option, words):
    status, out, err = run("publish", "x", option)
    assert (status, out, node.asked) == (2, "", []) and err == f"bdctl publish: {words} (bdctl publish --help tells more)\n"


@pytest.mark.parametrize("arguments", [["drain"], ["hint", "10.0.0.1"]])
def test_an_ordinary_account_is_told_whose_business_it_is(node, run, monkeypatch, arguments):
    command = arguments[0].upper()
    node.answers[command] = Forbidden(f"{command} needs the role admin, and the caller's is client")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert run(*arguments) == (5, "", f"bdctl: {node.answers[command]}: be root, or the user as whom the daemon runs\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert run(*arguments)[2] == f"bdctl: {node.answers[command]}\n"


def test_what_is_no_service_s_name_is_not_sent(node, run):
    status, out, err = run("withdraw", "a b")
    assert (status, out, node.asked) == (2, "", []) and "'a b' is no service's name: 1 to 100 of letters, digits and ._-" in err


def test_publish_warns_when_nothing_listens_at_the_url(node, run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    url = f"http://{address}/x"
    node.answers["PUBLISH"] = Ok(url)
    status, out, err = run("publish", "wiki", "--health", "tcp", "--url", url)
    assert (status, out) == (0, f"{url}\n")
    assert err == f"bdctl: warning: nothing listens at {url} ({address}: connection refused): it is offered all the same\n"


@pytest.mark.parametrize(
    ("name", "text", "mode", "is_warned"),
    [
        ("calculator", "#!/bin/sh\n", 0o644, True),
        ("calculator", "anything", 0o644, True),
        ("calculator.py", "#!/usr/bin/python3\n", 0o644, True),
        ("calculator", "#!/bin/sh\n", 0o755, False),
        ("Calculator.jws", "public class Calculator {}", 0o644, False),
        ("wiki/index.cgi", "#!/bin/sh\n", 0o644, True),
        ("wiki/index.cgi", "#!/bin/sh\n", 0o755, False),
        ("wiki/page.html", "<html>", 0o644, False),
    ],
)
def test_publish_warns_of_a_program_that_is_not_executable(node, run, tmp_path, listening, name, text, mode, is_warned):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    node.answers["PUBLISH"] = Ok(listening)
    status, out, err = run("publish", "--health", "http", str(tmp_path / name.split("/")[0]))
    assert (status, out) == (0, f"{listening}\n")
    assert err == (
        f"bdctl: warning: {path} is not executable: no web server will run it (chmod 755 it, and publish it again)\n"
        if is_warned
        else ""
    )


def test_publish_of_a_file_that_is_served_as_it_is_warns_of_nothing(node, run, tmp_path):
    (tmp_path / "hello").write_text("hello\n")
    (tmp_path / "hello.bdcert").write_text("weight=1\n")
    web = Container("127.0.0.1", 0, str(tmp_path))
    thread = threading.Thread(target=web.serve_forever, args=(0.02,))
    thread.start()
    try:
        for name, is_warned in (("hello", False), ("other", True)):
            node.answers["PUBLISH"] = Ok(f"http://127.0.0.1:{web.server_port}/axis/{name}?wsdl")
            err = run("publish", "--health", "http", str(tmp_path / "hello"))[2]
            nowhere = f"bdctl: warning: there is a web server, and nothing at http://127.0.0.1:{web.server_port}/axis/other?wsdl (404)"
            assert err.startswith(nowhere) and err.count("\n") == 1 if is_warned else not err
        assert err.endswith("does it serve services_dir? (bdctl doctor)\n")
        (tmp_path / "folder").mkdir()
        err = run("publish", "--health", "http", str(tmp_path / "folder"))[2]
        assert err == f"{nowhere}: {tmp_path}/folder has neither index.cgi nor index.html\n"
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


@pytest.mark.parametrize("url", ["gopher://10.0.0.1/x", "http://10.0.0.1:99999/", "http:///x"])
def test_what_can_not_be_tried_is_not_warned_of(node, run, url):
    node.answers["PUBLISH"] = Ok(url)
    assert run("publish", "wiki", "--health", "http", "--url", "http://wiki.example/")[2] == ""


def test_graveyard(node, run, told):
    node.answers["GRAVEYARD"] = Graveyard(["Echo", "Wiki"])
    assert run("graveyard") == (0, "Echo\nWiki\n", "") and told("graveyard") == ["Echo", "Wiki"]
    assert run("graveyard", "restore") == (2, "", "bdctl: graveyard restore needs the name of a SERVICE\n")


def test_drain_waits_until_the_calls_have_faded(node, run, monkeypatch):
    monkeypatch.setattr(nodes, "DRAIN_POLL_SECONDS", 0)
    node.answers |= {"DRAIN": Ok(), "STATUS": [Status(own(weight=weight), []) for weight in (7.0, 0.5, 0.0)]}
    assert run("drain", "--wait") == (0, "", "") and [each[0] for each in node.asked] == ["DRAIN"] + ["STATUS"] * 3


def test_to_drain_and_not_to_drain_is_refused(node, run):
    status, out, err = run("drain", "--wait", "--off")
    assert (status, out, node.asked) == (2, "", []) and "--wait" in err and "--off" in err


# --- killing ------------------------------------------------------------------------------------------------------


def test_kill_by_role_or_by_password(node, run, monkeypatch):
    node.answers["KILL"] = Goodbye()
    assert run("kill") == (0, "", "")
    monkeypatch.setattr(sys, "stdin", io.StringIO("open sesame\nrest"))
    assert run("kill", "--password") == (0, "", "")
    assert node.asked == [["KILL"], ["KILL", "open sesame"]]


@pytest.mark.parametrize("all_", [[], ["--all"]])
def test_nobody_is_killed_with_a_password_that_nobody_has_typed(node, run, monkeypatch, all_):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run("kill", "--password", *all_) == (2, "", "bdctl: an empty password: nobody is ended\n") and node.asked == []


@pytest.fixture
def three(node, monkeypatch):
    """alpha, which is asked, knows beta, and only beta knows gamma."""
    beta, gamma = Node(KILL=Goodbye()), Node(KILL=Goodbye())
    node.answers |= {"KILL": Goodbye(), "STATUS": Status(own(), [seen("alpha"), seen("beta", 2)])}
    beta.answers["STATUS"] = Status(own("beta"), [seen("beta", 2), seen("gamma", 3), seen("alpha")])
    gamma.answers["STATUS"] = Status(own("gamma"), [seen("gamma", 3)])
    let_dial(monkeypatch, {"10.0.0.1:9001": node, "10.0.0.2:9001": beta, "10.0.0.3:9001": gamma})
    return node, beta, gamma


def test_kill_all_ends_whom_it_finds_and_the_local_node_last(three, run, told):
    node, *others = three
    assert run("kill", "--all") == (0, "killed 3 nodes, 0 were not there\n", "")
    assert all(each.requests() == [["KILL"]] for each in others) and node.asked == [["STATUS"], ["KILL"]]
    addresses = ["10.0.0.1:9001", "10.0.0.2:9001", "10.0.0.3:9001"]
    assert told("kill", "--all") == {"killed": addresses, "silent": [], "refused": []}


def test_kill_all_with_a_nodes_own_keys_ends_the_local_one_and_says_which_keys_the_others_want(three, run):
    node, beta, gamma = three
    beta.answers["KILL"] = gamma.answers["KILL"] = Forbidden("KILL needs the role admin, and the caller's role is node")
    status, out, err = run("kill", "--all")
    assert (status, out) == (5, "killed 1 nodes, 0 were not there, 2 refused\n") and node.requests() == [["KILL"]]
    last = err.splitlines()[-1]
    assert "10.0.0.2:9001, 10.0.0.3:9001" in last and "--role admin" in last and "--password" in last


def test_kill_all_without_any_keys_ends_the_local_one(three, run, monkeypatch):
    def none(*options):
        raise BadConfig("no keys here")

    monkeypatch.setattr(api, "credentials_of", none)
    status, out, err = run("kill", "--all")
    assert (status, out) == (5, "killed 1 nodes, 0 were not there, 1 refused\n") and "bdctl: no keys here\n" in err


@pytest.mark.parametrize("silence", [NobodyThere("silent"), Deadline("over"), TooBusy("busy"), PolicyMismatch("apart")])
def test_kill_all_goes_on_past_a_node_that_does_not_answer(three, run, silence):
    _, beta, gamma = three
    gamma.answers["STATUS"] = silence
    status, out, err = run("kill", "--all")
    assert (status, out, err) == (0, "killed 2 nodes, 1 were not there\n", f"bdctl: {silence}\n")
    assert beta.requests() == [["KILL"]]


def test_kill_all_by_way_of_a_node_elsewhere_calls_that_one_too(three, run):
    node, *_ = three
    assert run("--node", "10.0.0.1", "kill", "--all")[1] == "killed 3 nodes, 0 were not there\n"
    assert node.asked == [["STATUS"], ["STATUS"], ["KILL"]]


# --- what needs no node -------------------------------------------------------------------------------------------


def test_a_password_is_hashed_from_standard_input(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("open sesame\n"))
    status, out, err = run("password")
    assert (status, err) == (0, "") and "open sesame" not in out
    assert password_matches("open sesame", out.strip()) and not password_matches("open", out.strip())
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert run("password") == (2, "", "bdctl: an empty password\n")


def test_at_a_terminal_a_password_is_typed_twice(run, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    typed = ["first", "second", "same", "same"]
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: typed.pop(0))
    assert run("password") == (2, "", "bdctl: the two passwords differ\n")
    status, out, _ = run("password")
    assert status == 0 and password_matches("same", out.strip())


# --- how it ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(errors.BY_CODE.values(), key=lambda kind: kind.code))
def test_each_error_is_one_line_and_its_exit_status(node, run, kind):
    node.answers["WITHDRAW"] = kind("this is why")
    if kind in (NobodyThere, Deadline, TooBusy, errors.BadFrame, errors.Refused):
        assert kind.exit == 4
    assert run("withdraw", "Echo") == (kind.exit, "", "bdctl: this is why\n")


def test_an_error_of_the_system_is_one_line_without_its_number(node, run):
    node.answers["WITHDRAW"] = PermissionError(errno.EACCES, "Permission denied", "/etc/x")
    assert run("withdraw", "Echo") == (2, "", "bdctl: /etc/x: Permission denied\n")
    node.answers["WITHDRAW"] = OSError("odd")
    assert run("withdraw", "Echo") == (2, "", "bdctl: odd\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["publsh"], "there is no command 'publsh': did you mean publish?"),
        (["x'y"], "there is no command"),
        (["hint"], "required: ADDR"),
        (["policy", "show"], "required: FILE"),
        (["export", "xml"], "invalid choice: 'xml'"),
        (["--timeout", "0", "status"], "--timeout: 0 is no number of seconds above 0"),
        (["--timeout", "nan", "status"], "--timeout: 'nan' is no number"),
        (["--timeout", "1e9", "status"], "--timeout"),
        (["--config", "", "kill"], "--config: an empty text is no path"),
        (["--socket", "", "kill"], "--socket: an empty text is no path"),
        (["services", ""], "'' is no service's name"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line_that_says_what_was_meant(node, run, arguments, words):
    status, out, err = run(*arguments)
    assert (status, out, node.asked) == (2, "", [])
    assert err.startswith("bdctl") and words in err and err.count("\n") == 1 and "--help" in err


def test_version(run):
    assert run("--version")[:2] == (0, f"bdctl {__version__}\n")


def test_no_node_is_exit_4_and_one_line(run, tmp_path):
    status, out, err = run("--socket", str(tmp_path / "none.sock"), "status")
    assert (status, out) == (4, "") and err.count("\n") == 1 and "is bdserverd running?" in err


def test_the_next_node_is_asked_when_one_is_busy(run, monkeypatch):
    busy, well = Node(STATUS=TooBusy("busy")), Node()
    let_in(monkeypatch, busy, well)
    assert run("status")[0] == 0 and len(busy.asked) == len(well.asked) == 1


def test_json_may_stand_before_or_behind_the_command(node, run):
    assert run("--json", "status") == run("status", "--json")


def test_status_shows_the_rates_of_the_last_minute(node, run):
    rates = {"requests": 12.34, "lookups": 3.0, "lookup_seconds": 0.0021, "received": 1500.0, "sent": 20.0}
    node.answers["STATUS"] = Status(own(rates=rates), [seen("alpha")])
    assert "  a second: 12.3 requests, 3.0 look-ups (of 2.1 ms), 1.5 kB in, 0.0 kB out\n" in run("status")[1]
