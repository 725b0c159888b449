"""What befalls hosts and the cables between them: joined, cut, killed, half deaf, moved."""

import ipaddress
import os
import re

from tests import plants
from tests.hosts import until


def wait_status(hosts, name, status, seconds=20.0):
    """Until all these hosts say so of that one."""
    until(lambda: {host.status_of(name) for host in hosts} == {status}, seconds, f"{name} is {status} for all", 0.1)


def wait_alive(hosts, others):
    """To all these hosts those others live, and nobody else. None of them is dead meanwhile; whom a busy machine has made suspect
    is so no longer in the end."""
    names = {each.name for each in others}
    for host in hosts:
        assert not {node["name"] for node in host.nodes() if node["status"] == "dead"} & names
        until(lambda host=host: set(host.alive_names()) == names, 20, f"who lives, to {host.name}")


def answer(host, service):
    """The node that a lookup on this host names."""
    found = host.lookup(service)
    return found[-1]["node"] if found[0] != "CANTFIND" else None


def starts(hosts):
    """Each one's process and generation: both are others after a restart."""
    own = {host.name: next(node for node in host.nodes() if node["name"] == host.name) for host in hosts}
    return {host.name: (host.process.pid, own[host.name]["version"][0]) for host in hosts}


def test_one_config_fits_all_hosts_and_a_client_elsewhere_finds_a_service(lan):
    everybody = " ".join(f"10.77.0.{number}:9001" for number in range(1, 5))
    hosts = lan.start(4, hints=everybody, bind="")
    lan.wait_known()
    assert {node["address"] for host in hosts for node in host.nodes()} == set(everybody.split())
    hosts[3].add_service("Echo")
    until(lambda: "Echo" in hosts[0].ctl("services"), 10, "n1 knows Echo")
    client = lan.host("client")  # a host without a daemon
    keys = lan.issue("joe", role="client")
    asked = ["--node", hosts[0].address, "--keys", os.path.join(keys, "joe"), "Echo"]
    done = client.run("bdwhereis", *asked)
    assert (done.stdout, done.stderr) == ("http://10.77.0.4:8080/axis/Echo?wsdl\n", "")
    hosts[3].kill()
    done = client.run("bdwhereis", *asked)
    assert (done.returncode, done.stdout) == (1, ""), "the only holder is dead, and nobody may be sent there"


def test_halves_of_a_cut_mesh_go_on_alone_and_find_each_other_again(lan):
    hosts = lan.start(5)
    lan.wait_known()
    left, right = hosts[:2], hosts[2:]
    for host in (left[0], right[0]):
        host.add_service("Both")
    for host in hosts:
        until(lambda h=host: len(h.ctl("services").get("Both", ())) == 2, 10, f"{host.name} knows both holders")
    before = starts(hosts)

    for host in right:
        lan.network.plug(host.name, "right")
    for half, other in ((left, right), (right, left)):
        for host in other:
            wait_status(half, host.name, "dead", 30)
    for half in (left, right):
        wait_alive(half, half)
    assert {answer(host, "Both") for host in left} == {left[0].name}
    assert {answer(host, "Both") for host in right} == {right[0].name}
    left[1].add_service("Left")
    until(lambda: answer(left[0], "Left") == left[1].name, 10, "the left half knows Left")

    for host in right:
        lan.network.plug(host.name, "left")
    lan.wait_known(30)
    until(lambda: {answer(host, "Left") for host in right} == {left[1].name}, 10, "the right half knows Left")
    assert starts(hosts) == before
    assert not any("Traceback" in host.log for host in hosts)


def test_halves_each_keep_their_standing_copies_and_together_none_too_many(lan, tmp_path):
    """Three holders are wanted: each half makes three of what it has, and some time after the halves have met there are three."""
    hosts = lan.start(7, within=plants.plant(tmp_path, plants.HASTE))
    lan.wait_known()
    hosts[0].add_service("Echo", replicas=3)

    def holders(host):
        return sorted(each["node"] for each in host.ctl("services").get("Echo", ()))

    until(lambda: all(len(holders(host)) == 3 for host in hosts), 30, "all know three holders")
    original, copy, *_ = holders(hosts[0])
    left = [host for host in hosts if host.name in (original, copy)]
    left += [host for host in hosts if host.name not in holders(hosts[0])][:1]
    right = [host for host in hosts if host not in left]
    for host in right:
        lan.network.plug(host.name, "right")
    for half in (left, right):
        names = sorted(host.name for host in half)
        is_whole = lambda host, names=names: len(holders(host)) == 3 and set(holders(host)) <= set(names)  # noqa: E731
        until(lambda half=half, w=is_whole: all(map(w, half)), 60, f"three of {names} have it")
    for host in right:
        lan.network.plug(host.name, "left")
    lan.wait_known(30)
    until(lambda: all(len(holders(host)) == 3 for host in hosts), 75, "three have it again")
    assert len({tuple(holders(host)) for host in hosts}) == 1 and hosts[0].name in holders(hosts[0])


def test_a_process_that_is_gone_refuses_and_a_host_that_is_gone_is_silent_and_both_are_found(lan):
    *rest, host_gone, process_gone = lan.start(5)
    lan.wait_known()
    lan.network.cut(host_gone.name)
    process_gone.kill()
    wait_status(rest, process_gone.name, "dead", 60)
    wait_status(rest, host_gone.name, "dead", 60)
    said = "".join(host.log for host in rest)
    assert f"{process_gone.gossip_address}: connection refused" in said
    assert f"{host_gone.ip}:" in said and not re.search(rf"{re.escape(host_gone.ip)}:[0-9]+: connection refused", said)
    assert re.search(rf"{re.escape(host_gone.ip)}:[0-9]+(: No route to host| did not answer in time)", said)
    lan.network.reconnect(host_gone.name)
    process_gone.start()
    lan.wait_known()


def test_nobody_dies_of_a_link_that_carries_one_way_only(lan):
    hosts = lan.start(4)
    a, b = hosts[:2]
    lan.wait_known()
    a.add_service("OfA")
    b.add_service("OfB")
    until(lambda: {"OfA", "OfB"} <= a.ctl("services").keys() & b.ctl("services").keys(), 10, "both services are known")
    lan.network.deafen(b.name, to=a.name)

    def failed_probes(host, of):
        return len(re.findall(rf"Probe\(name='{of.name}'.*: ", host.log))

    until(lambda: min(failed_probes(a, b), failed_probes(b, a)) >= 5, 60, "five probes failed each way")
    assert (answer(a, "OfB"), answer(b, "OfA")) == ("n2", "n1"), "lookups go around the broken link"
    b.add_service("New")
    until(lambda: answer(a, "New") == "n2", 10, "news goes around it too")
    assert not [line for host in hosts for line in host.log.splitlines() if line.endswith("is dead")]
    wait_alive(hosts, hosts)


def test_a_mesh_of_ipv6_alone(lan):
    lan.subnet = ipaddress.ip_network("fd00:77::/64")
    hosts = lan.start(3)
    lan.wait_known()
    assert {node["address"] for node in hosts[0].nodes()} == {f"[fd00:77::{number}]:9001" for number in (1, 2, 3)}
    hosts[2].add_service("Echo")
    until(lambda: "Echo" in hosts[0].ctl("services"), 20, "n1 knows Echo")
    done = hosts[0].run("bdwhereis", "Echo")
    assert done.stdout == "http://[fd00:77::3]:8080/axis/Echo?wsdl\n", done.stderr
    keys = lan.issue("joe", "fd00:77::9", role="client")
    asked = ["--node", hosts[1].address, "--keys", os.path.join(keys, "joe"), "Echo"]
    assert hosts[0].run("bdwhereis", *asked).stdout == done.stdout
    hosts[2].kill()
    wait_status(hosts[:2], "n3", "dead", 60)


def test_a_host_that_moves_to_another_address_is_found_there(lan):
    a, b, c = lan.start(3)
    lan.wait_known()
    b.add_service("Echo")
    until(lambda: "Echo" in a.ctl("services"), 20, "n1 knows Echo")
    b.end()
    wait_status((a, c), "n2", "left")
    new = "10.77.0.99"
    lan.network.set_address("n2", new)
    for name in ("n2.key", "n2.crt"):
        os.unlink(os.path.join(b.folder, name))
    lan.issue("n2", new, folder=b.folder)
    b.ip = new
    b.write_config(bind=new)
    b.start()

    def known_at(host):
        return next(node["address"] for node in host.nodes() if node["name"] == "n2")

    until(lambda: {known_at(host) for host in (a, c)} == {f"{new}:9001"}, 30, "n2 is known at its new address")
    wait_status((a, c), "n2", "alive")
    assert a.whereis("Echo").stdout == f"http://{new}:8080/axis/Echo?wsdl\n"
