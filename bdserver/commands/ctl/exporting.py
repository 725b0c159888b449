"""bdctl export: what the mesh offers now, in the words of another program.

Works on what STATUS tells of nodes; all of it is pure. A URL that can't be told in such words is left out and said. A mesh that
is not known is an error: a program would take "nothing" for "nobody offers anything".
"""

from __future__ import annotations

import json
import re
import shlex
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

from bdserver.core.address import join_address, split_address
from bdserver.core.attention import few
from bdserver.core.membership import ALIVE
from bdserver.core.messages import Status
from bdserver.core.tuples import NamedTuple
from bdserver.core.urls import is_url
from bdserver.errors import NobodyThere

# A node as `bdctl nodes --json` prints it.
Node = dict[str, Any]
PORT_OF = {"http": 80, "https": 443}
# HAProxy's weights are shares: a backend's server with the highest threshold has this one, the others theirs in proportion.
WEIGHT_MAX = 100
# Of the hints that did not answer yet, a complaint names this many.
SHOWN_MAX = 5


class Place(NamedTuple):
    """The place at which a node serves a service. `threshold`: the node's, 0 where it is not told; `is_checked`: it looks
    whether the service is well."""

    node: str
    host: str
    port: int
    url: str
    type: str
    threshold: float
    is_checked: bool

    @property
    def is_tls(self) -> bool:
        """Whether it is called by https."""
        return self.url.lower().startswith("https:")


class Offered(NamedTuple):
    """`places`: service -> where it is served, for each service that anybody was known to have, so some have none.
    `hosts`: (host, name) of each node that lives. `doubts`: a line for each place that is left out, and one that names the
    services of which nobody looks whether they are well."""

    places: dict[str, list[Place]]
    hosts: list[tuple[str, str]]
    doubts: list[str]


def offered(status: Status, keep: Iterable[str] = ()) -> Offered:
    """The services of the mesh, as the node knows them that told its status; `keep`: services that are listed in any case.

    NobodyThere while that node has hints and knows nobody but itself: it has lost its cache, or has just been started."""
    named = sorted((node for node in status.nodes if node["name"]), key=lambda node: str(node["name"]))
    hints = [str(node["address"]) for node in status.nodes if not node["name"]]
    if hints and len(named) <= 1:
        shown = ", ".join(hints[:SHOWN_MAX]) + (", …" if len(hints) > SHOWN_MAX else "")
        raise NobodyThere(f"the node knows no other yet, and nobody was reached at its hints ({shown}): nothing is exported")
    places: dict[str, list[Place]] = {name: [] for name in keep}
    doubts = []
    for node in named:
        is_offering = node["status"] == ALIVE and not node["draining"]
        for service in node["services"]:
            found = places.setdefault(service, [])
            try:
                if is_offering:
                    found.append(_place(node, service))
            except ValueError as error:
                doubts.append(f"{service} of {node['name']} is left out: {node['urls'][service]!r:.200}: {error}")
    hosts = [(split_address(node["address"])[0], str(node["name"])) for node in named if node["status"] == ALIVE]
    return Offered(dict(sorted(places.items())), hosts, [*doubts, *_unchecked(places)])


def _unchecked(places: dict[str, list[Place]]) -> list[str]:
    """Their nodes live; whether their web servers do, nobody knows."""
    names = (f"{name} of {each.node}" for name, found in sorted(places.items()) for each in found if not each.is_checked)
    said = few(names)
    return [f"nobody looks whether these are well, and they are exported all the same: {said}"] if said else []


def _place(node: Node, service: str) -> Place:
    """ValueError when the URL names no host and port to connect to."""
    url = node["urls"][service]
    parts = urllib.parse.urlsplit(url)
    port = parts.port or PORT_OF.get(parts.scheme)
    if not parts.hostname:
        raise ValueError("it names no host")
    if not port:
        raise ValueError("it names no port")
    if not is_url(url):  # it goes into other programs' configs
        raise ValueError("it is no URL that all take apart in one way")
    threshold = float(node.get("receiver_threshold", 0.0))
    is_checked = node.get("offers", {}).get(service, {}).get("checked", True)  # an older node does not tell
    return Place(node["name"], parts.hostname, port, parts.geturl(), node["types"][service], threshold, is_checked)


# --- the forms ----------------------------------------------------------------------------------------------------


def haproxy(found: Offered) -> str:
    """A backend for each service. One whose holders are all gone stays, empty, so that what names it can be loaded: HAProxy
    answers 503 there."""
    return "\n".join(_backend(service, places) for service, places in found.places.items())


def _backend(service: str, places: list[Place]) -> str:
    most = max((place.threshold for place in places), default=0.0)
    return "".join(f"{line}\n" for line in [f"backend {service}", "    mode http", *(_server(each, most) for each in places)])


def _server(place: Place, most: float) -> str:
    words = ["server", place.node, join_address(place.host, place.port)]
    if place.is_tls:
        words += ["ssl", "verify", "required", "ca-file", "@system-ca"]
    if not _is_address(place.host):
        # A name that is not known at the moment must not keep HAProxy from starting; and it is what a certificate must say.
        words += ["init-addr", "last,libc,none", *(["sni", f"str({place.host})"] if place.is_tls else [])]
    return "    " + " ".join([*words, "check", "weight", str(_share(place, most))])


def _share(place: Place, most: float) -> int:
    return max(round(WEIGHT_MAX * (place.threshold / most if most else 1.0)), 1)


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def nginx(found: Offered) -> str:
    """An upstream for each service; one whose holders are all gone stays, and answers 502. Whether it is called by TLS the
    `proxy_pass` says, for all of its servers. Who is alive the mesh says: nginx, which would leave a server out for 10 s
    after one broken connection, and could so be left with none, only goes on to the next one."""
    return "\n".join(_upstream(service, places) for service, places in found.places.items())


def _upstream(service: str, places: list[Place]) -> str:
    most = max((place.threshold for place in places), default=0.0)
    # A name that is not known at the moment would keep nginx from starting.
    usable = [each for each in places if _is_address(each.host) and each.is_tls == places[0].is_tls]
    servers = [f"server {join_address(each.host, each.port)} weight={_share(each, most)} max_fails=0;" for each in usable]
    lines = [f"upstream {service} {{", *(f"    {line}" for line in servers or ["server 127.0.0.1:9 down;"]), "}"]
    return "".join(f"{line}\n" for line in lines)


def prometheus(found: Offered) -> str:
    """For `file_sd_configs`: a target for each place, with labels that tell what it is, and where it is called."""
    targets = []
    for service, places in found.places.items():
        for place in places:
            parts = urllib.parse.urlsplit(place.url)
            labels = {
                "bd_service": service,
                "bd_node": place.node,
                "bd_type": place.type,
                "bd_checked": str(place.is_checked).lower(),
                "__scheme__": "https" if place.is_tls else "http",
                "__meta_bd_path": parts.path or "/",
                "__meta_bd_url": place.url,
            }
            targets.append({"targets": [join_address(place.host, place.port)], "labels": labels})
    return json.dumps(targets, indent=2) + "\n"


def env(found: Offered) -> str:
    """For the shell's `.` and systemd's EnvironmentFile: BD_SERVICE_URL, _HOST and _PORT of a place, and _URLS of all."""
    names: dict[str, str] = {}
    lines = []
    for service, places in found.places.items():
        name = "BD_" + re.sub(r"[^A-Z0-9]", "_", service.upper())
        if names.setdefault(name, service) != service:
            lines.append(f"# {service} is left out: {names[name]} has its name already\n")
            continue
        if not places:
            continue
        first = places[0]
        values = {"URL": first.url, "HOST": first.host, "PORT": str(first.port), "URLS": " ".join(each.url for each in places)}
        lines += [f"{name}_{key}={shlex.quote(value)}\n" for key, value in values.items()]
    return "".join(lines)


def hosts(found: Offered) -> str:
    """Lines for /etc/hosts; nodes that are known by a name already need none."""
    return "".join(f"{host}\t{name}\n" for host, name in found.hosts if host[0].isdigit() or ":" in host)


def as_json(found: Offered) -> str:
    """service -> [{"node", "host", "port", "url", "type", "checked"}], of those that are served."""
    keys = ("node", "host", "port", "url", "type")
    served = {
        name: [{**{key: getattr(each, key) for key in keys}, "checked": each.is_checked} for each in places]
        for name, places in found.places.items()
    }
    return json.dumps({name: rows for name, rows in served.items() if rows}, indent=2) + "\n"


FORMS: dict[str, Callable[[Offered], str]] = {
    "haproxy": haproxy,
    "nginx": nginx,
    "prometheus": prometheus,
    "env": env,
    "hosts": hosts,
    "json": as_json,
}
