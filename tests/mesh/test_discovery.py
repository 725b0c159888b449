"""How nodes find, lose and find each other again."""

import itertools
import os
import signal
import threading

from tests.hosts import until


def test_nodes_started_in_any_order_along_a_chain_of_hints_know_each_other(mesh):
    hosts = [mesh.host(f"n{i}") for i in range(6)]
    for host, next_one in itertools.pairwise(hosts):
        host.write_config(hints=next_one.address)
    for host in hosts:  # each is hinted at one that is not there yet
        host.start()
    mesh.wait_known(60)


def test_twenty_nodes_know_each_other_and_every_service(mesh):
    hosts = mesh.start(20)
    hosts[7].add_service("Echo")
    mesh.wait_known(60)
    until(lambda: all("Echo" in host.ask(["STATUS"])[2].__repr__() for host in hosts), 30, "all know of Echo")
    hosts[13].kill()
    rest = [host for host in hosts if host.name != hosts[13].name]
    until(lambda: {host.status_of(hosts[13].name) for host in rest} == {"dead"}, 30, "all know that it is dead")

    def of_others():
        return {node["status"] for host in rest for node in host.nodes() if node["name"] != hosts[13].name}

    assert "dead" not in of_others()
    until(lambda: of_others() == {"alive"}, 20, "whom a busy machine made suspect is so no longer")


def test_hint_joins_and_forget_drops(mesh):
    one, two = mesh.host("n1").start(), mesh.host("n2").start()
    assert one.alive_names() == ["n1"]
    until(lambda: "lonely: nobody to synchronise with" in one.log, 10, "n1 says that it is lonely")
    one.ctl("hint", two.address)
    mesh.wait_known()
    until(lambda: "no longer lonely" in one.log, 10, "n1 is lonely no longer")
    two.kill()
    until(lambda: one.status_of("n2") == "dead", 20, "n2 is dead")
    one.ctl("forget", "n2")
    assert one.status_of("n2") == "unknown"
    done = one.run("bdctl", "forget", "n2")
    assert done.returncode == 1 and "no such node" in done.stderr


def test_a_hint_that_is_no_bdserver_is_said_in_one_line(mesh):
    import http.server

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        host = mesh.host("n1", hints=f"127.0.0.1:{web.server_port}").start()
        until(lambda: f"127.0.0.1:{web.server_port}" in host.log, 20, "a line about it")
        assert "Traceback" not in host.log
        assert host.nodes()[-1]["status"] == "unvisited"
    finally:
        web.shutdown()
        web.server_close()


def suspected_then_dead(seen_by, name):
    for status in ("suspect", "dead"):
        until(lambda s=status: all(host.status_of(name) in (s, "dead") for host in seen_by), 60, f"{name} is {status}")


def test_a_stopped_node_is_suspected_then_dead_and_lives_again_when_it_goes_on(mesh):
    one, two, three = mesh.start(3, probe_interval=0.2)
    mesh.wait_known()
    with three.frozen():
        suspected_then_dead([one, two], "n3")
    until(lambda: one.status_of("n3") == "alive" and two.status_of("n3") == "alive", 60, "n3 lives again")


def test_a_node_whose_listener_alone_hangs_says_so_and_is_dead_until_it_answers_again(mesh):
    one, two, three = mesh.start(3, probe_interval=0.2)
    three.add_service("Echo")
    mesh.wait_known()
    until(lambda: any("Echo" in node["services"] for node in one.nodes()), 20, "Echo is known")
    until(
        lambda: three.ctl("status")["uptime"] > 3,
        20,
        "its discoverer has heard its listener: one not heard yet may be on its way",
    )
    os.kill(three.process.pid, signal.SIGSTOP)
    try:
        until(lambda: not any("Echo" in node["services"] for node in one.nodes()), 20, "n3 offers nothing any more")
        suspected_then_dead([one, two], "n3")
        assert "our listener does not answer" in three.log
    finally:
        os.kill(three.process.pid, signal.SIGCONT)
    until(lambda: one.status_of("n3") == "alive" and two.status_of("n3") == "alive", 60, "n3 lives again")
    until(lambda: any("Echo" in node["services"] for node in one.nodes()), 20, "Echo is offered again")


def test_a_node_whose_discoverer_alone_hangs_is_dead_and_lives_again(mesh):
    one, two, three = mesh.start(3, probe_interval=0.2)
    mesh.wait_known()
    pid = three.discoverer_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        suspected_then_dead([one, two], "n3")
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: one.status_of("n3") == "alive" and two.status_of("n3") == "alive", 60, "n3 lives again")


def test_a_discoverer_that_is_killed_is_missed_by_nobody(mesh):
    """Twice; the pauses before it is started again grow to what nobody would wait for."""
    one, two, three = mesh.start(3)
    mesh.wait_known()

    for name in ("Echo", "Maps"):
        pid = three.discoverer_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: three.discoverer_pid() not in (0, pid), 20, "another discoverer")
        three.add_service(name)
        until(lambda name=name: all(name in host.ctl("services") for host in (one, two)), 60, "it tells the others")
    assert "n3 is dead" not in one.log + two.log
    assert one.status_of("n3") == two.status_of("n3") == "alive"


def test_a_node_that_comes_back_at_another_address_replaces_its_old_self(mesh):
    from tests.hosts import free_port

    one, two = mesh.start(2)
    mesh.wait_known()
    two.kill()
    two.port = free_port()
    two.write_config(port=two.port)
    two.start()
    until(lambda: [n["address"] for n in one.nodes() if n["name"] == "n2"] == [two.address], 20, "the new address")
    mesh.wait_known()


def test_two_live_nodes_with_one_name_are_both_told(mesh):
    import shutil

    one, two = mesh.start(2)
    mesh.wait_known()
    twin = mesh.host("n3", hints=one.address)
    for suffix in ("key", "crt"):  # n3's place, n2's certificate
        shutil.copy(os.path.join(two.folder, f"n2.{suffix}"), os.path.join(twin.folder, f"n3.{suffix}"))
    twin.start()
    for host, other in ((two, twin), (twin, two)):
        until(lambda h=host, o=other: f"at {o.address} (serial " in h.log, 40, f"{host.folder} hears of its twin")
    assert "two live nodes are named n2" in two.log
    twin.kill()


def test_two_nodes_that_synchronise_with_each_other_at_once_do_not_wait(mesh):
    one, two = mesh.start(2)
    mesh.wait_known()
    for _ in range(20):
        for host, other in ((one, "n2"), (two, "n1")):
            os.kill(host.process.pid, signal.SIGHUP)  # raises nothing, but keeps both busy with their own cache
            host.ask(["HINT", "127.0.0.1:9"])
            host.ask(["FORGET", "127.0.0.1:9"])
            assert host.status_of(other) == "alive"


def test_drain_is_known_everywhere(mesh):
    one, two = mesh.start(2)
    mesh.wait_known()
    two.ctl("drain")
    until(lambda: [n["draining"] for n in one.nodes() if n["name"] == "n2"] == [True], 20, "n1 knows that n2 drains")


def test_leave_is_told_and_ends(mesh):
    one, two = mesh.start(2)
    mesh.wait_known()
    two.ctl("leave")
    two.process.wait(30)
    until(lambda: one.status_of("n2") == "left", 20, "n1 knows that n2 left")


def test_kill_all_ends_the_mesh(mesh):
    hosts = mesh.start(3)
    mesh.wait_known()
    keys = mesh.issue("boss", role="admin")
    done = hosts[0].run("bdctl", "--keys", os.path.join(keys, "boss"), "--json", "kill", "--all")
    assert done.returncode == 0, done.stderr
    for host in hosts:
        host.process.wait(20)


def test_ping_tells_who_is_there(mesh):
    one, two = mesh.start(2)
    mesh.wait_known()
    assert {row["answer"] for row in one.ctl("ping", "--all")} == {"PONG"}
    two.kill()
    done = one.run("bdctl", "ping", two.address)
    assert done.returncode == 4 and "connection refused" in done.stdout
