"""bdctl against real nodes, where what it says depends on what they do."""

import json
import os

import pytest

from bdserver.processes.answers.admin import UNCHECKED
from tests.hosts import until


@pytest.fixture
def hosts(mesh):
    alpha, beta = mesh.start(2, round_min=1, round_max=2)
    mesh.wait_known()
    return alpha, beta


def test_a_hint_is_answered_with_the_name_of_the_node_that_was_found(mesh):
    alpha, beta = mesh.host("alpha").start(), mesh.host("beta").start()
    done = alpha.run("bdctl", "hint", beta.address)
    assert (done.returncode, done.stdout) == (0, f"{beta.address}: known as beta\n")
    done = alpha.run("bdctl", "hint", "127.0.0.1:1")
    assert done.returncode == 0 and "127.0.0.1:1: not yet reached" in done.stdout and "connection refused" in done.stdout


def test_ping_by_name_and_the_node_itself_in_the_list(hosts):
    alpha, beta = hosts
    done = alpha.run("bdctl", "ping", "n2")
    assert done.returncode == 0 and done.stdout.startswith(f"{beta.address}: PONG")
    own = next(line for line in alpha.run("bdctl", "nodes").stdout.splitlines() if line.startswith("n1 "))
    assert " itself " in own


def test_root_ends_the_local_node_and_learns_which_keys_the_others_want(hosts, mesh):
    alpha, beta = hosts
    done = alpha.run("bdctl", "kill", "--all")
    assert done.returncode == 5 and done.stdout == "killed 1 nodes, 0 were not there, 1 refused\n"
    assert done.stderr.splitlines()[-1].startswith(f"bdctl: {beta.address}: only the keys of an admin")
    assert alpha.process.wait(20) == 0 and beta.is_running
    boss = os.path.join(mesh.issue("boss", role="admin"), "boss")
    done = beta.run("bdctl", "--keys", boss, "kill", "--all")
    assert done.returncode == 0 and beta.process.wait(20) == 0


def test_a_service_without_a_health_check_is_not_checked(hosts):
    alpha, _ = hosts
    alpha.add_service("Echo")
    until(lambda: "Echo" in alpha.ctl("status")["services"], 20, "it is offered")
    offer = alpha.ctl("status")["services"]["Echo"]
    assert (offer["healthy"], offer["checked"]) == (True, False)
    assert "not checked" in alpha.run("bdctl", "status").stdout


def test_what_nobody_looks_at_is_said_by_whoever_names_it_on_any_node(hosts):
    alpha, beta = hosts
    alpha.add_service("Echo")
    alpha.ctl("publish", "Wiki", "--url", f"http://{alpha.address}/", "--health", "tcp")
    told = until(lambda: len(found := beta.ctl("services")) == 2 and found, 20, "beta knows both")
    assert {name: each["checked"] for name, [each] in told.items()} == {"Echo": False, "Wiki": True}
    lines = beta.run("bdctl", "services").stdout.splitlines()
    assert [line for line in lines if "not checked" in line] == [line for line in lines if line.startswith("Echo ")]
    done = beta.run("bdctl", "export", "json")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1) and done.stderr.endswith(": Echo of n1\n")
    assert {name: each["checked"] for name, [each] in json.loads(done.stdout).items()} == {"Echo": False, "Wiki": True}


def test_a_node_that_has_lost_its_mesh_exports_nothing_rather_than_an_empty_list(hosts):
    alpha, beta = hosts
    beta.add_service("Echo")
    until(lambda: "backend Echo" in alpha.run("bdctl", "export", "haproxy").stdout, 20, "alpha exports what beta has")
    beta.end()
    assert "    server n2 " not in until(
        lambda: alpha.status_of("n2") == "left" and alpha.run("bdctl", "export", "haproxy").stdout, 20, "beta has left"
    )
    alpha.end()
    os.unlink(os.path.join(alpha.folder, "var", "n1.bdcache"))
    alpha.write_config(hints=beta.address)
    alpha.start()
    done = alpha.run("bdctl", "export", "haproxy")
    assert (done.returncode, done.stdout) == (4, "") and beta.address in done.stderr and done.stderr.count("\n") == 1


def test_publish_warns_of_what_is_not_there_yet_and_watch_tells_of_it(hosts):
    alpha, beta = hosts
    done = alpha.run("bdctl", "publish", "wiki", "--url", "http://127.0.0.1:1/wiki")
    assert (done.returncode, done.stdout) == (0, "http://127.0.0.1:1/wiki\n")
    assert done.stderr == (
        "bdctl: warning: nothing listens at http://127.0.0.1:1/wiki (127.0.0.1:1: connection refused): it is offered all the same\n"
        f"bdctl: {UNCHECKED}\n"
    )
    until(lambda: "wiki" in beta.ctl("services"), 20, "beta knows of it")
    alpha.ctl("publish", "wiki", "--url", "http://127.0.0.1:2/wiki", "--weight", "3")
    until(lambda: beta.ctl("services")["wiki"][0]["url"] == "http://127.0.0.1:2/wiki", 20, "beta knows the new URL")
    [row] = [node for node in beta.ctl("nodes") if node["name"] == "n1"]
    assert row["costs"] == {"wiki": 3}
