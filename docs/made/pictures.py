"""Draws the pictures in docs/pictures from a real mesh of real daemons: the audit page (by headless Chromium, if it is
installed), the topology and the weights. Part of `make generate`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile

from bdserver.audit import bars, page, topology
from bdserver.audit.crawl import crawl_from
from bdserver.audit.snapshot import Snapshot
from bdserver.net import dialling
from tests.hosts import Mesh, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
POLICY = """<wsp:Policy xmlns:wsp="http://schemas.xmlsoap.org/ws/2004/09/policy" xmlns:p="urn:example">
<wsp:ExactlyOne>{}</wsp:ExactlyOne></wsp:Policy>"""
POLICIES = {"office": ("office",), "both": ("office", "datacentre"), "datacentre": ("datacentre",)}
HOSTS = {"alpha": "office", "beta": "both", "gamma": "both", "delta": "datacentre", "epsilon": "datacentre", "zeta": "both"}
SERVICES = {"alpha": ("Orders", "Stock"), "beta": ("Primes",), "delta": ("Primes", "Maps"), "epsilon": ("Search",)}
CALLS = {"Orders": 22, "Stock": 9, "Maps": 14, "Search": 17, "Primes": 30}
WINDOW = "1400,1250"
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-device-scale-factor=1"]  # fmt: skip


def main() -> None:
    """Start the mesh, let it live a little, draw."""
    pictures = os.path.join(ROOT, "docs", "pictures")
    os.makedirs(pictures, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Mesh(folder, "example") as mesh:
        snapshot = _live(mesh, folder)
        _write(os.path.join(pictures, "topology.png"), topology.render(topology.dot(snapshot), "png", 20))
        _write(os.path.join(pictures, "weight.png"), bars.draw(snapshot))
        html = os.path.join(folder, "page.html")
        _write(html, page.render(snapshot, 0, 20).encode())
        program = shutil.which("chromium")
        if program is None:
            print("docs/pictures/audit.png is left as it is: Chromium is not installed here")
            return
        shot = [f"--screenshot={pictures}/audit.png", f"--window-size={WINDOW}", f"--user-data-dir={folder}/chromium"]
        subprocess.run([program, *CHROMIUM, *shot, f"file://{html}"], check=True, stderr=subprocess.DEVNULL)


def _live(mesh: Mesh, folder: str) -> Snapshot:
    for name, alternatives in POLICIES.items():
        text = POLICY.format("".join(f"<wsp:All><p:{each}/></wsp:All>" for each in alternatives))
        _write(os.path.join(folder, name + ".xml"), text.encode())
    for name, policy in HOSTS.items():
        hints = {"hints": " ".join(each.address for each in mesh.hosts)} if mesh.hosts else {}
        host = mesh.host(name, ws_policy=os.path.join(folder, policy + ".xml"), receiver_threshold=25, **hints)
        for service in SERVICES.get(name, ()):
            host.add_service(service)
    for host in mesh.hosts:
        host.start()
    mesh.wait_known()
    gamma, zeta = mesh.hosts[2], mesh.hosts[5]
    for service, calls in CALLS.items():
        until(lambda service=service: service in gamma.ctl("services"), 30, f"gamma knows {service}")
        for _ in range(calls):
            gamma.lookup(service)
    zeta.kill()
    until(lambda: gamma.status_of("zeta") == "dead", 60, "zeta's death is known")
    for service in ("Orders", "Primes"):
        with contextlib.suppress(AssertionError):
            gamma.lookup(service)
    return Snapshot(crawl_from([lambda deadline: dialling.dial_local(gamma.socket, deadline)], 10))


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
    if path.startswith(ROOT):
        print(f"{os.path.relpath(path, ROOT)}: drawn")


if __name__ == "__main__":
    main()
