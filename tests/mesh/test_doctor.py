"""`bdctl doctor` on one host: each fault of the table is injected by itself, and named in the first line, with what to do.

Faults between hosts are in tests/netns/test_doctor.py."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bdserver.errors import BDError
from bdserver.net import keys
from bdserver.net.authority import Authority
from bdserver.net.container import Container
from tests.hosts import LOOPBACK, Mesh, free_port, until


class Patient:
    """A host that is well but for one fault; what must be undone is on the stack."""

    def __init__(self, mesh, stack):
        self.mesh, self.stack = mesh, stack
        self.host = mesh.host("n1")
        self.folder = self.host.folder
        self.within = []
        self.found = []

    def configure(self, **settings):
        self.host.write_config(**settings)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path

    def renew(self, days):
        Authority.load(self.mesh.authority).renew(os.path.join(self.folder, "n1.crt"), days)

    def mounted(self, *words):
        """Only for the doctor: a mount of its own."""
        self.within = ["unshare", "--mount", "sh", "-c", f'mount {" ".join(words)} && exec "$@"', "sh"]

    def serve(self, handler, **settings):
        """A web server for the services, and the service Echo."""
        port = free_port()
        self.host.add_service("Echo", health="tcp")
        self.configure(axis_port=port, axis_web_dir="", **settings)
        server = ThreadingHTTPServer((LOOPBACK, port), handler)
        self.run(server)

    def run(self, server):
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.stack.callback(server.server_close)
        self.stack.callback(server.shutdown)

    def doctor(self, *arguments):
        line = [*self.within, *self.host.command_line("bdctl", "--config", self.host.config_path, "doctor", *arguments)]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def patient():
    """In a folder that every account may pass."""
    with tempfile.TemporaryDirectory() as folder, Mesh(folder) as mesh, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o755)
        yield Patient(mesh, stack)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


# --- the faults: each breaks one thing of a patient ---------------------------------------------------------------


def wrong_key_in_config(patient):
    patient.configure(recever_threshold=5)


def no_config(patient):
    os.unlink(patient.host.config_path)


def no_such_user(patient):
    patient.configure(user="bdserver-nobody")


def key_that_others_read(patient):
    os.chmod(os.path.join(patient.folder, "n1.key"), 0o644)


def key_that_is_not_there(patient):
    os.unlink(os.path.join(patient.folder, "n1.key"))


def expired_certificate(patient):
    patient.renew(1e-5)

    def is_over():
        with contextlib.suppress(BDError):
            keys.load(patient.folder, "n1")
            return False
        return True

    until(is_over, 10, "it is over")


def certificate_that_ends(patient):
    patient.renew(5)


def address_not_in_certificate(patient):
    patient.configure(advertise="10.1.2.3")


def folder_of_another(patient):
    log = os.path.join(patient.folder, "var", "log")
    os.makedirs(log)
    for folder, names, files in os.walk(patient.folder):
        for name in names + files:
            os.chown(os.path.join(folder, name), 65534, 65534)
    os.chown(log, 0, 0)
    for folder in (patient.folder, patient.mesh.folder):
        os.chmod(folder, 0o755)
    patient.configure(user="nobody")
    os.chown(patient.host.config_path, 65534, 65534)


def broken_list_of_revoked(patient):
    patient.configure(revoked=patient.write("revoked", "serial :\n"))


def name_in_black_list(patient):
    patient.configure(black_list=patient.write("black", "www.example.org\n"))


def broken_policy(patient):
    patient.configure(ws_policy=patient.write("policy.xml", "<Policy>\n"))


def full_disk(patient):
    os.makedirs(os.path.join(patient.folder, "var", "log"))
    patient.mounted("-t tmpfs -o size=1m none", os.path.join(patient.folder, "var", "log"))


def no_inodes(patient):
    log = os.path.join(patient.folder, "var", "log")
    os.makedirs(log)
    patient.mounted("-t tmpfs -o size=4g,nr_inodes=1 none", log)


def port_taken(patient):
    patient.stack.enter_context(socket.create_server((LOOPBACK, patient.host.port)))


def port_for_news_taken(patient):
    patient.stack.enter_context(socket.create_server((LOOPBACK, patient.host.port + 1)))


def second_daemon(patient):
    patient.host.start()
    patient.configure(port=free_port(), pid_file=os.path.join(patient.folder, "other.pid"))


def hanging_daemon(patient):
    patient.host.start()
    patient.stack.enter_context(patient.host.frozen())


def few_descriptors(patient):
    patient.configure(max_children=2000)
    patient.within = ["prlimit", "--nofile=600:600", "setpriv", "--bounding-set=-sys_resource"]


def unit_that_lets_it_write_elsewhere(patient):
    """As Debian's, with the services in another place and without ReadWritePaths."""
    units = os.path.join(patient.folder, "units")
    os.mkdir(units)
    config = patient.host.config_path
    unit = f"[Service]\nExecStart=/usr/bin/bdserverd --foreground {config}\nProtectSystem=strict\nStateDirectory=bdserver\n"
    patient.write("units/bdserverd.service", unit)
    patient.mounted("--bind", units, "/etc/systemd/system")


def no_web_server(patient):
    patient.host.add_service("Echo", health="tcp")
    patient.configure(axis_port=free_port())


def web_server_of_another_folder(patient):
    elsewhere = os.path.join(patient.folder, "elsewhere")
    os.mkdir(elsewhere)
    patient.serve(partial(Quiet, directory=elsewhere))


def bdcert_given_out(patient):
    patient.serve(partial(Quiet, directory=patient.host.services))


def service_that_fails(patient):
    patient.host.add_service("Echo", text="#!/bin/sh\nexit 1\n", health="tcp")
    port = free_port()
    patient.configure(axis_port=port)
    patient.run(Container(LOOPBACK, port, patient.host.services))


def hit_log_that_is_a_link(patient):
    patient.write("var/log/other", "")
    os.symlink("other", os.path.join(patient.folder, "var", "log", "Echo.bdlog"))


def no_access_log(patient):
    patient.configure(access_log="/var/log/nowhere/access.log")


def access_log_of_another_format(patient):
    patient.configure(access_log=patient.write("access.log", '{"json": true}\n' * 30))


def script_that_is_not_executable(patient):
    patient.host.add_service("Echo", health="tcp")
    patient.configure(service_url="mailto://{host}/{service}")
    os.chmod(os.path.join(patient.host.services, "Echo"), 0o644)


def broken_bdcert(patient):
    patient.write("var/services/Echo.bdcert", "weight=heavy\n")


def unknown_name_in_hints(patient):
    patient.configure(hints="no-such-host.invalid:9001")


def another_certificate_on_disk(patient):
    patient.host.start()
    patient.renew(200)


def another_config_on_disk(patient):
    patient.host.start()
    patient.configure(receiver_threshold=7)


def originals_that_differ(patient):
    patient.host.start()
    other = patient.mesh.host("n2", hints=patient.host.address, service_url="mailto://x/{service}").start()
    patient.mesh.wait_known()
    for host, weight in ((patient.host, 1), (other, 3)):
        host.ask(
            ["PUBLISH", "Wiki", {"bytes": 0, "sha256": "", "url": "http://127.0.0.1/wiki", "weight": weight, "health": "none"}]
        )
    until(lambda: len(patient.host.ctl("services").get("Wiki", ())) == 2, 20, "both are known")


def a_node_that_died(patient):
    patient.host.start()
    other = patient.mesh.host("n2", hints=patient.host.address).start()
    patient.mesh.wait_known()
    other.kill()
    until(lambda: patient.host.status_of("n2") == "dead", 30, "it is dead")


def a_silent_hint(patient):
    """Whoever listens, and says nothing."""
    port = free_port()
    patient.stack.enter_context(socket.create_server((LOOPBACK, port)))
    patient.configure(hints=f"{LOOPBACK}:{port}")


def alone_in_a_running_mesh(patient):
    patient.configure(hints=f"{LOOPBACK}:{free_port()}")
    patient.host.start()
    until(lambda: "refused" in str(patient.host.ctl("status")["warnings"]), 20, "it knows why")


def no_list_of_publishers(patient):
    patient.configure(publishers=os.path.join(patient.folder, "nowhere"))


def link_in_the_place_of_services(patient):
    os.rmdir(patient.host.services)
    os.symlink("/nowhere/services", patient.host.services)


def folder_in_the_place_of_the_log(patient):
    patient.configure(log_file=patient.host.services)


def socket_whose_path_is_too_long(patient):
    patient.configure(socket=os.path.join(patient.folder, "x" * 120))


def folder_moved_while_it_runs(patient):
    patient.host.start()
    graveyard = os.path.join(patient.folder, "var", "graveyard")
    until(lambda: os.listdir(graveyard), 20, "the discoverer has looked at the services, which makes what is not there")
    os.rename(graveyard, os.path.join(patient.folder, "var", "moved"))


def port_of_the_embedded_web_server_taken(patient):
    port = free_port()
    patient.stack.enter_context(socket.create_server((LOOPBACK, port)))
    patient.configure(web="embedded", axis_port=port)


def embedded_web_server_at_the_port_of_the_node(patient):
    patient.configure(web="embedded", axis_port=patient.host.port)


def folder_closed_to_the_embedded_web_server(patient):
    """As any of root's own folders."""
    os.chmod(patient.folder, 0o700)
    patient.host.add_service("Echo", health="tcp")
    patient.configure(web="embedded", axis_port=free_port())


def folder_closed_to_an_embedded_web_server_that_runs(patient):
    folder_closed_to_the_embedded_web_server(patient)
    patient.host.start()


def hint_at_the_port_for_news(patient):
    other = patient.mesh.host("n2").start()
    patient.configure(hints=f"{LOOPBACK}:{other.port + 1}")


def hint_in_the_black_list(patient):
    other = patient.mesh.host("n2").start()
    patient.configure(hints=other.address, black_list=patient.write("black", f"{LOOPBACK}\n"))


def originals_that_differ_elsewhere(patient):
    """Of the same weight, and none of them here."""
    patient.host.start()
    for name in ("n2", "n3"):
        other = patient.mesh.host(name, hints=patient.host.address, service_url="mailto://x/{service}").start()
        other.add_service("Wiki", text=f"of {name}")

    def editions():
        return {each["edition"][1] for each in patient.host.ctl("services").get("Wiki", ())} - {""}

    until(lambda: len(editions()) == 2, 30, "both editions are known")


FAULTS = {
    wrong_key_in_config: ("config", "recever_threshold"),
    no_config: ("config", "No such file"),
    no_such_user: ("account", "there is no such user"),
    key_that_others_read: ("keys", "n1.key"),
    key_that_is_not_there: ("keys", "n1.key"),
    expired_certificate: ("keys", "expired on"),
    certificate_that_ends: ("certificate-ends", "less than 7 days"),
    address_not_in_certificate: ("address", "10.1.2.3"),
    folder_of_another: ("rights", "var/log is not writable for user nobody"),
    broken_list_of_revoked: ("revocations", "revoked:1"),
    name_in_black_list: ("black-list", "is a name"),
    broken_policy: ("policy", "policy.xml"),
    full_disk: ("disk", "nearly full"),
    no_inodes: ("inodes", "of its inodes left"),
    port_taken: ("ports", "Address already in use"),
    port_for_news_taken: ("ports", "gossip_port"),
    second_daemon: ("second-daemon", "another bdserverd"),
    hanging_daemon: ("daemon-silent", "does not answer"),
    few_descriptors: ("descriptors", "open files"),
    unit_that_lets_it_write_elsewhere: ("unit", "ProtectSystem=strict"),
    no_web_server: ("web-server", "nothing answers at"),
    web_server_of_another_folder: ("web-404", "(404)"),
    bdcert_given_out: ("bdcert-served", "Echo.bdcert"),
    service_that_fails: ("web-fails", "(500)"),
    hit_log_that_is_a_link: ("hit-log", "Echo.bdlog"),
    no_access_log: ("access-log", "No such file"),
    access_log_of_another_format: ("access-log", "of the format"),
    script_that_is_not_executable: ("not-executable", "Echo is a script"),
    broken_bdcert: ("complaint", "Echo.bdcert:1"),
    unknown_name_in_hints: ("names", "no-such-host.invalid"),
    another_certificate_on_disk: ("certificate-stale", "another certificate in memory"),
    another_config_on_disk: ("config-stale", "receiver_threshold"),
    originals_that_differ: ("originals", "Wiki"),
    a_node_that_died: ("dead", "n2 at "),
    a_silent_hint: ("unreached-silence", "this host"),
    alone_in_a_running_mesh: ("alone-silence", "connection refused"),
    no_list_of_publishers: ("publishers", "nowhere"),
    link_in_the_place_of_services: ("rights", "a link to /nowhere/services"),
    folder_in_the_place_of_the_log: ("rights", "is a folder"),
    socket_whose_path_is_too_long: ("rights", "has 107 at most"),
    folder_moved_while_it_runs: ("rights", "gone while the daemon runs"),
    port_of_the_embedded_web_server_taken: ("ports", "axis_port"),
    embedded_web_server_at_the_port_of_the_node: ("config", "web=embedded needs one of its own"),
    folder_closed_to_the_embedded_web_server: ("web-closed", "nobody (web_user) may not pass"),
    folder_closed_to_an_embedded_web_server_that_runs: ("web-closed", "nobody (web_user) may not pass"),
    hint_at_the_port_for_news: ("wrong-port", "at its port for callers"),
    hint_in_the_black_list: ("unreached-black-list", "is in our black list"),
    originals_that_differ_elsewhere: ("originals", "n2 (edition"),
}
# A folder of the test's, and what is true of ten daemons on a machine that has too much to do.
NOT_OF_THE_MESH = ("socket-closed", "lag", "suspected")
NEEDS_ROOT = (
    folder_of_another,
    full_disk,
    no_inodes,
    few_descriptors,
    unit_that_lets_it_write_elsewhere,
    no_such_user,
    folder_closed_to_the_embedded_web_server,
    folder_closed_to_an_embedded_web_server_that_runs,
)


def _first(patient):
    """The key of the first finding; a machine that is short of time may have one of its own."""
    said = patient.doctor("--json")
    patient.found = json.loads(said.stdout)["findings"]
    return patient.found[0]["key"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_named_in_the_first_line_with_what_to_do(patient, fault):
    if fault in NEEDS_ROOT and os.geteuid() != 0:
        pytest.skip("only root can break that")
    fault(patient)
    key, words = FAULTS[fault]
    first = until(lambda: _first(patient) == key and patient.found[0], 20, f"{key} is first, not {patient.found}", 0.2)
    assert words in first["text"]
    done = patient.doctor()
    assert words in done.stdout and done.stderr == "" and "Traceback" not in done.stdout
    assert done.returncode == 1


def test_a_host_that_was_never_started_is_well_and_is_told_how_to_start(patient):
    done = patient.doctor()
    assert done.returncode == 0 and done.stderr == ""
    first, last = done.stdout.splitlines()
    assert first.startswith("note: no bdserverd runs with ") and last.startswith("well: nothing needs attention, 1 note (")
    assert not os.path.exists(os.path.join(patient.folder, "var", "run")), "a look makes nothing"


def test_nothing_is_found_on_a_sound_mesh_of_ten(mesh):
    hosts = mesh.start(10)
    mesh.wait_known()
    for host in hosts:
        os.chmod(host.folder, 0o755)
    port = free_port()
    hosts[0].write_config(axis_port=port)
    os.kill(hosts[0].process.pid, signal.SIGHUP)
    hosts[0].add_service("Echo", text="#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello\\n'\n", health="http")
    container = Container(LOOPBACK, port, hosts[0].services)
    threading.Thread(target=container.serve_forever, args=(0.05,), daemon=True).start()
    try:
        until(lambda: hosts[0].ctl("status")["services"].get("Echo"), 10, "Echo is offered")
        until(lambda: hosts[0].ctl("status")["warnings"] == [], 20, "it is well")
        found = []

        def is_well():
            said = hosts[0].run("bdctl", "doctor", "--all", "--json")
            found[:] = [each for each in json.loads(said.stdout)["findings"] if each["key"] not in NOT_OF_THE_MESH]
            return found == []

        until(is_well, 60, "all is well", 0.5)
    finally:
        container.shutdown()
        container.server_close()
