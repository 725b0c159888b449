"""A bug in a reader, planted in the processes of a real daemon: the node goes on, and says what it left out."""

import os
import re
import threading

from bdserver.files.quarantine import RESTLESS_STRIKES
from tests.hosts import until
from tests.plants import IN_POLICIES, IN_RECORDS, IN_SERVICES, is_restless, plant
from tests.unit.nodes import document


def test_what_ends_its_readers_is_left_out_and_said_while_look_ups_go_on(mesh, tmp_path):
    sick = []
    for name in ("Dies", "Raises"):
        (tmp_path / f"{name}.xml").write_text(document(name))
        sick.append(mesh.host(f"n{name}", ws_policy=tmp_path / f"{name}.xml"))
    one = mesh.host("n1", within=plant(tmp_path, IN_POLICIES, IN_SERVICES)).start()
    one.add_service("Echo", weight=0)
    one.lookup("Echo")
    is_over, failed = threading.Event(), []

    def look_up():
        while not is_over.wait(0.01):
            try:
                assert one.lookup("Echo")[0] == "ME"
            except Exception as error:
                failed.append(error)

    thread = threading.Thread(target=look_up)
    thread.start()
    try:
        one.add_service("Dies")
        one.add_service("Raises")
        for host in sick:
            host.start()
            one.ask(["HINT", host.address])

        def is_said():
            said = "\n".join(one.ask(["STATUS"])[1]["warnings"])
            words = "Dies.bdcert: in", "Raises.bdcert: in", "the policy of nDies: in", "the policy of nRaises: in"
            return all(f"{each} quarantine" in said for each in words)

        until(is_said, 20, "all four are named")
        until(lambda: one.discoverer_pid(), 20, "a discoverer is there")
        before = one.discoverer_pid()
        until(lambda: sorted(one.alive_names()) == ["n1", "nDies", "nRaises"], 20, "the mesh goes on")
        other = mesh.host("n2", hints=one.address).start()
        until(lambda: "n2" in one.alive_names() and "n1" in other.alive_names(), 20, "newcomers are met")
    finally:
        is_over.set()
        thread.join()
    assert not failed, failed[:3]
    assert one.discoverer_pid() == before, "nothing dies of it any more"
    assert list(one.ask(["STATUS"])[1]["services"]) == ["Echo"]
    one.kill()
    one.start()
    until(is_said, 20, "after a restart they are named as well")
    with open(os.path.join(one.folder, "var", "n1.bdquarantine")) as file:
        assert len(file.readlines()) == 4


def test_a_record_that_ends_its_readers_is_left_out_and_said_while_the_mesh_goes_on(mesh, tmp_path):
    one = mesh.host("n1", within=plant(tmp_path, IN_RECORDS)).start()
    two = mesh.host("n2", hints=one.address).start()
    mesh.wait_known()
    one.add_service("Echo", weight=0)
    two.lookup("Echo")
    sick = [mesh.host(name, hints=two.address).start() for name in ("nDies", "nRaises")]
    until(lambda: {each.name for each in sick} <= set(two.alive_names()), 20, "a node without the bug knows them")

    def is_said():
        assert two.lookup("Echo")
        said = [line for line in one.ask(["STATUS"])[1]["warnings"] if "a record of" in line and "in quarantine" in line]
        return any("its reader died" in line for line in said) and any("KeyError" in line for line in said)

    until(is_said, 40, "both records are named")
    until(lambda: is_restless(one, *sick), 60, "whatever they say anew is left out, too", 0.2)
    until(lambda: one.discoverer_pid(), 20, "a discoverer is there")
    before = one.discoverer_pid()
    other = mesh.host("n3", hints=one.address).start()
    until(lambda: "n3" in one.alive_names() and "n1" in other.alive_names(), 20, "newcomers are met")
    for host in sick:
        host.add_service(f"{host.name}Last", weight=0)
    until(lambda: {f"{host.name}Last" for host in sick} <= two.ctl("services").keys(), 20, "n2 has heard")
    other.add_service("Last", weight=0)
    until(lambda: "Last" in one.ctl("services"), 20, "n1 hears what others say")
    assert one.discoverer_pid() == before, "nothing dies of it any more"
    died = re.findall("a record of nDies that .* told: a process died", one.log)
    assert len(died) <= RESTLESS_STRIKES, "not two for each of its records"
    assert not {"nDies", "nRaises"} & set(one.alive_names())
