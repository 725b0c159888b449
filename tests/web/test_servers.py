"""The shipped CGI programs and snippets under a real Apache and a real lighttpd, before a mesh of real daemons."""

import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

import pytest
import zeep
from PIL import Image

from tests.hosts import until

from .servers import PRETENDED

FORMS = {
    "html": "text/html; charset=utf-8", "json": "application/json", "dot": "text/vnd.graphviz; charset=utf-8", "png": "image/png",
    "svg": "image/svg+xml", "weight.png": "image/png", "prometheus": "text/plain; version=0.0.4; charset=utf-8",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_comes_through(server, form):
    status, headers, body = server.get(f"audit.cgi?format={form}")
    assert status == 200, body
    assert headers["Content-Type"] == FORMS[form] and headers["Cache-Control"] == "no-store" and headers["X-Taken-At"]
    if form == "json":
        said = json.loads(body)
        assert [node["name"] for node in said["nodes"]] == ["alpha", "beta", "delta", "gamma"]
        assert {node["name"]: node["state"] for node in said["nodes"]}["delta"] == "dead"
        assert said["views"]["alpha"]["gamma"]["edge"] == "yellow" and said["views"]["beta"]["gamma"]["edge"] == "green"
    elif form == "html":
        assert "script-src 'sha256-" in headers["Content-Security-Policy"] and b"delta" in body
    elif form.endswith("png"):
        assert Image.open(io.BytesIO(body)).width > 500
    elif form == "prometheus":
        assert b'bdserver_node_up{node="delta"} 0.0' in body and b'bdserver_node_up{node="alpha"} 1.0' in body


def test_the_page_is_for_this_host_alone_unless_it_is_opened(server):
    assert server.get("audit.cgi?format=json")[0] == 200
    for path in ("audit.cgi", "audit.cgi?format=json", "whereis.cgi/Primes"):
        assert server.get(path, **{PRETENDED: "192.0.2.7"})[0] == 403, path


def test_whereis_alone_may_be_opened_as_the_snippet_says(server, public):
    """The advice can be followed without opening the page."""

    class Opened(type(server)):
        def snippet(self):
            page, whereis = re.split(r"(?=<Files whereis|\$HTTP\[\"url\"\] =~ \"\^/bdserver/whereis)", super().snippet())
            two_lines = "\n".join(re.findall(r"^ *(?:alias.url|cgi.assign) .*", whereis, re.MULTILINE)[:2])
            opened = whereis.replace("Require local", "Require all granted").replace('url.access-deny = ( "" )', two_lines)
            assert opened != whereis
            return page + opened

    folder = public / f"opened-{server.name}"
    folder.mkdir()
    folder.chmod(0o777)
    opened = Opened(folder, server.prefix, server.audit_conf).start()
    try:
        stranger = {PRETENDED: "192.0.2.7"}
        assert opened.get("whereis.cgi/Primes", **stranger)[0] == 302
        assert opened.get("audit.cgi?format=json", **stranger)[0] == 403
    finally:
        opened.stop()


def test_headers_of_the_caller_are_not_believed(server):
    lies = {"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7", "Proxy": "http://127.0.0.1:1", "Host": "evil.example"}
    status, _, body = server.get("audit.cgi?format=json", **lies)
    assert status == 200 and b"evil" not in body and b"192.0.2.7" not in body
    status, headers, _ = server.get("whereis.cgi/TimeOfDay", **lies)
    assert status == 302 and "evil" not in headers["Location"]


def test_whereis_redirects_to_the_service(server, world):
    status, headers, body = server.get("whereis.cgi/Primes")
    assert status == 302, body
    assert headers["Location"] == f"http://127.0.0.1:{world.alpha.config['axis_port']}/axis/Primes?wsdl"
    assert server.get("whereis.cgi/Primes", method="HEAD")[2] == b""
    status, headers, _ = server.get("whereis.cgi/Primes", method="POST")
    assert status == 307 and headers["Location"].endswith("Primes?wsdl")
    assert server.get("whereis.cgi/TimeOfDay")[1]["Location"].endswith("TimeOfDay?wsdl")


def test_curl_and_zeep_use_the_mesh_by_one_address(server):
    done = subprocess.run(["curl", "-sSL", server.url("whereis.cgi/Primes")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "definitions" in done.stdout and "Factors" in done.stdout, done
    assert zeep.Client(server.url("whereis.cgi/TimeOfDay")).service.Now(zone="UTC").time.endswith("+00:00")


def test_why_there_is_no_service(server, world, configured):
    status, headers, body = server.get("whereis.cgi/Nothing")
    assert (status, headers["Content-Type"]) == (404, "text/plain; charset=utf-8") and b"nobody in the mesh has it" in body
    for path in ("whereis.cgi", "whereis.cgi/", "whereis.cgi/a/b", "whereis.cgi/%3Cscript%3E", "whereis.cgi/a%0d%0aX:%20y"):
        status, headers, body = server.get(path)
        assert status in (400, 404) and headers["X"] is None and b"<script>" not in body, (path, body)
    elsewhere = world.folder / "elsewhere.xml"
    elsewhere.write_text((world.folder / "office.xml").read_text().replace("office", "elsewhere"))
    configured(f"socket={world.beta.socket}\nwhereis_policy={elsewhere}\n")
    status, _, body = server.get("whereis.cgi/Primes")
    assert status == 403 and b"policy" in body
    configured("socket=/nowhere/sock\n")
    for path in ("whereis.cgi/Primes", "audit.cgi"):
        status, _, body = server.get(path)
        assert status == 503 and b"/nowhere/sock" in body


def test_a_service_outside_the_mesh_is_not_redirected_to_unless_named(server, world, configured):
    assert world.beta.run("bdctl", "publish", "--url", "http://outside.example/x", "Outside").returncode == 0
    try:
        status, _, body = server.get("whereis.cgi/Outside")
        assert status == 403 and b"outside.example" in body
        configured(f"socket={world.beta.socket}\nwhereis_hosts=outside.example\n")
        assert server.get("whereis.cgi/Outside")[1]["Location"] == "http://outside.example/x"
    finally:
        assert world.beta.run("bdctl", "withdraw", "Outside").returncode == 0


def test_a_wrong_config_is_told_to_the_log_and_hinted_at_to_the_visitor(server, world, configured):
    configured(f"socket={world.beta.socket}\ncrawl_secnds=3\n")
    status, _, body = server.get("audit.cgi")
    assert status == 500 and b"error log" in body and b"crawl_secnds" not in body
    logs = "".join(path.read_text() for path in world.folder.glob("*error.log")) + server.log.read_text()
    assert "audit.conf:2: unknown key 'crawl_secnds' (did you mean crawl_seconds?)" in logs


def test_a_hung_node_ends_in_a_504_in_time(server, world):
    with world.beta.frozen():
        for path in ("audit.cgi", "whereis.cgi/Primes"):
            started = time.monotonic()
            status, _, body = server.get(path)
            assert status == 504 and b"time" in body, body
            assert time.monotonic() - started < 30
    until(lambda: set(world.beta.alive_names()) == {"alpha", "beta", "gamma"}, 60, "beta has caught up")
    until(lambda: "beta" in world.alpha.alive_names() and "beta" in world.gamma.alive_names(), 60, "beta is alive again")


def test_a_hung_node_is_shown_as_silent_and_does_not_hold_up_the_page(server, world):
    with world.gamma.frozen():
        said = json.loads(server.get("audit.cgi?format=json")[2])
        gamma = next(node for node in said["nodes"] if node["name"] == "gamma")
        assert not gamma["has_answered"] and (gamma["failure"] or gamma["state"] != "alive")
        assert any(warning["node"] == "gamma" for warning in said["warnings"])
    until(lambda: "gamma" in world.alpha.alive_names() and "gamma" in world.beta.alive_names(), 60, "gamma is alive again")


def test_with_a_certificate_the_nodes_are_called_directly(server, world, configured):
    folder = world.mesh.issue("auditor", role="client", folder=tempfile.mkdtemp(prefix="keys-", dir=world.folder))
    for path in (folder, *(os.path.join(folder, name) for name in os.listdir(folder))):
        if os.getuid() == 0:
            shutil.chown(path, "www-data")  # a key must be its reader's alone
    configured(f"socket=\nkeys={folder}/auditor\nnodes=127.0.0.1:1 {world.alpha.address}\n")
    said = json.loads(server.get("audit.cgi?format=json")[2])
    assert said["entry"] == "alpha" and {node["name"] for node in said["nodes"] if node["has_answered"]} == {
        "alpha",
        "beta",
        "gamma",
    }
    status, headers, body = server.get("whereis.cgi/TimeOfDay")
    assert status == 302 and headers["Location"].endswith("TimeOfDay?wsdl"), body


def test_many_visitors_at_once(server, world):
    command = ["curl", "-s", "--parallel", "--parallel-max", "20", "-o", "/dev/null", "-w", "%{http_code}\n"]
    done = subprocess.run([*command, server.url("whereis.cgi/TimeOfDay?[1-40]")], capture_output=True, text=True, timeout=120)
    assert set(done.stdout.split()) == {"302"}, f"{done.stdout.split()}\n{world.beta.log[-4000:]}"
