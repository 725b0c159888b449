"""A real Prometheus reads a real mesh that is in trouble: the shipped rules fire, and the dashboard's queries have answers."""

import contextlib
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from docs.made import dashboard
from tests.gateways import running
from tests.hosts import free_port, until

ROOT = Path(__file__).parents[2]
RULES = ROOT / "etc" / "bdserver-prometheus-rules.yml"
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{folder}/rules.yml]
scrape_configs:
  - job_name: bdserver
    static_configs: [{{targets: {targets}}}]
  - job_name: services
    file_sd_configs: [{{files: [{folder}/services.json], refresh_interval: 1s}}]
"""


def needs(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def test_the_rules_are_what_prometheus_takes_for_such():
    needs("promtool")
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "11 rules found" in done.stdout, done


def test_a_certificate_of_a_few_days_that_renews_itself_is_no_alert(tmp_path):
    needs("promtool")
    series = {"short": (4, 0), "late": (4, 1), "long": (80, 1)}
    given = "".join(
        f"""
      - {{series: 'bdserver_node_certificate_expires_in_seconds{{node="{node}"}}', values: {days * 86400}}}
      - {{series: 'bdserver_node_warnings{{node="{node}"}}', values: {warnings}}}"""
        for node, (days, warnings) in series.items()
    )
    (tmp_path / "test.yml").write_text(f"""
rule_files: [{RULES}]
tests:
  - input_series: {given}
    promql_expr_test:
      - expr: ALERTS{{alertname="BDserverCertificateEnds"}}
        eval_time: 0m
        exp_samples:
          - labels: ALERTS{{alertname="BDserverCertificateEnds", alertstate="firing", node="late", severity="critical"}}
            value: 1
""")
    done = subprocess.run(["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_figures_are_as_prometheus_wants_them(mesh):
    needs("promtool")
    alpha = mesh.start(1)[0]
    alpha.add_service("Echo")
    until(lambda: "Echo" in alpha.ctl("services"), 20, "it is offered")
    alpha.run("bdwhereis", "Echo")
    with running(alpha) as gateway:
        gateway.get("/Echo")
        gateway.ask("Echo.bd.internal")
        counted = b'bdserver_lookups_total{by="question",node="n1",phase="1"} 3.0'
        # What a child has counted it puts to the others' behind its answer.
        text = until(lambda: counted in (told := gateway.get("/metrics")[2]) and told, 20, "three look-ups are counted")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert b'bdserver_requests_total{kind="WHEREIS",node="n1",outcome="place"} 3.0' in text


class Prometheus:
    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}/api/v1/"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path, **query):
        with self._opener.open(self.url + path + "?" + urllib.parse.urlencode(query), timeout=20) as answer:
            return json.load(answer)["data"]

    def firing(self):
        """(alert, node) of each that fires."""
        alerts = self.get("alerts")["alerts"]
        return {(each["labels"]["alertname"], each["labels"].get("node", "")) for each in alerts if each["state"] == "firing"}

    def value(self, expression):
        return self.get("query", query=expression)["result"]


@contextlib.contextmanager
def prometheus(folder, targets):
    port = free_port()
    rules = re.sub(r"for: \d+m", "for: 1s", RULES.read_text())
    rules = re.sub(r"\[(5|10)m\]", "[30s]", rules)
    (folder / "rules.yml").write_text(rules)
    (folder / "prometheus.yml").write_text(CONFIG.format(folder=folder, targets=json.dumps(targets)))
    line = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    if not (folder / "services.json").exists():
        (folder / "services.json").write_text("[]")
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([*line, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        server = Prometheus(port)

        def is_up():
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(OSError):
                return server.get("targets")["activeTargets"]
            return False

        until(is_up, 60, "Prometheus answers")
        yield server
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.long(seconds=300)
def test_a_mesh_in_trouble_fires_the_alerts_and_one_that_is_well_none(mesh, tmp_path):
    needs("prometheus")
    alpha = mesh.start(1, receiver_threshold=10, max_dynamic=0)[0]
    beta, gamma = mesh.start(2, max_dynamic=0)
    mesh.wait_known()
    alpha.add_service("Echo", weight=3)
    until(lambda: "Echo" in beta.ctl("services"), 20, "beta knows Echo")
    with (
        running(alpha) as one,
        running(beta) as two,
        prometheus(tmp_path, [f"127.0.0.1:{g.http}" for g in (one, two)]) as server,
    ):
        until(lambda: len(server.value('bdserver_nodes{state="alive"} == 3')) == 2, 60, "both are scraped")
        beta.run("bdwhereis", "Echo")
        assert server.firing() == set()
        gamma.kill()
        beta.add_service("Sick", health="tcp", url="http://127.0.0.1:9/")
        expected = {("BDserverNodeDead", ""), ("BDserverOverloaded", "n1"), ("BDserverServiceSick", "n2")}

        def all_fire():
            beta.run("bdwhereis", "Echo")  # beyond its threshold, and there is nobody else
            return expected <= server.firing()

        until(all_fire, 90, "a dead, an overloaded and a sick one are told", pause=0.2)
        until(lambda: ("BDserverNeedsAttention", "n1") in server.firing(), 60, "and that status has warnings")
        alpha.end()
        until(lambda: ("BDserverNodeSilent", "") in server.firing(), 60, "and that a node does not answer")
        empty = []
        for panel in dashboard.PANELS:
            for expression, _ in panel.queries:
                if not server.value(expression.replace("$__rate_interval", "1m")):
                    empty.append(panel.title)
        assert set(empty) <= {"What was not answered, by reason"}, "each query has an answer"


@pytest.mark.long(seconds=180)
def test_prometheus_finds_services_by_the_file_that_is_exported_and_hears_of_a_new_one(mesh, tmp_path):
    needs("prometheus")
    alpha = mesh.start(1)[0]
    url = f"http://127.0.0.1:{free_port()}/Echo"
    alpha.add_service("Echo", url=url)
    until(lambda: "Echo" in alpha.ctl("services"), 20, "it is offered")

    def export():
        done = alpha.run("bdctl", "export", "prometheus", "--to", str(tmp_path / "services.json"))
        assert done.returncode == 0, done.stderr

    def found(server):
        services = [each["labels"] for each in server.get("targets")["activeTargets"] if each["scrapePool"] == "services"]
        return {(each["bd_service"], each["bd_node"], each["instance"]) for each in services}

    export()
    checked = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", "/dev/stdin"],
        input=f"scrape_configs: [{{job_name: x, file_sd_configs: [{{files: [{tmp_path}/services.json]}}]}}]",
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked
    with prometheus(tmp_path, []) as server:
        host = urllib.parse.urlsplit(url).netloc
        until(lambda: found(server) == {("Echo", "n1", host)}, 60, "the service is a target")
        alpha.add_service("Later", url=url)
        until(lambda: "Later" in alpha.ctl("services"), 20, "another one is offered")
        export()
        until(lambda: {name for name, *_ in found(server)} == {"Echo", "Later"}, 60, "it is a target too")
