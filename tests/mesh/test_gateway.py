"""bdgateway before real nodes: what it answers is true, whoever dies; by DNS, by HTTP, and by real resolvers and clients."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from functools import partial

import dns.rcode
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.gateways import Gateway, running
from tests.hosts import free_port, until
from tests.mesh.test_examples import EXAMPLES, ROOT, SAMPLES

LOOK_UPS = 1000


def offer(hosts, service="Echo", **bdcert):
    """The hosts offer a service, and all know it."""
    for host in hosts:
        host.add_service(service, **bdcert)
    for host in hosts[0].mesh.hosts:
        until(lambda host=host: len(host.ctl("services").get(service, ())) == len(hosts), 20, f"{host.name} knows {service}")


@pytest.fixture
def hosts(mesh):
    """alpha asks; beta and gamma have Echo, each at a port of its own."""
    alpha = mesh.host("n1")
    beta, gamma = (
        mesh.host(name, hints=alpha.address, receiver_threshold=1e6, axis_port=port)
        for name, port in (("n2", 8001), ("n3", 8002))
    )
    for host in mesh.hosts:
        host.launch()
    for host in mesh.hosts:
        host.wait_ready()
    mesh.wait_known()
    offer([beta, gamma])
    return alpha, beta, gamma


def node_of(host, port):
    """The node behind a port."""
    return {8001: "n2", 8002: "n3"}[port]


def test_dns_and_http_name_a_host_that_agreed_to_the_call_and_count_it_once(hosts):
    alpha, beta, gamma = hosts
    with running(alpha) as gateway:
        weight = lambda: beta.ctl("status")["weight"] + gamma.ctl("status")["weight"]  # noqa: E731
        assert weight() == 0
        said = [gateway.ask("echo.bd.internal", kind, tcp) for kind, tcp in (("A", False), ("AAAA", True), ("SRV", False))]
        assert (
            said[0].answer[0][0].to_text() == "127.0.0.1" and not said[1].answer and said[2].answer[0][0].port in (8001, 8002)
        )
        assert weight() == 1, "three questions are one call"
        status, headers, body = gateway.get("/Echo")
        assert status == 307 and body.decode().strip() == headers["Location"]
        until(lambda: weight() == 2, 20, "one call more, and what was promised beside it has ended")
        details = gateway.json("/v1/whereis/Echo")
        assert node_of(alpha, urllib.parse.urlsplit(details["url"]).port) == details["node"]
        until(lambda: weight() == 3, 20, "one call more")
        assert gateway.ask("nothing.bd.internal").rcode() == dns.rcode.NXDOMAIN and gateway.get("/nothing")[0] == 404
        assert gateway.json("/v1/services").keys() == {"Echo"} and gateway.json("/v1/status")["name"] == "n1"
        assert {node["name"] for node in gateway.json("/v1/nodes")} == {"n1", "n2", "n3"}
        assert b"<title>" in gateway.get("/")[2] and b"bdserver_gateway_answers_total" in gateway.get("/metrics")[2]


def test_after_a_kill_no_look_up_names_the_dead(hosts):
    alpha, beta, gamma = hosts
    with running(alpha) as gateway:
        dead = "n2" if node_of(alpha, gateway.ask("Echo.bd.internal", "SRV").answer[0][0].port) == "n2" else "n3"
        victim = beta if dead == "n2" else gamma
        victim.kill_all()
        for _ in range(LOOK_UPS):
            said = gateway.ask("Echo.bd.internal", "SRV")
            assert said.rcode() == 0 and node_of(alpha, said.answer[0][0].port) != dead
            assert gateway.get("/Echo")[1]["BD-Node"] != dead


def test_when_all_holders_are_dead_the_name_stays_and_has_no_answer(hosts):
    alpha, beta, gamma = hosts
    with running(alpha) as gateway:
        gateway.ask("Echo.bd.internal")
        beta.kill_all()
        gamma.kill_all()
        assert gateway.ask("echo.bd.internal").rcode() == dns.rcode.SERVFAIL and gateway.get("/Echo")[0] == 404
        until(lambda: alpha.status_of("n2") == alpha.status_of("n3") == "dead", 30, "they are dead")
        assert gateway.ask("echo.bd.internal").rcode() == dns.rcode.SERVFAIL
        assert gateway.ask("echo.bd.internal", "MX").rcode() == dns.rcode.NOERROR


def test_a_node_that_is_started_anew_is_found_again_and_a_gateway_that_came_first_waits_for_it(hosts):
    alpha, _, _ = hosts
    alpha.end()
    with running(alpha) as gateway:
        assert gateway.ask("Echo.bd.internal").rcode() == dns.rcode.SERVFAIL
        status, headers, body = gateway.get("/Echo")
        assert status == 503 and headers["Retry-After"] == "1" and json.loads(body)["code"] == "nobody-there"
        alpha.start()
        until(lambda: gateway.get("/Echo")[0] == 307, 20, "it answers")
        assert gateway.ask("Echo.bd.internal").answer
        alpha.end()
        alpha.start()
        until(lambda: gateway.ask("Echo.bd.internal").answer, 20, "it answers again")


def test_a_policy_of_the_clients_own_counts(mesh, tmp_path):
    strict = tmp_path / "strict.xml"
    strict.write_text('<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy"><x:Gold xmlns:x="urn:x"/></wsp:Policy>')
    alpha = mesh.host("alpha", ws_policy=str(strict)).start()
    offer([alpha])
    with running(alpha) as gateway, running(alpha, policy=str(strict)) as gold:
        plain = '<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy"><x:Lead xmlns:x="urn:x"/></wsp:Policy>'

        def post(path, text):
            line = ["curl", "-s", "-w", "\n%{http_code}", "--data-binary", text, gateway.url + path]
            body, _, status = subprocess.run(line, capture_output=True, text=True, check=True).stdout.rpartition("\n")
            return int(status), json.loads(body)

        assert post("/v1/whereis/Echo", plain)[0] == 403
        status, found = post("/v1/whereis/Echo", strict.read_text())
        assert (status, found["node"]) == (200, "alpha")
        assert gateway.get(f"/Echo?policy={found['policy']}")[0] == 307
        assert gateway.get(f"/Echo?policy={post('/v1/policies', plain)[1]['digest']}")[0] == 403
        assert gold.ask("Echo.bd.internal").answer, "the gateway's own"


def test_while_it_reads_its_config_anew_no_answer_is_lost_and_watchers_stay(hosts):
    alpha, *_ = hosts
    with running(alpha, queries_per_second=1000) as gateway:
        until(lambda: b'alive"} 3.0' in gateway.get("/metrics")[2], 20, "it has looked")
        events = gateway.events()
        assert next(events)[1] == "state"
        for number in range(100):
            gateway.process.send_signal(signal.SIGHUP)
            assert gateway.ask("Echo.bd.internal", "SRV", tcp=number % 2 == 1).answer
            assert gateway.get("/Echo")[0] == 307
        hosts[1].add_service("Later")
        assert next(iter(each for each in events if each[2]["node"] == "n2"))[2]["kind"] == "offered"
        events.close()
        assert "read anew" in gateway.log and "Traceback" not in gateway.log


# -- real resolvers


@contextlib.contextmanager
def dnsmasq(gateway, folder):
    """A dnsmasq that sends the domain to the gateway; its port."""
    if shutil.which("dnsmasq") is None:
        pytest.skip("dnsmasq is not installed")
    port = free_port()
    line = [
        "dnsmasq",
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
        "--user=root",
        "--bind-interfaces",
    ]
    line += ["--listen-address=127.0.0.1", f"--port={port}", f"--server=/bd.internal/127.0.0.1#{gateway.dns}", "--pid-file="]
    with open(folder / "dnsmasq.log", "wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log)
    try:

        def is_up():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True

        until(is_up, 20, "dnsmasq answers")
        yield port
    finally:
        process.terminate()
        process.wait()


def test_dnsmasq_hands_on_each_question_and_keeps_nothing(hosts, tmp_path):
    alpha, beta, gamma = hosts
    with running(alpha) as gateway, dnsmasq(gateway, tmp_path) as port:
        gateway.dns = port  # through it
        ports = [gateway.ask("Echo.bd.internal", "SRV").answer[0][0].port for _ in range(50)]
        assert set(ports) <= {8001, 8002}
        assert gateway.ask("echo.BD.internal").answer and gateway.ask("nothing.bd.internal").rcode() == dns.rcode.NXDOMAIN
        assert gateway.ask("Echo.bd.internal", "AAAA").rcode() == 0, "no data"
        victim, other = (beta, 8002) if ports[-1] == 8001 else (gamma, 8001)
        victim.kill_all()
        ports = [gateway.ask("Echo.bd.internal", "SRV").answer[0][0].port for _ in range(100)]
        assert set(ports) == {other}, "not even for a second"


def test_glibc_finds_a_service_by_getent(hosts, tmp_path):
    """In a mount namespace with a resolv.conf of its own, since glibc asks port 53 alone."""
    alpha, *_ = hosts
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, for a mount namespace and port 53")
    address = "127.0.53.53"
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind((address, 53))
        probe.close()
        (tmp_path / "resolv.conf").write_text(f"nameserver {address}\noptions timeout:5 attempts:1\n")
        (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
        with running(alpha, dns=f"{address}:53"):
            script = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf; mount --bind {tmp_path}/nsswitch.conf /etc/nsswitch.conf; "
            for words, expected in (
                ("ahosts Echo.bd.internal", "127.0.0.1"), ("hosts echo.bd.internal", "127.0.0.1"), ("ahosts nothing.bd.internal", ""),
            ):  # fmt: skip
                done = subprocess.run(
                    ["unshare", "--mount", "sh", "-c", f"{script} getent {words}"], capture_output=True, text=True, check=False
                )
                assert done.stdout.startswith(expected) and bool(expected) == (done.returncode == 0), done
        return
    pytest.skip("port 53 is taken")


def test_curl_follows_a_name_to_its_service_and_a_post_stays_one(mesh):
    alpha = mesh.start(1)[0]
    port = free_port()
    echo = "import http.server as h\nclass E(h.BaseHTTPRequestHandler):\n def do_POST(s):\n  n=int(s.headers['Content-Length'])\n" \
        "  b=s.path.encode()+b' '+s.rfile.read(n); s.send_response(200); s.send_header('Content-Length',str(len(b))); s.end_headers()\n" \
        f"  s.wfile.write(b)\nprint('up', flush=True)\nh.HTTPServer(('127.0.0.1',{port}),E).serve_forever()"  # fmt: skip
    server = subprocess.Popen([shutil.which("python3"), "-c", echo], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout.readline()
        offer([alpha], url=f"http://127.0.0.1:{port}/soap")
        with running(alpha) as gateway:
            line = ["curl", "-sfL", "--data", "body", f"{gateway.url}/Echo/deep%20er?a=b"]
            assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "/soap/deep%20er?a=b body"
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


# -- watching


def test_a_watcher_hears_of_all_that_happens_and_comes_back_to_what_it_missed(hosts):
    alpha, beta, _ = hosts
    with running(alpha) as gateway:
        until(
            lambda: gateway.get("/metrics")[2].find(b'bdserver_nodes{state="alive"} 3.0') > 0,
            20,
            "it has looked",
        )
        events = gateway.events()
        number, kind, state = next(events)
        assert kind == "state" and {node["name"] for node in state["nodes"]} == {"n1", "n2", "n3"}
        beta.add_service("Later")
        told = next(iter(each for each in events if each[2]["node"] == "n2"))
        assert told[2]["kind"] == "offered" and told[2]["service"] == "Later" and told[2]["change"] == "offers Later (static)"
        events.close()
        beta.kill_all()
        until(lambda: alpha.status_of("n2") == "dead", 30, "it is dead")
        back = gateway.events(number)
        kinds = [next(back)[2]["kind"] for _ in range(2)]
        assert kinds[0] == "offered" and kinds[1] == "status", "from the first change on, once more"
        back.close()


# -- what the API's document says


def test_the_document_is_true_of_the_api(hosts):
    alpha, *_ = hosts
    with running(alpha) as gateway:
        schema = schemathesis.openapi.from_dict(gateway.json("/v1/openapi.json"))
        schema.config.base_url = gateway.url
        operations = [found.ok() for found in schema.exclude(path_regex="/v1/watch").get_all_operations()]
        assert len(operations) >= 20
        for operation in operations:
            examine(operation)


def examine(operation):
    """Calls drawn from its description are answered as it says."""
    # What makes a text a policy no schema says.
    excluded = [positive_data_acceptance] if operation.method == "post" else []

    @settings(max_examples=15, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def calls(case):
        case.call_and_validate(allow_redirects=False, timeout=20, excluded_checks=excluded)

    calls()


# -- the examples


@pytest.mark.parametrize(
    ("runtime", "line", "expected"),
    [
        ("sh", ["sh", "lookup.sh", "Primes", "?wsdl"], "urn:bdserver:demo:Primes"),
        ("node", ["node", "lookup.mjs", "Primes", "4"], "characters"),
        ("java", ["java", "Lookup.java", "600851475143"], "71 839 1471 6857, by 127.0.0.1:"),
        ("go", ["go", "run", "lookup.go", "Primes"], "by 127.0.0.1:"),
    ],
)
@pytest.mark.long(seconds=300)
def test_the_examples_call_a_service_and_say_why_they_can_not(mesh, tmp_path, runtime, line, expected):
    if shutil.which(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    alpha = mesh.host("alpha", axis_port=free_port(), receiver_threshold=1000)
    container = subprocess.Popen(
        [sys.executable, "-m", "bdserver.net.container", "--services", alpha.services, "--port", str(alpha.config["axis_port"])],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert container.stdout.readline()
        for file in ("Primes", "Primes.bdcert"):
            shutil.copy(os.path.join(SAMPLES, file), alpha.services)
        alpha.start()
        until(lambda: "Primes" in alpha.ctl("services"), 20, "it is offered")
        with running(alpha) as gateway:
            environment = os.environ | {
                "BDSERVER_GATEWAY": gateway.url,
                "NO_PROXY": "*",
                "GOFLAGS": "-mod=mod",
                "GOCACHE": str(tmp_path),
            }
            run = partial(
                subprocess.run, capture_output=True, text=True, cwd=EXAMPLES, env=environment, timeout=200, check=False
            )
            done = run(line)
            assert done.returncode == 0 and expected in done.stdout, done
            alpha.ctl("withdraw", "Primes")
            done = run(line)
            assert done.returncode == 1 and done.stdout == "" and "nobody in the mesh has it" in done.stderr, done
    finally:
        container.terminate()
        container.wait()
        container.stdout.close()


def test_a_gateway_that_is_watched_ends_at_once_when_it_is_told_to(hosts):
    alpha, *_ = hosts
    gateway = Gateway(alpha).start()
    until(lambda: b'alive"} 3.0' in gateway.get("/metrics")[2], 20, "it has looked")
    events = gateway.events()
    next(events)
    began = time.monotonic()
    assert gateway.end() == 0
    print(f"it took {time.monotonic() - began:.2f} s")
    assert list(events) == [] and "still running" not in gateway.log
