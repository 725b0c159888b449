"""`bdctl doctor --all` on hosts with cables between them: each fault is named in the first line; one host's are in tests/mesh."""

import json
import os

import pytest

from bdserver.net.authority import Authority, general_names
from tests.hosts import RUN, until
from tests.unit.nodes import document


def ahead(host, seconds):
    """Its daemon is started anew with a clock that is so far ahead."""
    real = type(host).command_line
    plant = f"import time; right = time.time; time.time = lambda: right() + {seconds}; "
    host.end()
    host.command_line = lambda *words: [plant + each if each == RUN else each for each in real(host, *words)]
    host.start()
    del host.command_line


def three(lan, **config):
    hosts = lan.start(3, **config)
    lan.wait_known()
    return hosts


def policy(lan, host, *assertions):
    path = os.path.join(host.folder, "policy.xml")
    with open(path, "w") as file:
        file.write(document(*assertions))
    host.write_config(ws_policy=path)


# Each: makes hosts and the fault, and returns the host at which the doctor is asked.


def firewall_before_the_port_for_news(lan):
    hosts = three(lan)
    lan.network.filter(hosts[1].name, 9002)
    return hosts[0]


def firewall_before_the_port_of_callers(lan):
    hosts = three(lan)
    lan.network.filter(hosts[1].name, 9001)
    return hosts[0]


def firewall_that_lets_one_direction_through(lan):
    hosts = three(lan)
    for port in (9001, 9002):
        lan.network.filter(hosts[1].name, port, hosts[2].name)
    return hosts[0]


def small_mtu_on_the_way(lan):
    hosts = three(lan)
    lan.network.narrow(hosts[2].name, 1300)
    return hosts[0]


def clock_that_is_off(lan):
    hosts = three(lan)
    ahead(hosts[1], 90)
    lan.wait_known()
    return hosts[0]


def hint_of_another_mesh(lan):
    """Before the start."""
    (one,) = lan.start(1)
    two = lan.host("n2", hints=one.address)
    other = os.path.join(lan.folder, "other-ca")
    Authority.make(other, "other")
    for name in ("n2.key", "n2.crt", "ca.crt"):
        os.unlink(os.path.join(two.folder, name))
    Authority.load(other).issue(two.folder, "n2", "node", general_names([two.ip]))
    return two


def hint_by_an_address_that_is_not_in_its_certificate(lan):
    (one,) = lan.start(1)
    lan.network.on("n1", "address", "add", "10.77.0.99/24", "dev", "eth0")
    one.write_config(bind="")
    one.end()
    one.start()
    return lan.host("n2", hints="10.77.0.99:9001")


def hint_behind_a_firewall(lan):
    (one,) = lan.start(1)
    lan.network.filter(one.name, 9001)
    return lan.host("n2", hints=one.address)


def hint_with_another_policy(lan):
    one = lan.host("n1")
    policy(lan, one, "a")
    one.start()
    two = lan.host("n2", hints=one.address)
    policy(lan, two, "b")
    two.start()
    until(lambda: "alone-policy" in str(two.ctl("status")["findings"]), 20, "it knows why")
    return two


def hint_that_has_our_name(lan):
    (one,) = lan.start(1)
    two = lan.host("n2", hints=one.address)
    two.write_config(username="n1")
    Authority.load(lan.authority).issue(two.folder, "n1", "node", general_names([two.ip]))
    return two


def revoked_by_the_other(lan):
    one = lan.host("n1")
    with open(os.path.join(one.folder, "revoked"), "w") as file:
        file.write("n2\n")
    one.write_config(revoked="revoked")
    one.start()
    two = lan.host("n2", hints=one.address).start()
    until(lambda: "revoked" in str(two.ctl("status")["findings"]), 20, "it knows why")
    return two


FAULTS = {
    firewall_before_the_port_for_news: ("news-port", "n2"),
    firewall_before_the_port_of_callers: ("unreached-silence", "none of 2 nodes reaches n2"),
    firewall_that_lets_one_direction_through: ("one-way", "n3 does not reach n2, and n2 reaches n3"),
    small_mtu_on_the_way: ("mtu", "n3"),
    clock_that_is_off: ("clock", "is 90 s ahead"),
    hint_of_another_mesh: ("unreached-mesh", "this host does not reach 10.77.0.1:9001"),
    hint_by_an_address_that_is_not_in_its_certificate: ("unreached-certificate", "is for 10.77.0.1, not for 10.77.0.99"),
    hint_behind_a_firewall: ("unreached-silence", "this host does not reach 10.77.0.1:9001"),
    hint_with_another_policy: ("alone-policy", "10.77.0.1:9001"),
    hint_that_has_our_name: ("rival", "a node named n1 answers at 10.77.0.1:9001 already"),
    revoked_by_the_other: ("revoked", "is revoked"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_between_hosts_is_named_in_the_first_line(lan, fault):
    host = fault(lan)
    key, words = FAULTS[fault]
    found = []

    def is_first():
        said = host.run("bdctl", "--json", "doctor", "--all")
        assert said.returncode in (0, 1), said.stderr
        found[:] = json.loads(said.stdout)["findings"]
        return bool(found) and found[0]["key"] == key

    until(is_first, 30, f"{key} is first", 0.2)  # a machine that is short of time may have a finding of its own
    assert words in found[0]["text"] and found[0]["remedy"]


def test_nothing_is_found_between_ten_sound_hosts(lan):
    hosts = lan.start(10)
    lan.wait_known()
    found = []

    def is_well():
        said = hosts[9].run("bdctl", "--json", "doctor", "--all")
        found[:] = [each for each in json.loads(said.stdout)["findings"] if each["key"] not in ("socket-closed", "lag")]
        return found == []

    until(is_well, 30, "all is well", 0.2)
