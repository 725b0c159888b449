"""Certificates that end, are renewed, revoked, and whose CA changes: on a live mesh, without a dropped connection."""

import os
import signal
import threading
import time

import pytest

from bdserver.commands import bdkeys
from bdserver.errors import BDError, Forbidden
from bdserver.net import dialling, keys
from tests.hosts import until


def dialled(host, credentials):
    return dialling.dial(host.address, credentials, time.monotonic() + 10)


def hup(*hosts):
    for host in hosts:
        host.process.send_signal(signal.SIGHUP)


def reload(host):
    """SIGHUP, until its listener and its discoverer have read all anew."""
    before = {what: host.log.count(what) for what in ("certificates read anew", "discoverer has read all anew")}
    hup(host)
    until(lambda: all(host.log.count(what) > said for what, said in before.items()), 20, f"{host.name} has reloaded")


def serial(host, credentials):
    with dialled(host, credentials) as talk:
        return talk.identity.serial


def renew(mesh, host, days=365):
    assert bdkeys.main(["renew", mesh.authority, host.name, "--days", str(days), "--in", host.folder]) == 0


@pytest.fixture
def auditor(mesh):
    """A client's credentials."""
    return keys.load(mesh.issue("auditor", role="client"), "auditor")


def test_a_renewed_certificate_serves_new_connections_and_open_ones_go_on(mesh, auditor):
    alpha, beta = mesh.start(2)
    mesh.wait_known()
    old = serial(alpha, auditor)
    with dialled(alpha, auditor) as open_before, dialling.dial_local(alpha.socket, time.monotonic() + 60) as local_before:
        assert open_before.ask(["PING"], time.monotonic() + 10).digest
        assert local_before.ask(["PING"], time.monotonic() + 10).digest
        renew(mesh, alpha)
        hup(alpha)
        until(lambda: serial(alpha, auditor) != old, 20, "the listener shows the new certificate")
        for talk in (open_before, local_before):
            assert talk.ask(["PING"], time.monotonic() + 10).digest, "an open connection was dropped"
    # beta refuses the old one from now on: if alpha's discoverer or a child still showed it, alpha could not call beta.
    with open(os.path.join(beta.folder, "revoked"), "w") as file:
        file.write(f"serial {old:x}  # the one before\n")
    beta.write_config(revoked="revoked")
    hup(beta)
    until(lambda: beta.ctl("status")["uptime"] and "SIGHUP" in beta.log, 20, "beta has read its list")
    beta.add_service("Echo")
    until(lambda: alpha.lookup("Echo")[-1]["node"] == beta.name, 20, "beta answers alpha")

    def wait_until_heard():
        heard = time.time()
        until(
            lambda: next(node["heard_at"] for node in beta.nodes() if node["name"] == alpha.name) > heard,
            60,
            "alpha's discoverer talks to beta",
        )

    wait_until_heard()  # what alpha had begun to say with the old one, beta may have refused until then
    said = len(beta.log)
    wait_until_heard()
    assert "is revoked" not in beta.log[said:]


def test_a_revoked_client_is_shut_out_at_once_also_where_it_is_connected(mesh, auditor):
    [alpha] = mesh.start(1, revoked="revoked") if _made_empty_list(mesh) else []
    path = os.path.join(alpha.folder, "revoked")
    with dialled(alpha, auditor) as talk:
        assert talk.ask(["PING"], time.monotonic() + 10).digest
        with open(path, "w") as file:
            file.write("# stolen on Monday\nauditor\n")
        with pytest.raises(Forbidden, match=r"the certificate of auditor \(serial [0-9a-f]+\) is revoked here"):
            talk.ask(["PING"], time.monotonic() + 10)
        with pytest.raises(BDError):  # and the connection is closed
            talk.ask(["PING"], time.monotonic() + 10)
    with pytest.raises(Forbidden, match="revoked"), dialled(alpha, auditor) as talk:
        talk.ask(["PING"], time.monotonic() + 10)
    with open(path, "w") as file:
        file.write("not a line: that\n")
    with pytest.raises(Forbidden, match="revoked"), dialled(alpha, auditor) as talk:  # what can't be read changes nothing
        talk.ask(["PING"], time.monotonic() + 10)
    assert f"{path}:1: neither a name nor a serial number" in alpha.log
    assert any("the list of revoked certificates stays as it was" in line for line in alpha.ctl("status")["warnings"])
    os.truncate(path, 0)
    assert alpha.ctl("status")["warnings"] == []

    def is_let_in():
        try:
            with dialled(alpha, auditor) as talk:
                return talk.ask(["PING"], time.monotonic() + 10).digest
        except Forbidden:
            return ""

    until(is_let_in, 20, "who stands in the list no more is let in")


def _made_empty_list(mesh):
    """The list must be there before the start: a node whose list is missing does not start."""
    folder = os.path.join(mesh.folder, "n1")
    os.makedirs(folder)
    open(os.path.join(folder, "revoked"), "w").close()
    return True


def test_a_revoked_node_is_known_no_more_and_does_not_get_in(mesh):
    alpha, beta, gamma = mesh.start(3)
    gamma.add_service("Echo")
    mesh.wait_known()
    until(lambda: "Echo" in alpha.ctl("services"), 20, "alpha knows Echo")
    for host in (alpha, beta):
        with open(os.path.join(host.folder, "revoked"), "w") as file:
            file.write(f"{gamma.name}\n")
        host.write_config(revoked="revoked")
    hup(alpha, beta)
    for host in (alpha, beta):
        until(lambda host=host: host.status_of(gamma.name) == "unknown", 20, f"{host.name} knows {gamma.name} no more")
    assert alpha.lookup("Echo")[0] in ("CANTFIND", "NETFAULT")
    until(lambda: "is revoked here" in alpha.log + beta.log, 60, "who calls with it is refused, and that is said")


def test_the_end_of_a_certificate_is_said_in_log_and_status(mesh):
    host = mesh.host("alpha")
    renew(mesh, host, days=6)
    host.start()
    until(lambda: "ends in less than 7 days" in host.log, 20, "a warning in the log")
    [warning] = host.ctl("status")["warnings"]
    assert warning.startswith("the certificate of alpha ends in less than 7 days, on 20")
    assert "WARNING: the certificate of alpha" in host.run("bdctl", "status").stdout
    renew(mesh, host)
    hup(host)
    until(lambda: host.ctl("status")["warnings"] == [], 20, "the warning is gone")
    assert "well: nothing needs attention" in host.run("bdctl", "status").stdout
    assert host.log.count("ends in less than 7 days") == 1, "said once"


class Load(threading.Thread):
    """Looks up without a pause, over new connections, and counts what failed."""

    def __init__(self, host, service):
        super().__init__(daemon=True)
        self.host, self.service = host, service
        self.answered, self.failed, self.is_over = 0, [], False

    def run(self):
        while not self.is_over:
            try:
                said = self.host.lookup(self.service)
                assert said[-1]["node"], said
                self.answered += 1
            except (BDError, AssertionError) as error:
                self.failed.append(repr(error))


def test_the_ca_is_changed_step_by_step_under_load_and_no_lookup_fails(mesh):
    alpha, beta, gamma = hosts = mesh.start(3, receiver_threshold=100000)
    for host in (beta, gamma):
        host.add_service("Echo")
    mesh.wait_known()
    until(lambda: len(alpha.ctl("services").get("Echo", [])) == 2, 30, "alpha knows both holders")
    load = Load(alpha, "Echo")
    load.start()
    old = {host.name: keys.load(host.folder, host.name).identity.serial for host in hosts}
    assert bdkeys.main(["roll", mesh.authority]) == 0
    for host in hosts:  # 1. both CAs are trusted everywhere
        _copy_authorities(mesh, host)
        reload(host)
    for host in hosts:  # 2. certificates by the new one, node by node
        renew(mesh, host)
        reload(host)
        until(
            lambda host=host: serial(host, keys.load(alpha.folder, alpha.name)) != old[host.name],
            20,
            "the new certificate is shown",
        )
    only_new = _newest(os.path.join(mesh.authority, "ca.crt"))
    for host in hosts:  # 3. the old one is dropped
        with open(os.path.join(host.folder, "ca.crt"), "w") as file:
            file.write(only_new)
        reload(host)
    done = load.answered
    until(lambda: load.answered > done + 20, 60, "lookups go on")
    load.is_over = True
    load.join(30)
    assert load.failed == [] and load.answered > 20
    mesh.wait_known()
    assert not any(" is dead" in host.log or " is suspect" in host.log for host in hosts)


def _copy_authorities(mesh, host):
    with open(os.path.join(mesh.authority, "ca.crt")) as source, open(os.path.join(host.folder, "ca.crt"), "w") as target:
        target.write(source.read())


def _newest(path):
    with open(path) as file:
        return file.read().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
