"""Weight from Apache's own log: what clients really did, also those who kept a URL; under a load generator."""

import os
import shutil
import subprocess

import pytest

from tests.hosts import Mesh, until

from . import containers

CALLS = 300


@pytest.fixture
def here(public):
    """Apache, logging as Debian's does."""
    folder = public / "logged"

    class Logging(containers.Apache):
        def config_text(self):
            form = 'LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\" \\"%{User-Agent}i\\"" combined'
            module = f"LoadModule log_config_module {containers.servers.MODULES_AT}/mod_log_config.so"
            return f"{super().config_text()}\n{form}\nCustomLog {self.folder}/access.log combined\n".replace(
                "LoadModule dir_module", f"{_if_built_in(module)}\nLoadModule dir_module"
            )

    server = Logging(folder).start()
    yield server
    server.stop()
    shutil.rmtree(folder)


def _if_built_in(line):
    """Debian builds this module in; others load it."""
    return line if os.path.exists(line.split()[-1]) else ""


def test_a_client_that_keeps_a_url_is_load_all_the_same(here, public, prefix):
    with Mesh(str(public / "logged-mesh")) as mesh:
        log = here.folder / "access.log"
        until(log.exists, 20, "Apache has opened its log")
        os.chmod(log, 0o644)
        host = containers.node(mesh, prefix, "alpha", here, receiver_threshold=100, access_log=log)

        def counted(service="Quick"):
            path = os.path.join(host.folder, "var", "log", f"{service}.bdlog")
            if not os.path.exists(path):
                return 0
            with open(path) as file:
                return file.read().count("HIT ~")

        for name in ("Quick", "First"):
            host.add_service(name, "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\nquick\\n'\n")
        containers.give(here.services)
        # The log is read from where it ends when the discoverer comes to it: what is called before that is not counted.
        first = host.whereis("First").stdout.strip()
        until(lambda: containers.fetch(first)[0] == 200 and counted("First"), 20, "the log is read")
        url = host.whereis("Quick").stdout.strip()
        assert containers.fetch(url) == (200, "quick\n")
        for _ in range(5):
            assert host.lookup("Quick")[-1]["node"] == "alpha"
        done = subprocess.run(
            ["ab", "-q", "-n", str(CALLS), "-c", "10", url], capture_output=True, text=True, timeout=120, check=False
        )
        assert "Failed requests:        0" in done.stdout, done.stdout + done.stderr
        until(lambda: host.ctl("status")["overloaded"], 10, "the load is seen")
        until(lambda: counted() > CALLS, 20, "all calls are counted")
        hits = counted()
        assert hits == CALLS + 1, "each request is a hit, and agreeing to a call is none"
        os.rename(log, f"{log}.1")  # what logrotate does, and Apache's graceful restart after it
        os.kill(here.process.pid, 10)
        until(lambda: log.exists() and containers.fetch(url)[0] == 200, 20, "Apache has opened a new log")
        os.chmod(log, 0o644)
        until(lambda: counted() > hits, 20, "the new log is read")
