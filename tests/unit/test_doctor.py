"""The doctor's checks in this process, of a host that was never started, or whose daemon is a stand-in; real daemons, and the
table of faults, are in tests/mesh and tests/netns."""

import json
import os
import pwd
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from bdserver import __version__, errors
from bdserver.commands import bdctl
from bdserver.commands.ctl import doctoring
from bdserver.core.address import join_address
from bdserver.core.attention import Finding, Severity
from bdserver.core.messages import Checkup, Status
from bdserver.doctor import checks, files, machine, mesh, web
from bdserver.doctor.host import Host
from bdserver.files.settings import in_words, load
from bdserver.net.authority import Authority
from bdserver.processes import startup
from tests.hosts import Mesh, free_port
from tests.unit.canned import Node, let_in, own, seen


@pytest.fixture
def host(tmp_path):
    return Mesh(str(tmp_path)).host("alpha")


@pytest.fixture
def run(capsys):
    """(exit status, findings as parsed) of `bdctl doctor --json`."""

    def run_it(host, *arguments):
        status = bdctl.main(["--config", host.config_path, "--json", "doctor", *arguments])
        said = capsys.readouterr()
        assert said.err == ""
        return status, json.loads(said.out)["findings"]

    return run_it


@pytest.fixture
def daemon(host, monkeypatch):
    """A stand-in that answers on the local socket of the host, and holds its lock."""
    node = Node(DOCTOR=Checkup("alpha", [], []))
    settings = load(host.config_path)
    node.answers["STATUS"] = Status(running(settings=in_words(settings)), [seen("alpha")])

    def asked(self, say, seconds):
        return say(node.dial(), time.monotonic() + 5)

    monkeypatch.setattr(Host, "asked", asked)
    begun(host, monkeypatch)
    return node


def begun(host, monkeypatch):
    """As if its daemon ran."""
    for folder in startup.folders(load(host.config_path)):
        os.makedirs(folder, exist_ok=True)
    monkeypatch.setattr(Host, "is_running", True)


def running(**changes):
    return own(software=__version__, services={}) | {"findings": []} | changes


def keys(found):
    return [each["key"] for each in found]


def looked(check, host, **settings):
    host.write_config(**settings)
    return list(check(Host(host.config_path, 5.0)))


# --- before a start -----------------------------------------------------------------------------------------------


def test_a_sound_host_that_was_never_started_has_a_note(host, run, capsys):
    status, found = run(host)
    assert (status, keys(found)) == (0, ["not-running"])
    assert bdctl.main(["--config", host.config_path, "doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("well: nothing needs attention, 1 note (")
    assert keys(run(host, "--all")[1]) == ["not-running", "no-pairs"]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"reciver_threshold": 5}, "config"),
        ({"user": "no-such-user-here"}, "account"),
        ({"key_dir": "nowhere"}, "keys"),
        ({"advertise": "10.1.2.3"}, "address"),
        ({"ws_policy": "/nowhere/policy.xml"}, "policy"),
        ({"revoked": "/nowhere"}, "revocations"),
        ({"hints": "no-such-host.invalid:9001"}, "names"),
        ({"access_log": "/nowhere/access.log"}, "access-log"),
    ],
)
def test_a_wrong_setting_is_named_first(host, run, settings, key):
    host.write_config(**settings)
    status, found = run(host)
    assert status == 1 and found[0]["key"] == key and found[0]["text"]


def test_a_config_that_is_not_there_or_is_for_others_eyes(host, run, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode, **more: False)
    host.write_config(nonsense=1)
    assert run(host)[1][0]["remedy"] == "run bdctl doctor as root"
    os.unlink(host.config_path)
    assert "--config" in run(host)[1][0]["remedy"]


def test_what_says_itself_what_to_do_is_not_told_another_thing(host):
    os.chmod(os.path.join(host.folder, "alpha.key"), 0o644)
    [found] = looked(files.keys, host)
    assert found.line.endswith(f"others can read this private key (chmod 600 {host.folder}/alpha.key)")
    [found] = looked(files.keys, host, key_dir="nowhere")
    assert "bdkeys init --mesh NAME --here" in found.line and "bdkeys show" not in found.line


def test_all_folders_that_are_closed_to_ordinary_accounts_are_opened_by_one_command(host, monkeypatch):
    monkeypatch.setattr(Host, "is_running", True)
    above, folder = os.path.join(host.folder, "a b"), os.path.join(host.folder, "a b", "run")
    os.makedirs(folder)
    for each in (above, folder):
        os.chmod(each, 0o700)
    [found] = looked(machine.local_socket, host, socket=f"{folder}/x.sock")
    assert (
        found.key == "socket-closed" and found.remedy.startswith("chmod o+x ") and f" '{above}' '{folder}', or" in found.remedy
    )


def test_a_clients_certificate_is_no_nodes(host, run):
    for name in ("alpha.key", "alpha.crt"):
        os.unlink(os.path.join(host.folder, name))
    host.mesh.issue("alpha", role="client", folder=host.folder)
    assert run(host)[1][0]["key"] == "keys"


def test_a_certificate_that_ends_soon(host, run):
    Authority.load(host.mesh.authority).renew(os.path.join(host.folder, "alpha.crt"), 20)
    assert keys(run(host)[1])[0] == "certificate-ends"


@pytest.mark.parametrize(("signer", "found"), [("alpha", []), (None, ["certificate-ends"])])
def test_a_certificate_that_renews_itself_is_not_told_to_end_soon_before_that_is_late(signer, found):
    """Of ninety days, seventy over: a signer renews it about now."""
    identity = SimpleNamespace(not_before=time.time() - 70 * 86400, serial=1)
    credentials = SimpleNamespace(not_after=time.time() + 20 * 86400, identity=identity, chain=SimpleNamespace(signer=signer))
    seen = SimpleNamespace(credentials=credentials, name="beta", address="h:1", status=None)
    assert [finding.key for finding in files.certificate(seen)] == found


@pytest.mark.parametrize("own", ["192.0.2.7", "2001:db8::7"])
def test_an_address_that_this_host_has_not_is_worth_a_word_since_it_may_have_moved(own):
    [finding] = files.address(SimpleNamespace(credentials=object(), address=join_address(own, 9001)))
    assert (finding.severity, finding.key) == (Severity.NOTE, "address-elsewhere") and finding.words.startswith(
        f"{own}, by which"
    )


@pytest.mark.parametrize("own", ["127.0.0.1", "::1", "some.example.org"])
def test_an_address_of_this_host_is_well_and_so_is_a_name_of_which_the_check_of_names_tells(own):
    assert not list(files.address(SimpleNamespace(credentials=object(), address=join_address(own, 9001))))


def test_a_port_that_is_taken(host, run):
    with socket.create_server(("127.0.0.1", host.port)):
        assert keys(run(host)[1])[0] == "ports"


def test_folders_and_keys_that_the_daemon_may_not_use(host, monkeypatch):
    os.makedirs(os.path.join(host.folder, "var", "log"))
    there, not_there = os.path.join(host.folder, "var", "log"), os.path.join(host.folder, "var", "graveyard")
    lines = [f"the folder {there} is not writable", f"the folder {not_there} is not writable", "x: No such file or directory"]
    monkeypatch.setattr(startup, "not_allowed", lambda *arguments: lines)
    [found] = looked(files.rights, host)
    assert found.words == lines[0]


def test_services_and_their_logs(host):
    host.add_service("Echo")
    host.add_service("Page.html", text="<p>\n")
    for name in ("Echo", "Page.html"):
        os.chmod(os.path.join(host.services, name), 0o644)
    host.add_service("Broken", weight="heavy")
    found = looked(files.services, host)
    assert [each.key for each in found] == ["complaint", "not-executable", "unchecked"]
    os.makedirs(os.path.join(host.folder, "var", "log"))
    assert looked(files.hit_logs, host) == []
    os.symlink("/dev/null", os.path.join(host.folder, "var", "log", "Echo.bdlog"))
    assert looked(files.hit_logs, host)[0].key == "hit-log"


def test_an_access_log_of_the_format_that_is_said(host, tmp_path):
    log = tmp_path / "access.log"
    line = '127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /axis/Echo HTTP/1.0" 200 2326 "-" "-"\n'
    log.write_text(line * 3)
    assert looked(files.access_log, host, access_log=str(log)) == []
    log.write_text("{}\n" * 5)
    assert "of the format" in looked(files.access_log, host)[0].words


# --- the machine --------------------------------------------------------------------------------------------------


def test_limits_of_the_kernel(host, monkeypatch):
    monkeypatch.setattr(machine, "_number", lambda path: 100)
    found = looked(machine.processes, host)
    assert {each.key for each in found} == {"processes", "backlog"} and "TasksMax" in found[0].remedy
    monkeypatch.undo()
    assert machine._number("/proc/self/comm") is None and machine._number("/nowhere") is None
    assert all(path.endswith("/pids.max") for path in machine._cgroup_limits())
    monkeypatch.setattr("builtins.open", lambda *arguments: (_ for _ in ()).throw(OSError("no /proc")))
    assert machine._cgroup_limits() == []


def test_too_few_descriptors(host, monkeypatch):
    def too_few(settings):
        raise errors.BadConfig("take 600 open files, and 100 are allowed")

    monkeypatch.setattr(startup, "allow_descriptors", too_few)
    assert looked(machine.descriptors, host)[0].key == "descriptors"


def test_a_unit_that_lets_the_daemon_write_elsewhere(host, tmp_path, monkeypatch):
    units = tmp_path / "units"
    (units / "bdserverd.service.d").mkdir(parents=True)
    monkeypatch.setattr(machine, "UNIT_FOLDERS", (str(tmp_path / "none"), str(units)))
    assert looked(machine.unit, host) == []
    text = "[Service]\nProtectSystem=strict\n# a word\nExecStart=/x/bdserverd \\\n --foreground {}\nReadWritePaths=/nowhere\nStateDirectory=bd\n"
    (units / "bdserverd.service").write_text(text.format("/etc/other.conf"))
    assert looked(machine.unit, host) == [], "it is another daemon's"
    (units / "bdserverd.service").write_text(text.format(host.config_path))
    [found] = looked(machine.unit, host)
    assert found.key == "unit" and "ReadWritePaths=" in found.remedy and found.severity is Severity.GRAVE
    drop = units / "bdserverd.service.d" / "paths.conf"
    drop.write_text(f"[Service]\nReadWritePaths=\nReadWritePaths=-{host.folder}\n")
    assert looked(machine.unit, host) == []
    drop.write_text(f"[Service]\nReadWritePaths=\nReadWritePaths='/my files' \"-{host.folder}\"\nReadWritePaths='/half\n")
    assert looked(machine.unit, host) == []
    machine._read_unit(str(tmp_path / "nowhere"), {})


def test_a_second_daemon_on_the_same_files(host, monkeypatch):
    claim = startup.claims(load(host.config_path))[1]
    claim.claim()
    with claim:
        [found] = looked(machine.daemon, host)
        assert found.key == "second-daemon" and str(os.getpid()) in found.remedy
        assert looked(machine.ports, host) == []
    assert machine._holder("/nowhere") == "unknown"


# --- the web server -----------------------------------------------------------------------------------------------


class Web(BaseHTTPRequestHandler):
    """Answers HEAD by the table of its server: path -> status."""

    def do_HEAD(self):
        self.send_response(self.server.statuses.get(self.path.partition("?")[0], 404))
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def served(host):
    """Findings of the web server when it answers so."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    host.add_service("Echo")

    def found(statuses, **settings):
        server.statuses = statuses
        return [each.key for each in looked(web.web_server, host, axis_port=server.server_address[1], **settings)]

    yield found
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"/axis/Echo": 200}, []),
        ({"/axis/Echo": 405}, []),
        ({}, ["web-404"]),
        ({"/axis/Echo": 500}, ["web-fails"]),
        ({"/axis/Echo": 200, "/axis/Echo.bdcert": 200}, ["bdcert-served"]),
    ],
)
def test_the_web_server_serves_the_services_and_not_their_bdcert(served, statuses, expected):
    assert served(statuses) == expected


def test_one_service_that_is_not_served_is_no_fault_of_the_web_server(served, host):
    host.add_service("Other")
    assert served({"/axis/Echo": 200}) == ["web-404"]
    port = load(host.config_path).axis_port
    [found] = looked(web.web_server, host, axis_port=port)
    assert (
        found.severity == Severity.WARNING
        and found.words.startswith("nothing is at http://")
        and "axis_web_dir" not in found.remedy
    )


def test_a_web_server_that_is_not_there_and_services_elsewhere(host):
    assert looked(web.web_server, host) == [], "there is nothing to serve"
    host.add_service("Echo")
    assert looked(web.web_server, host, axis_port=free_port())[0].key == "web-server"
    assert looked(web.web_server, host, service_url="mailto://{host}/{service}") == []
    assert web._head("http://[x/")[0] == 0 and web._head("https://127.0.0.1:1/")[0] == 0


def test_an_embedded_web_server_serves_nothing_before_the_start_and_nothing_below_a_closed_folder(host, served, monkeypatch):
    ours = {"web": "embedded", "axis_port": free_port()}
    host.add_service("Echo")
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert looked(web.web_server, host, **ours) == [], "what is not started yet serves nothing"
    monkeypatch.setattr(Host, "is_running", True)
    [found] = looked(web.web_server, host)
    assert found.key == "web-server" and "see the daemon's log" in found.remedy
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    os.chmod(host.folder, 0o700)
    monkeypatch.setattr(web.pwd, "getpwnam", lambda name: SimpleNamespace(pw_name="nobody", pw_uid=4711, pw_gid=4711))
    assert served({}, web="embedded") == ["web-closed"]
    os.chmod(os.path.join(host.folder, "var", "services"), 0o700)
    [closed] = looked(web.web_server, host, web="embedded")
    folders = f"{os.path.realpath(host.folder)} {os.path.realpath(host.folder)}/var/services"
    assert closed.remedy.startswith("chmod o+x ") and f" {folders}, or" in closed.remedy, "all that are closed, in one line"
    monkeypatch.setattr(Host, "is_running", False)
    assert [each.key for each in looked(web.web_server, host)] == ["web-closed"]
    for mode, passes in ((0o700, [os.getuid(), 4711]), (0o070, [4711, os.getgid()]), (0o001, [4711, 4711])):
        os.chmod(host.folder, mode)
        assert web._may_pass(os.stat(host.folder), passes[0], [passes[1]])
    monkeypatch.setattr(web.pwd, "getpwnam", lambda name: {}[name])
    assert looked(web.web_server, host) == [], "the check of the ports names the account"


def test_a_web_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(web, "ANSWER_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        status, why = web._head(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert status == 0 and why.startswith("no answer in ")


# --- names and hints ----------------------------------------------------------------------------------------------


def test_a_name_of_this_host_that_leads_to_itself_is_no_way_for_others(host, monkeypatch):
    monkeypatch.setattr(mesh.tcp, "resolve", lambda name, port, deadline: [(2, ("127.0.1.1", 1))])
    [found] = looked(mesh.names, host, advertise="alpha.example", hints="10.0.0.1:9001 [fe80::1%eth0]:9001")
    assert found.key == "names-loopback" and "127.0.1.1" in found.words
    assert looked(mesh.names, host, advertise="10.0.0.1", hints="beta.example:9001") == []


def test_a_hint_with_our_own_name_and_one_that_is_not_there(host, monkeypatch):
    visit = mesh.Visit
    answers = [
        visit("alpha", "10.0.0.9:9001"),
        visit("10.0.0.8:9001", "10.0.0.8:9001", "refused", "connection refused", "call"),
    ]
    monkeypatch.setattr(mesh.visiting, "visit_all", lambda call, whom, deadline: answers)
    found = looked(mesh.hints, host, hints="10.0.0.9:9001 10.0.0.8:9001")
    assert [each.key for each in found] == ["rival", "unreached-silence"]
    host.write_config(key_dir="nowhere")
    assert looked(mesh.hints, host) == []


def test_another_node_is_called_with_this_hosts_certificate_and_policy_and_black_list(host, tmp_path):
    patient = Host(host.config_path, 5.0)
    assert patient.credentials is not None
    with pytest.raises(errors.Refused):
        patient.call(f"127.0.0.1:{free_port()}", time.monotonic() + 2, None)
    (tmp_path / "black").write_text("127.0.0.1\n")
    host.write_config(black_list=tmp_path / "black")
    with pytest.raises(errors.Forbidden, match="is in our black list"):
        Host(host.config_path, 5.0).call(f"127.0.0.1:{free_port()}", time.monotonic() + 2, None)


# --- with a daemon ------------------------------------------------------------------------------------------------


def test_a_daemon_that_is_well(host, run, daemon):
    for folder in (host.folder, host.mesh.folder, os.path.dirname(host.mesh.folder)):
        os.chmod(folder, 0o755)
    status, found = run(host)
    assert status == 0 and [each for each in keys(found) if each != "socket-closed"] == []
    assert [request for request in daemon.asked if request[0] == "DOCTOR"] == [["DOCTOR"]]


def test_what_a_daemon_has_in_memory_and_not_on_the_disk(host, run, daemon):
    force = in_words(load(host.config_path))
    told = running(settings=force | {"receiver_threshold": "7"}, certificate_serial="abc")
    daemon.answers["STATUS"] = Status(told | {"software": "0.9"}, [seen("alpha")])
    found = run(host)[1]
    assert {"certificate-stale", "old-daemon", "config-stale"} <= set(keys(found))
    assert "SIGHUP" in next(each["remedy"] for each in found if each["key"] == "config-stale")
    told["settings"] = force | {"port": "1"}
    told["findings"] = [{"severity": "note", "key": "restart", "text": "port", "remedy": "restart the daemon"}]
    daemon.answers["STATUS"] = Status(told, [seen("alpha")])
    found = run(host)[1]
    assert "anew" in next(each["remedy"] for each in found if each["key"] == "config-stale")
    assert "restart" not in keys(found), "once is enough"
    del told["settings"]  # as whoever is no administrator is told
    assert "restart" in keys(run(host)[1])


def test_its_own_findings_the_dead_and_originals_that_differ(host, run, daemon):
    told = running(findings=[{"severity": "grave", "key": "alone-policy", "text": "alone", "remedy": "compare"}])
    nodes = [seen("alpha"), seen("beta", 2, costs={"Echo": 3.0}), seen("gamma", 3, status="dead", services=())]
    daemon.answers["STATUS"] = Status(told, [*nodes, seen(None, 4, status="unvisited", services=())])
    found = run(host)[1]
    assert keys(found)[0] == "alone-policy" and {"dead", "originals"} <= set(keys(found))
    assert next(each for each in found if each["key"] == "dead")["text"] == "gamma at 10.0.0.3:9001 is dead"


def test_all_nodes_are_asked_for_their_visits_and_one_that_does_not_know_how_is_a_note(host, run, daemon):
    settings = {"settings": in_words(load(host.config_path))}
    daemon.answers["STATUS"] = Status(
        running(**settings), [seen(name, services=()) for name in ("alpha", "beta", "gamma", "delta")]
    )

    def doctor(wish=None):
        match (wish or {}).get("of"):
            case "beta":
                full = {"severity": "grave", "key": "disk", "text": "the disk is full", "remedy": "make room"}
                return Checkup("beta", [full], [{"name": "alpha", "address": "a:1", "clock_off": 0.0}])
            case "gamma":
                return errors.NoSuchCommand("NO SUCH COMMAND: 'DOCTOR'")
            case "delta":
                return errors.Deadline("the time is over")
        return Checkup(
            "alpha", [], [{"name": "beta", "address": "b:1", "code": "nobody-there", "text": "silent", "step": "call"}]
        )

    daemon.answers["DOCTOR"] = doctor
    found = {each["key"]: each for each in run(host, "--all")[1]}
    assert (found["disk"]["text"] == "beta: the disk is full" and "older version" in str(found)) or "no-visits" in found
    assert "alpha does not reach beta, and beta reaches alpha" in found["one-way"]["text"]


def test_a_daemon_that_does_not_answer(host, run, monkeypatch):
    begun(host, monkeypatch)
    assert keys(run(host)[1])[0] == "daemon-silent"


def test_who_is_no_administrator_is_told_what_was_not_looked_at(host, run, daemon):
    daemon.answers["STATUS"] = Status(running(), [seen("alpha")])
    assert "no-visits" in keys(run(host)[1]) and not [each for each in daemon.asked if each[0] == "DOCTOR"]


def test_an_ordinary_account_is_told_what_it_can_not_look_at_and_nothing_false(host, run, daemon, monkeypatch):
    """The daemon may read and write all of it: what that account may not is no fault, and must not be opened to it."""
    os.makedirs(os.path.join(host.folder, "var"), exist_ok=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 12345)
    monkeypatch.setattr(startup, "not_allowed", lambda *arguments: ["alpha.key: user nobody must be able to read it"])
    daemon.answers["STATUS"] = Status(running(), [seen("alpha")])
    status, found = run(host)
    assert (status, sorted({*keys(found)} - {"socket-closed"})) == (0, ["no-visits", "not-looked-at"])
    [note] = [each for each in found if each["key"] == "not-looked-at"]
    assert note["text"].startswith(f"user {os.getuid() + 12345} is neither root nor user ") and "keys, rights" in note["text"]
    assert note["remedy"] == "run bdctl doctor as root"


def test_root_and_the_daemons_user_look_at_all(host, monkeypatch):
    assert Host(host.config_path, 5).stranger_to is None
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert Host(host.config_path, 5).stranger_to == os.getuid()
    host.write_config(user="www-data")
    assert Host(host.config_path, 5).stranger_to == pwd.getpwnam("www-data").pw_uid
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("www-data").pw_uid)
    assert Host(host.config_path, 5).stranger_to is None
    host.write_config(var_dir="/nowhere")
    assert Host(host.config_path, 5).stranger_to is None  # nobody can say
    assert all(key in {check.key for check in checks.CHECKS} for key in checks.OWNERS)


def test_the_mesh_as_a_node_elsewhere_sees_it(monkeypatch, capsys):
    node = Node(DOCTOR=Checkup("alpha", [], [{"name": "beta", "address": "b:1", "news": "b:2: no answer"}]))
    node.answers["STATUS"] = Status(own(), [seen("alpha"), seen("beta")])
    let_in(monkeypatch, node)
    assert bdctl.main(["--node", "alpha", "doctor"]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("grave: alpha does not reach beta on the port for news: b:2: no answer: ")
    assert last.startswith("1 finding needs attention (")


# --- the table ----------------------------------------------------------------------------------------------------


def test_the_gravest_stands_first_each_thing_once_and_a_check_that_fails_is_a_finding(host, monkeypatch):
    ending = Finding(Severity.WARNING, "certificate-ends", "the certificate ends")

    def bug(host):
        raise KeyError("oops")

    def wrong(host):
        raise errors.BadConfig("of another kind")

    table = [
        checks.Check("one", lambda host: iter([ending, Finding(Severity.NOTE, "note", "a note")])),
        checks.Check("bug", bug),
        checks.Check("wrong", wrong),
        checks.Check(
            "two", lambda host: iter([ending._replace(words="it ends"), Finding(Severity.GRAVE, "x", "y")]), waits=True
        ),
    ]
    monkeypatch.setattr(checks, "CHECKS", table)
    found = checks.findings(Host(host.config_path, 5.0), lambda: iter([Finding(Severity.GRAVE, "x", "y")]))
    assert [each.key for each in found] == ["x", "certificate-ends", "bug-bug", "wrong", "note"]


def test_each_check_has_a_key_and_says_what_must_be_so():
    assert len({check.key for check in checks.CHECKS}) == len(checks.CHECKS) >= 20
    assert all(check.look.__doc__ for check in checks.CHECKS) and doctoring.SECONDS > mesh.VISITS_SECONDS
