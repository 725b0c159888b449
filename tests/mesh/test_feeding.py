"""HAProxy and nginx, fed by on_change and bdctl export while hosts come and go: no request fails."""

import contextlib
import http.client
import os
import shlex
import shutil
import subprocess
import sys
import threading
import urllib.request

import pytest

from tests.hosts import free_port, until

WEB = """
import http.server, sys
class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body at once: a kill does not fall between them
    def do_GET(self):
        body = sys.argv[2].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer.request_queue_size = 128
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Web)
print("up", flush=True); server.serve_forever()
"""

HAPROXY = """
global
    stats socket {folder}/stats mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response
frontend all
    bind 127.0.0.1:{port}
    default_backend Echo
"""

NGINX = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    include {folder}/services;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://Echo; proxy_connect_timeout 1s; }}
    }}
}}
"""


class Web:
    """A web server that says a host's name."""

    def __init__(self, name):
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-c", WEB, str(self.port), name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout.readline()

    def kill(self):
        """At once; once more does no harm."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Load:
    """Requests all the time; what came back, and what failed."""

    def __init__(self, port):
        self.url, self.seen, self.failures, self.count = f"http://127.0.0.1:{port}/x", set(), [], 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def _run(self):
        while not self._stop.is_set():
            try:
                with self._opener.open(self.url, timeout=20) as answer:
                    self.seen.add(answer.read().decode())
                self.count += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(error)

    def called(self):
        """Who answers the next requests."""
        self.seen.clear()
        enough = self.count + 50
        until(lambda: self.count >= enough, 30, "fifty requests")
        return set(self.seen)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def reading_anew(form, folder):
    """The command that has a proxy check its files, and read them anew."""
    if form == "haproxy":
        return f"haproxy -q -c -f {folder}/base -f {folder}/services && kill -USR2 $(cat {folder}/pid)"
    return f"nginx -q -t -c {folder}/base && kill -HUP $(cat {folder}/pid)"


@contextlib.contextmanager
def proxy(form, folder, port):
    """A real one, which serves what the file `services` says."""
    (folder / "base").write_text({"haproxy": HAPROXY, "nginx": NGINX}[form].format(folder=folder, port=port))
    if form == "haproxy":
        line = ["haproxy", "-W", "-db", "-f", f"{folder}/base", "-f", f"{folder}/services"]
    else:
        line = ["nginx", "-c", f"{folder}/base", "-g", "daemon off;"]
    with open(folder / "proxy.log", "wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log)
    (folder / "pid").write_text(str(process.pid))
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("form", ["haproxy", "nginx"])
def test_no_request_fails_while_hosts_come_and_go(mesh, tmp_path, form):
    if shutil.which(form) is None:
        pytest.skip(f"{form} is not installed")
    folder, port = tmp_path / "proxy", free_port()
    folder.mkdir()
    program = tmp_path / "program"
    alpha = mesh.host("alpha", on_change=program)
    export = [*alpha.command_line("bdctl"), "export", form, "--keep", "Echo", "--to", f"{folder}/services"]
    program.write_text(
        f"#!/bin/sh\n[ -e {folder}/pid ] || exit 0\nexec {shlex.join([*export, '--then', reading_anew(form, folder)])}\n"
    )
    program.chmod(0o755)
    alpha.start()
    webs = {}

    def come(name):
        webs[name] = Web(name)
        host = mesh.host(name, hints=alpha.address).start() if name != "alpha" else alpha
        host.add_service("Echo", url=f"http://127.0.0.1:{webs[name].port}/", health="http")
        return host

    def serves():
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return answer.read() == b"alpha"

    with contextlib.ExitStack() as ended:
        ended.callback(lambda: [web.kill() for web in webs.values()])
        come("alpha")
        until(lambda: alpha.ctl("services").get("Echo"), 20, "alpha offers Echo")
        subprocess.run(export, env=os.environ | {"BDSERVER_CONFIG": alpha.config_path}, check=True)
        ended.enter_context(proxy(form, folder, port))
        until(serves, 30, "the proxy serves")
        with Load(port) as load:
            beta = come("beta")
            until(lambda: "beta" in load.seen, 30, "beta is called")
            come("gamma")
            until(lambda: "gamma" in load.seen, 30, "gamma is called")
            webs["beta"].kill()
            beta.kill()
            until(lambda: str(webs["beta"].port) not in (folder / "services").read_text(), 30, "beta is out")
            alpha.ctl("drain")
            until(lambda: load.called() == {"gamma"}, 30, "gamma alone is called")
            alpha.ctl("drain", "--off")
            until(lambda: load.called() == {"alpha", "gamma"}, 30, "alpha too, again")
        assert load.failures == [] and load.count > 100
        print(f"{load.count} requests, none failed")
        assert "on_change" not in str(alpha.ctl("status")["warnings"])
