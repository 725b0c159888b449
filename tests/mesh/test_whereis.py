"""Every phase of WHEREIS, with real daemons: holders, load, replication, the dead and the hung passed over."""

import json
import os
import signal
import time

from bdserver.core.tickets import TICKET_SECONDS
from bdserver.net import dialling
from tests.hosts import until


def knows(host, service, *holders):
    """Wait until this host knows exactly these holders."""
    until(
        lambda: {each["node"] for each in host.ctl("services").get(service, [])} == set(holders),
        20,
        f"{host.name} knows that {holders} have {service}",
    )


def overload(host, service, hits):
    """Hits of this very moment in the service's log, as calls would leave them."""
    path = os.path.join(host.folder, "var", "log", f"{service}.bdlog")
    now = time.time()
    with open(path, "a") as file:
        file.write(f"HIT ~ {int(now)} ~ {time.ctime(now)} ~ 127.0.0.1\n" * hits)


def answered(host, service, **keywords):
    """(node, phase) that WHEREIS names."""
    said = host.lookup(service, **keywords)
    return said[-1]["node"], said[-1]["phase"]


def test_a_service_dropped_in_is_live_at_once_and_soon_known_everywhere(mesh):
    one, two = mesh.start(2)
    mesh.wait_known()
    one.add_service("Echo")
    assert one.lookup("Echo")[0] == "ME"  # at once, without a restart
    knows(two, "Echo", "n1")
    done = two.whereis("Echo", "--json")
    details = json.loads(done.stdout)
    assert done.returncode == 0
    assert details["url"] == "http://127.0.0.1:8080/axis/Echo?wsdl"
    assert (details["node"], details["service"], details["phase"]) == ("n1", "Echo", 1)
    assert [asked["answer"] for asked in details["asked"]] == ["YES"]


def test_nobody_has_it_is_exit_1_and_one_line(mesh):
    (host,) = mesh.start(1)
    done = host.whereis("Nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "bdwhereis: Nothing: nobody in the mesh has it\n"


def test_the_answer_logs_a_hit_at_the_holder(mesh):
    one, two = mesh.start(2)
    one.add_service("Echo", weight=3)
    knows(two, "Echo", "n1")
    two.lookup("Echo")
    assert one.ctl("status")["services"]["Echo"]["weight"] == 3


def test_an_overloaded_holder_is_replicated_and_the_replica_is_the_answer(mesh):
    one, two = mesh.start(2)
    one.add_service("Echo", "#!/bin/sh\necho hello\n")
    knows(two, "Echo", "n1")
    overload(one, "Echo", 150)
    assert answered(two, "Echo") == ("n2", 2)
    copy = os.path.join(two.services, "Echo")
    with open(copy) as file:
        assert file.read() == "#!/bin/sh\necho hello\n"
    assert os.access(copy, os.X_OK)
    assert two.ctl("status")["services"]["Echo"]["type"] == "dynamic"
    with open(os.path.join(one.folder, "var", "log", "Echo.bdlog")) as file:
        assert sum(line.startswith("REPLICATE ~ ") for line in file) == 1
    knows(one, "Echo", "n1", "n2")
    assert answered(one, "Echo") == ("n2", 1)  # from now on it takes its part


def test_with_no_room_anywhere_a_client_is_served_late_rather_than_never(mesh):
    one, two = mesh.start(2, max_dynamic=0)
    one.add_service("Echo")
    knows(two, "Echo", "n1")
    overload(one, "Echo", 150)
    assert answered(two, "Echo") == ("n1", 3)


def test_an_overloaded_asker_without_neighbours_serves_itself(mesh):
    (host,) = mesh.start(1)
    host.add_service("Echo")
    overload(host, "Echo", 150)
    assert answered(host, "Echo") == ("n1", 3)


def test_a_replica_retires_the_lightest_one_when_no_slot_is_free_but_no_new_one(mesh):
    one, two = mesh.start(2)
    for name in ("Old", "New", "Wanted", "Light"):
        one.add_service(name)
    two.write_config(max_dynamic=2)
    two.process.send_signal(signal.SIGHUP)
    until(lambda: two.ctl("status")["free_dynamic"] == 2, 20, "n2 takes two replicas")
    two.add_service("Light", type="dynamic", original="n1", arrived_at=time.time() - 100)
    two.add_service("Fresh", type="dynamic", arrived_at=time.time())
    knows(one, "Light", "n1", "n2")
    knows(two, "Wanted", "n1")
    overload(one, "Wanted", 150)
    assert answered(two, "Wanted") == ("n2", 2)
    assert two.ctl("graveyard") == ["Light"]
    overload(one, "New", 150)
    assert answered(two, "New") == ("n1", 3)  # both replicas arrived less than 60 s ago
    two.ctl("withdraw", "--here", "Fresh")
    two.ctl("graveyard", "restore", "Light")
    assert "Light" in two.ctl("status")["services"]


def test_a_killed_holder_is_never_named(mesh):
    one, two, three = mesh.start(3)
    for host in (two, three):
        host.add_service("Echo")
    knows(one, "Echo", "n2", "n3")
    two.kill()
    for _ in range(20):
        assert answered(one, "Echo") == ("n3", 1)


def test_a_hung_holder_is_passed_over_within_the_deadline(mesh):
    one, two, three = mesh.start(3)
    for host in (two, three):
        host.add_service("Echo")
    knows(one, "Echo", "n2", "n3")
    with two.frozen():
        for _ in range(4):
            assert answered(one, "Echo") == ("n3", 1)


def test_a_call_that_a_hung_holder_agrees_to_later_weighs_nothing(mesh):
    one, two, three = mesh.start(3)
    for host in (two, three):
        host.add_service("Echo")
    knows(one, "Echo", "n2", "n3")
    path = os.path.join(two.folder, "var", "log", "Echo.bdlog")

    def kinds():
        with open(path) as file:
            return [line.split()[0] for line in file]

    with dialling.dial_local(one.socket, time.monotonic() + 120) as talk:

        def asked():
            return talk.ask(["WHEREIS", "Echo", None], time.monotonic() + 10).details

        until(lambda: asked()["node"] == "n2", 20, "n2 has a connection and a log")
        before = kinds()
        for _ in range(20):
            answered_at = time.monotonic()
            until(lambda: time.monotonic() > answered_at + TICKET_SECONDS, 20, "what it has promised has ended")  # noqa: B023
            with two.frozen():
                details = asked()
                assert details["node"] == "n3" and details["phase"] == 1
            if {"node": "n2", "answer": "deadline"}.items() <= details["asked"][0].items():
                break
            until(lambda: asked()["node"] == "n2", 60, "n2 is asked again")
            before = kinds()
        until(lambda: kinds()[len(before) :] == ["HIT", "BACK"], 20, "the late YES is given back")


def test_donthave_is_gone_past_and_corrects_the_view(mesh):
    one, two, three = mesh.start(3, probe_interval=3600, round_min=3600, round_max=7200)
    for host in (two, three):
        host.add_service("Echo")
    knows(one, "Echo", "n2", "n3")
    os.kill(two.discoverer_pid(), signal.SIGSTOP)  # so that n2 can't tell
    for name in ("Echo", "Echo.bdcert"):
        os.unlink(os.path.join(two.services, name))
    for _ in range(10):
        assert answered(one, "Echo") == ("n3", 1)
    os.kill(two.discoverer_pid(), signal.SIGCONT)
    knows(one, "Echo", "n3")


def test_a_draining_node_takes_no_calls_while_another_can(mesh):
    one, two, three = mesh.start(3)
    for host in (two, three):
        host.add_service("Echo")
    knows(one, "Echo", "n2", "n3")
    two.ctl("drain")
    assert {answered(one, "Echo") for _ in range(10)} == {("n3", 1)}
    two.ctl("drain", "--off")
    until(lambda: answered(one, "Echo") == ("n2", 1), 20, "n2 takes calls again")


def test_a_service_by_url_is_named_but_never_copied(mesh):
    one, two = mesh.start(2)
    one.ctl("publish", "Maps", "--url", "https://maps.example/api")
    knows(two, "Maps", "n1")
    assert two.lookup("Maps")[-1]["url"] == "https://maps.example/api"
    overload(one, "Maps", 150)
    assert answered(two, "Maps") == ("n1", 3)
    assert "Maps" not in two.ctl("status")["services"]


def test_the_load_is_shared_among_holders(mesh):
    hosts = mesh.start(3)
    for host in hosts:
        host.add_service("Echo")
    for host in hosts:
        knows(host, "Echo", "n1", "n2", "n3")
    named = [answered(hosts[0], "Echo")[0] for _ in range(60)]
    assert {named.count(name) > 3 for name in ("n1", "n2", "n3")} == {True}, named


def test_publish_withdraw_and_restore(mesh, tmp_path):
    one, two = mesh.start(2)
    script = tmp_path / "Hello"
    script.write_text("#!/bin/sh\necho hello\n")
    script.chmod(0o755)
    assert one.ctl("publish", str(script), "--weight", "2")["url"].endswith("/Hello?wsdl")
    knows(two, "Hello", "n1")
    one.ctl("withdraw", "Hello")
    assert two.lookup("Hello")[0] == "CANTFIND" or until(lambda: two.lookup("Hello")[0] == "CANTFIND", 10, "it is gone")
    assert one.ctl("graveyard") == ["Hello"]
    one.ctl("graveyard", "restore", "Hello")
    knows(two, "Hello", "n1")
    assert two.lookup("Hello")[-1]["node"] == "n1"


def test_a_folder_is_a_service_and_is_replicated_whole(mesh, tmp_path):
    one, two = mesh.start(2)
    folder = tmp_path / "Site"
    (folder / "sub").mkdir(parents=True)
    (folder / "index.cgi").write_text("#!/bin/sh\n")
    (folder / "sub" / "data").write_bytes(os.urandom(300_000))
    one.ctl("publish", str(folder))
    knows(two, "Site", "n1")
    overload(one, "Site", 150)
    assert answered(two, "Site") == ("n2", 2)
    with open(os.path.join(two.services, "Site", "sub", "data"), "rb") as file:
        assert file.read() == (folder / "sub" / "data").read_bytes()


def test_a_service_that_is_not_well_is_out_of_answers_until_it_is_back(mesh):
    import socket

    one, two = mesh.start(2)
    with socket.socket() as web:
        web.bind(("127.0.0.1", 0))
        port = web.getsockname()[1]
        one.write_config(axis_port=port)
        one.process.send_signal(signal.SIGHUP)
        until(lambda: one.ctl("status")["settings"]["axis_port"] == str(port), 20, "n1 knows its web server")
        web.listen()
        one.add_service("Echo", health="tcp")
        knows(two, "Echo", "n1")
    until(lambda: two.lookup("Echo")[0] == "CANTFIND", 20, "the sick service is out of answers")
    assert one.ctl("status")["services"]["Echo"]["healthy"] is False
    with socket.socket() as web:
        web.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        web.bind(("127.0.0.1", port))
        web.listen()
        until(lambda: two.lookup("Echo")[-1]["node"] == "n1", 20, "it is back")


def test_one_broken_bdcert_takes_out_no_other_service(mesh):
    (host,) = mesh.start(1)
    host.add_service("Good")
    host.add_service("Bad", weight="heavy")
    assert host.lookup("Good")[0] == "ME"
    assert host.lookup("Bad")[0] == "CANTFIND"
    assert any("Bad.bdcert:1: weight must be a number" in line for line in host.ctl("status")["complaints"])


def test_find_searches_past_every_cache(mesh):
    one, two, _ = mesh.start(3)
    mesh.wait_known()
    two.add_service("Rare")
    assert one.ctl("find", "Rare")["node"] == "n2"
    done = one.run("bdctl", "find", "Nothing")
    assert done.returncode == 1 and "3 nodes were asked" in done.stderr
