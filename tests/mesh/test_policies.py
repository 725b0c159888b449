"""Policies between real daemons: who may talk to whom, who may be named to whom, and the way around through others."""

import json
import os
import signal
import time

import pytest

from tests.hosts import until

HEAD = '<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:z="urn:zones"><wsp:ExactlyOne>'
OLD_HEAD = '<wsp:Policy xmlns:wsp="http://schemas.xmlsoap.org/ws/2004/09/policy" xmlns:z="urn:zones"><wsp:ExactlyOne>'
TAIL = "</wsp:ExactlyOne></wsp:Policy>"


def policy(*alternatives, head=HEAD):
    """A policy of alternatives, each a text of zone names: "red", "red blue"."""
    return (
        head + "".join("<wsp:All>" + "".join(f"<z:{a}/>" for a in each.split()) + "</wsp:All>" for each in alternatives) + TAIL
    )


@pytest.fixture
def write(tmp_path):
    def write_policy(name, *alternatives, **keywords):
        path = tmp_path / f"{name}.xml"
        path.write_text(policy(*alternatives, **keywords))
        return path

    return write_policy


def talkable(host):
    return {node["name"]: node["talkable"] for node in host.nodes()}


def three_in_a_row(mesh, write):
    """red — both — blue: the outer two may not talk to each other, the middle one to both."""
    both = mesh.host("both", ws_policy=write("both", "red", "blue"))
    red = mesh.host("red", ws_policy=write("red", "red"), hints=both.address)
    blue = mesh.host("blue", ws_policy=write("blue", "blue", head=OLD_HEAD), hints=both.address)
    for host in (both, red, blue):
        host.start()
    mesh.wait_known()
    return red, both, blue


def test_nodes_whose_policies_do_not_meet_know_each_other_and_say_so(mesh, write):
    red, both, blue = three_in_a_row(mesh, write)
    until(lambda: talkable(red) == {"red": True, "both": True, "blue": False}, 20, "red knows it may not call blue")
    assert talkable(both) == {"red": True, "both": True, "blue": True}
    shown = red.run("bdctl", "nodes").stdout
    assert "not talkable" in shown
    assert red.status_of("blue") == "alive" == blue.status_of("red")


def test_a_holder_kept_apart_by_policy_is_reached_through_a_relay(mesh, write):
    red, _both, blue = three_in_a_row(mesh, write)
    blue.add_service("Echo")
    until(lambda: "Echo" in red.ctl("services"), 20, "red knows Echo")
    said = red.lookup("Echo")
    assert said[-1]["node"] == "blue" and said[-1]["phase"] == 1, said
    assert [asked["node"] for asked in said[-1]["asked"]] == ["both"]
    assert blue.ctl("status")["services"]["Echo"]["weight"] == 1


def test_a_replica_comes_through_a_relay_too(mesh, write):
    red, both, blue = three_in_a_row(mesh, write)
    both.write_config(max_dynamic=0)
    both.process.send_signal(signal.SIGHUP)
    blue.add_service("Echo", "#!/bin/sh\necho far\n")
    until(lambda: "Echo" in red.ctl("services"), 20, "red knows Echo")
    until(lambda: both.ask(["STATUS"])[1]["free_dynamic"] == 0, 20, "both takes no replica")
    with open(os.path.join(blue.folder, "var", "log", "Echo.bdlog"), "a") as file:
        file.write(f"HIT ~ {int(time.time())} ~ now ~ 127.0.0.1\n" * 200)
    said = red.lookup("Echo")
    assert (said[-1]["node"], said[-1]["phase"]) == ("red", 2), said
    with open(os.path.join(red.services, "Echo")) as file:
        assert "far" in file.read()


def test_when_the_relay_dies_the_asker_goes_on_without(mesh, write):
    red, both, blue = three_in_a_row(mesh, write)
    blue.add_service("Echo")
    until(lambda: "Echo" in red.ctl("services"), 20, "red knows Echo")
    both.kill()
    assert red.lookup("Echo")[0] == "CANTFIND"
    red.add_service("Echo")
    assert red.lookup("Echo")[0] == "ME"


def test_a_dead_holder_behind_a_relay_is_reported_and_passed_over(mesh, write):
    red, both, blue = three_in_a_row(mesh, write)
    second = mesh.host("blue2", ws_policy=write("blue2", "blue"), hints=both.address).start()
    mesh.wait_known()
    for host in (blue, second):
        host.add_service("Echo")
    until(lambda: len(red.ctl("services").get("Echo", [])) == 2, 20, "red knows both holders")
    blue.kill()
    for _ in range(6):
        assert red.lookup("Echo")[-1]["node"] == "blue2"


def test_a_client_is_never_named_a_host_that_its_policy_excludes(mesh, write, tmp_path):
    red, both, blue = three_in_a_row(mesh, write)
    for host in (red, blue):
        host.add_service("Echo")
    until(lambda: len(both.ctl("services").get("Echo", [])) == 2, 20, "both knows two holders")
    for colour, wanted in (("red", "red"), ("blue", "blue")):
        named = {both.lookup("Echo", policy(colour))[-1]["node"] for _ in range(10)}
        assert named == {wanted}
    assert both.lookup("Echo", policy("green"))[0] == "POLICYMISMATCH"
    done = both.whereis("Echo", "--policy", str(write("green", "green")))
    why = "no holder's policy meets yours, and no node that you may talk to has room for a copy"
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"bdwhereis: Echo: {why}\n")


@pytest.mark.parametrize("copies", ["any", "meeting", "none"])
def test_a_client_whose_policy_no_holder_meets_is_served_by_a_copy_where_it_may_go(mesh, write, copies):
    red, _, blue = three_in_a_row(mesh, write)
    red.add_service("Echo", copies=copies)
    until(lambda: "Echo" in blue.ctl("services"), 20, "blue knows Echo")
    done = blue.whereis("Echo", "--policy", str(write("blue", "blue")))
    if copies == "none":
        assert done.returncode == 3 and done.stderr.endswith("it may not be copied (copies=none)\n")
        return
    # The code came to it on a way of which each step may be gone: from red to both, and on to blue if that is to have it.
    holders = {each["node"] for each in blue.ctl("services")["Echo"]}
    assert done.returncode == 0 and holders <= {"red", "both", "blue"} and holders > {"red"}
    assert copies == "any" or holders == {"red", "both"}
    again = blue.whereis("Echo", "--policy", str(write("blue", "blue")), "--json")
    assert json.loads(again.stdout)["node"] in holders - {"red"} and json.loads(again.stdout)["phase"] == 1


def test_a_replica_is_not_made_where_the_client_may_not_go(mesh, write):
    red, both, blue = three_in_a_row(mesh, write)
    red.add_service("Echo")
    until(lambda: "Echo" in both.ctl("services"), 20, "both knows Echo")
    both.write_config(max_dynamic=0)
    both.process.send_signal(signal.SIGHUP)
    until(lambda: both.ask(["STATUS"])[1]["free_dynamic"] == 0, 20, "both takes no replica")
    with open(os.path.join(red.folder, "var", "log", "Echo.bdlog"), "a") as file:
        file.write(f"HIT ~ {int(time.time())} ~ now ~ 127.0.0.1\n" * 200)
    said = both.lookup("Echo", policy("red"))
    assert (said[-1]["node"], said[-1]["phase"]) == ("red", 3)
    assert not os.path.exists(os.path.join(blue.services, "Echo"))


def test_sighup_takes_a_new_policy_and_the_mesh_learns_it_at_once(mesh, write):
    red, _both, blue = three_in_a_row(mesh, write)
    until(lambda: talkable(red)["blue"] is False, 20, "red may not call blue")
    write("blue", "blue", "red")
    blue.process.send_signal(signal.SIGHUP)
    until(lambda: talkable(red)["blue"] is True, 20, "red may call blue now")
    blue.add_service("Echo")
    until(lambda: "Echo" in red.ctl("services"), 20, "red knows Echo")
    assert red.lookup("Echo")[-1]["asked"][0]["node"] == "blue"  # straight, no relay


def test_a_bad_new_policy_is_reported_and_the_old_one_stays(mesh, write, tmp_path):
    red, _both, blue = three_in_a_row(mesh, write)
    until(lambda: talkable(red)["blue"] is False, 20, "red may not call blue")
    (tmp_path / "blue.xml").write_text(HEAD + "\n</wrong>")
    blue.process.send_signal(signal.SIGHUP)
    until(lambda: "blue.xml:2: mismatched tag" in blue.log, 20, "the complaint with file and line")
    assert blue.is_running and blue.ask(["STATUS"])[1]["policy"] == policy("blue", head=OLD_HEAD)
    assert talkable(red)["blue"] is False


def test_a_node_does_not_start_with_a_bad_policy(mesh, tmp_path):
    (tmp_path / "bad.xml").write_text("<html/>")
    host = mesh.host("n1", ws_policy=tmp_path / "bad.xml")
    host.launch()
    assert host.process.wait(20) == 2
    assert "bad.xml:1: " in host.log and host.log.count("\n") == 1


def test_policy_mismatch_is_told_from_nobody_there(mesh, write):
    red, _both, blue = three_in_a_row(mesh, write)
    keys = mesh.issue("me", role="client")
    strict = write("green", "green")
    done = red.run("bdwhereis", "--node", blue.address, "--keys", os.path.join(keys, "me"), "--policy", str(strict), "Echo")
    assert done.returncode == 3, done
    blue.kill()
    done = red.run("bdwhereis", "--node", blue.address, "--keys", os.path.join(keys, "me"), "Echo")
    assert done.returncode == 4, done


def test_several_nodes_are_tried_in_turn(mesh, write):
    one, two = mesh.start(2)
    two.add_service("Echo")
    keys = mesh.issue("me", role="client")
    until(lambda: "Echo" in one.ctl("services"), 20, "n1 knows Echo")
    gone = "127.0.0.1:1"
    done = one.run(
        "bdwhereis", "--node", gone, "--node", one.address, "--node", two.address, "--keys", os.path.join(keys, "me"), "Echo"
    )
    assert (done.returncode, done.stdout) == (0, "http://127.0.0.1:8080/axis/Echo?wsdl\n"), done.stderr
    done = one.run("bdwhereis", "--node", gone, "--keys", os.path.join(keys, "me"), "Echo")
    assert done.returncode == 4 and "connection refused" in done.stderr and done.stderr.count("\n") == 1
