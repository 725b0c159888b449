"""A bug in what reads others' records and policies, on eight hosts of ten: none of the ten fails a look-up for it."""

import re
import threading
import time

from tests.hosts import until
from tests.plants import IN_POLICIES, IN_RECORDS, is_restless, plant
from tests.unit.nodes import document

LOOK_UP_SECONDS = 1.0


class Client:
    """Looks up at one node without a pause; `took`: seconds, of each; `failed`: what was no answer."""

    def __init__(self, host, service, holder):
        self.host, self.asked = host, (service, holder)
        self.took, self.failed = [], []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        service, holder = self.asked
        while not self._is_over.wait(0.1):
            began = time.monotonic()
            try:
                found = self.host.lookup(service)
                if found[-1]["node"] != holder:
                    self.failed.append(found)
            except Exception as error:
                self.failed.append(repr(error))
            self.took.append(time.monotonic() - began)

    def end(self):
        self._is_over.set()
        self._thread.join()


def test_ten_nodes_answer_within_a_second_while_eight_crash_of_what_the_others_say(lan, tmp_path):
    planted = plant(tmp_path, IN_POLICIES, IN_RECORDS)
    (tmp_path / "policy.xml").write_text(document("Dies"))
    eight = lan.start(8, within=planted, receiver_threshold=1e9)
    hints = eight[0].address
    eight[1].add_service("Echo")
    for host in eight:
        until(lambda host=host: "Echo" in host.ctl("services"), 20, f"{host.name} knows Echo")
    clients = [Client(host, "Echo", "n2") for host in eight]
    try:
        # The record of one ends whoever reads it. So does the policy of the other, which therefore meets nobody's.
        dies = lan.host("nDies", hints=hints).start()
        policy = lan.host("policy", hints=hints, ws_policy=tmp_path / "policy.xml").start()
        policy.add_service("Own")
        until(lambda: "Echo" in dies.ctl("services"), 20, "nDies knows Echo")
        clients += [Client(dies, "Echo", "n2"), Client(policy, "Own", "policy")]

        def names(host, origin):
            said = [
                line for line in host.ask(["STATUS"])[1]["warnings"] if "in quarantine" in line and "its reader died" in line
            ]
            return any(re.match(origin, line) for line in said)

        for host in eight:
            until(lambda host=host: names(host, "a record of .* told"), 60, f"{host.name} names the record", 0.2)
        caller = r"the caller's policy \(.*policy from 10\.77\.0\.10\)"
        until(lambda: names(eight[0], caller), 60, "whom the other has called names its policy", 0.2)
        for host in eight:
            until(lambda host=host: is_restless(host, dies), 60, f"{host.name} leaves out whatever nDies says anew", 0.5)
        until(lambda: all(host.discoverer_pid() for host in eight), 60, "all have a discoverer")
        before = [host.discoverer_pid() for host in eight]
        lan.host("n11", hints=hints, within=planted).start()
        for host in eight:
            until(lambda host=host: "n11" in host.alive_names(), 60, f"{host.name} hears of a newcomer", 0.2)
    finally:
        for client in clients:
            client.end()
    assert [client.failed[:3] for client in clients] == [[]] * 10
    longest = {client.host.name: round(max(client.took), 3) for client in clients}
    assert max(longest.values()) < LOOK_UP_SECONDS, longest
    assert [host.discoverer_pid() for host in eight] == before, "nothing dies of it any more"
    print(longest, sum(len(client.took) for client in clients))
