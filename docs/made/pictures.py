"""Draws the pictures in docs/pictures from a real mesh of real daemons: the pages of the audit (by headless Chromium, if it is
installed) on a telephone, a tablet and a wide screen, light and dark, the topology and the weights. Part of `make generate`.

The mesh lives for a few seconds; the hours before in one node's time line are made up."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import tempfile
import time

from PIL import Image

from bdserver.audit import bars, page, topology
from bdserver.audit.colours import LIGHT
from bdserver.audit.crawl import WHOLE, About, crawl_from
from bdserver.audit.page import Frame
from bdserver.audit.search import Filter
from bdserver.audit.snapshot import Snapshot
from bdserver.core.timeline import Span
from bdserver.files.timeline import Timeline
from bdserver.net import dialling
from tests.hosts import Host, Mesh, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
POLICY = """<wsp:Policy xmlns:wsp="http://schemas.xmlsoap.org/ws/2004/09/policy" xmlns:p="urn:example">
<wsp:ExactlyOne>{}</wsp:ExactlyOne></wsp:Policy>"""
POLICIES = {"office": ("office",), "both": ("office", "datacentre"), "datacentre": ("datacentre",)}
HOSTS = {"alpha": "office", "beta": "both", "gamma": "both", "delta": "datacentre", "epsilon": "datacentre", "zeta": "both"}
SERVICES = {"alpha": ("Orders", "Stock"), "beta": ("Primes",), "delta": ("Primes", "Maps"), "epsilon": ("Search",)}
CALLS = {"Orders": 22, "Stock": 9, "Maps": 14, "Search": 17, "Primes": 30}
HOURS = 6
# Width and height of a first screen, and by how much it is shown smaller.
SCREENS = ((1600, 1000, 0.5), (768, 1024, 0.5), (360, 780, 0.65))
SCHEMES = {"light": [], "dark": ["--blink-settings=preferredColorScheme=0"]}
COLOURS = 128
GAP = 12
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-device-scale-factor=1"]  # fmt: skip


def main() -> None:
    """Start the mesh, let it live a little, draw."""
    pictures = os.path.join(ROOT, "docs", "pictures")
    os.makedirs(pictures, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Mesh(folder, "example") as mesh:
        entry = _live(mesh, folder)
        snapshot = _seen(entry, About(hours=HOURS))
        _write(os.path.join(pictures, "topology.png"), topology.png(snapshot, LIGHT, topology.SERVICES, 20))
        _write(os.path.join(pictures, "weight.png"), bars.draw(snapshot))
        if shutil.which("chromium") is None:
            print("docs/pictures/audit*.png are left as they are: Chromium is not installed here")
            return
        frame = Frame(hours=HOURS)
        pages = {
            "audit": page.render(snapshot, 0, 20, Filter(), frame),
            "audit-node": page.render_node(_seen(entry, About(node="beta", hours=HOURS)), "beta", frame),
            "audit-service": page.render_service(_seen(entry, About("Primes")), "Primes", frame),
        }
        for name, html in pages.items():
            path = os.path.join(folder, f"{name}.html")
            _write(path, html.encode())
            _sheet(path, folder).save(os.path.join(pictures, f"{name}.png"), optimize=True)
            print(f"docs/pictures/{name}.png: drawn")


def _sheet(html: str, folder: str) -> Image.Image:
    """All first screens of one page, side by side: a row for each scheme of colours."""
    rows = [[_shot(html, folder, scheme, screen) for screen in SCREENS] for scheme in SCHEMES]
    width = sum(shot.width + GAP for shot in rows[0]) + GAP
    height = max(shot.height for shot in rows[0]) + GAP
    sheet = Image.new("RGB", (width, height * len(rows) + GAP), "#8a919c")
    for number, row in enumerate(rows):
        x = GAP
        for shot in row:
            sheet.paste(shot, (x, GAP + number * height))
            x += shot.width + GAP
    return sheet.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def _shot(html: str, folder: str, scheme: str, screen: tuple[int, int, float]) -> Image.Image:
    width, height, scale = screen
    path = os.path.join(folder, "shot.png")
    line = [f"--screenshot={path}", f"--window-size={width},{height}", f"--user-data-dir={folder}/chromium", *SCHEMES[scheme]]
    subprocess.run(["chromium", *CHROMIUM, *line, f"file://{html}"], check=True, stderr=subprocess.DEVNULL)
    with Image.open(path) as shot:
        return shot.convert("RGB").resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)


def _seen(entry: Host, about: About = WHOLE) -> Snapshot:
    return Snapshot(crawl_from([lambda deadline: dialling.dial_local(entry.socket, deadline)], 10, about=about))


def _past(host: Host) -> None:
    """Hours of a node that was away for a while."""
    line, now = Timeline(os.path.join(host.folder, "var", f"{host.name}.bdtimeline")), int(time.time()) // 60
    for back in range(60 * HOURS, 0, -1):
        if not 130 < back < 165:
            weight = 11 + 7 * math.sin(back / 31) + 3 * math.sin(back / 5)
            line.write(
                Span(now - back, 60, round(weight * 6), int(back == 90), int(back % 83 == 0), weight, weight + 3, 25.0), 24 * 60
            )


def _live(mesh: Mesh, folder: str) -> Host:
    for name, alternatives in POLICIES.items():
        text = POLICY.format("".join(f"<wsp:All><p:{each}/></wsp:All>" for each in alternatives))
        _write(os.path.join(folder, name + ".xml"), text.encode())
    for name, policy in HOSTS.items():
        hints = {"hints": " ".join(each.address for each in mesh.hosts)} if mesh.hosts else {}
        host = mesh.host(name, ws_policy=os.path.join(folder, policy + ".xml"), receiver_threshold=25, **hints)
        for service in SERVICES.get(name, ()):
            host.add_service(service)
    for host in mesh.hosts[1:3]:
        _past(host)
    for host in mesh.hosts:
        host.start()
    mesh.wait_known()
    beta, gamma, zeta = mesh.hosts[1], mesh.hosts[2], mesh.hosts[5]
    for service, calls in CALLS.items():
        until(lambda service=service: service in gamma.ctl("services"), 30, f"gamma knows {service}")
        for number in range(calls):
            (gamma if number % 3 else beta).lookup(service)
    zeta.kill()
    until(lambda: gamma.status_of("zeta") == "dead", 60, "zeta's death is known")
    for service in ("Orders", "Primes"):
        with contextlib.suppress(AssertionError):
            gamma.lookup(service)
    return gamma


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
    if path.startswith(ROOT):
        print(f"{os.path.relpath(path, ROOT)}: drawn")


if __name__ == "__main__":
    main()
