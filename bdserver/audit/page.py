"""The audit page: the snapshot as HTML, whole in one answer, with the pictures for the light and for the dark inside.

The template engine escapes all that comes from the mesh; links go only to http and https. Style and script are allowed
by their digests, so nothing else could run. Works without JavaScript; with it, tables can be sorted, rows are found at each
key, and the page keeps itself up to date: it asks for what changes of it (`Frame.is_part`).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
import urllib.parse
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, zip_longest
from typing import Any

import jinja2
import jinja2.ext
from markupsafe import Markup

from bdserver.audit import matrix, meters, past, search, svg, topology
from bdserver.audit.colours import LIGHT
from bdserver.audit.crawl import Offer
from bdserver.audit.search import Filter
from bdserver.audit.snapshot import EDGES, Node, Snapshot, few, local_time, together
from bdserver.core import attention
from bdserver.core.membership import STATIC, Copies
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BDError, NotDrawn

# Who heard of whom is told in words for this many, then by cells; beyond matrix.CELLS_MAX, a row a node says the most.
MATRIX_MAX = 16
PAIRS_MAX = 16
FORMS = (
    ("JSON", "json"),
    ("Prometheus", "prometheus"),
    ("dot", "dot"),
    ("PNG", "png"),
    ("SVG", "svg"),
    ("weights", "weight.png"),
)
REFRESHES = (0, 5, 30)
# A table of more rows scrolls by itself, below its heads, so that what comes next is not a hundred screens away.
TALL_ABOVE = 30
# Of the time line.
HOURS = (1, 6, 24, 168)


class Frame(NamedTuple):
    """What is around the content. `refresh`: seconds after which a page without JavaScript comes anew, 0: never; `is_part`:
    only what changes; `watch`: where changes are told as server-sent events, relative to the page, "" for nowhere."""

    refresh: int = 0
    is_part: bool = False
    watch: str = ""
    hours: int = 0
    refreshes: tuple[int, ...] = REFRESHES


PLAIN, ALL = Frame(), Filter()


# What a table's elements are, said once more: a style that shows a row as a card takes that from them for some browsers.
ROLES = (
    ("<table", "table"),
    ("<thead", "rowgroup"),
    ("<tbody", "rowgroup"),
    ("<tr", "row"),
    ('<th scope="col"', "columnheader"),
    ('<th scope="row"', "rowheader"),
    ("<td", "cell"),
)


class _TableRoles(jinja2.ext.Extension):
    """Templates are written without roles, and read with them."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The source with a role for each element of a table."""
        for element, role in ROLES:
            source = re.sub(element + r"(?=[ >])", f'{element} role="{role}"', source)
        return source


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bdserver.audit"),
        extensions=[_TableRoles],
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(ago=_ago, calls=_calls, duration=_duration, linkable=_linkable, when=local_time)
    return environment


@cache
def _part(name: str) -> str:
    """Style or script, as it stands in the page."""
    with open(os.path.join(os.path.dirname(__file__), "templates", name), encoding="utf-8") as file:
        return file.read()


@cache
def _style() -> str:
    return _part("page.css") + _part("pictures.css") + svg.style()


@cache
def content_security_policy() -> str:
    """Only our own style and script, pictures in the page itself, and this server for what is asked and sent."""
    style, script = _digest(_style()), _digest(_part("page.js"))
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _rendered(template: str, snapshot: Snapshot, frame: Frame, query: str = "", **values: Any) -> str:
    """`query`: what of the address tells which page it is."""
    whole = {"style": _style(), "script": _part("page.js")} if not frame.is_part else {}
    return (
        _templates()
        .get_template(template)
        .render(snapshot=snapshot, frame=frame, query=query, all_hours=HOURS, tall_above=TALL_ABOVE, **whole, **values)
    )


def _about(kind: str, name: str, snapshot: Snapshot, frame: Frame, **values: Any) -> str:
    """A page about one node or service: about.html, and what the template of its kind says in it."""
    query = f"{kind}={urllib.parse.quote(name)}&"
    return _rendered(f"{kind}.html", snapshot, frame, query, kind=kind, name=name, **values)


def render(
    snapshot: Snapshot,
    refresh: int,
    draw_seconds: float,
    chosen: Filter = ALL,
    frame: Frame | None = None,
    view: str = topology.SERVICES,
) -> str:
    """The page's HTML; rows that `chosen` does not take are hidden."""
    there = matrix.columns(snapshot)
    zones = range(len(snapshot.zones))
    node_rows = {node.name: search.node_row(snapshot, node) for node in snapshot.nodes}
    service_rows = {service.name: search.service_row(snapshot, service) for service in snapshot.heaviest}
    return _rendered(
        "page.html",
        snapshot,
        frame or Frame(refresh),
        totals=snapshot.totals(),
        warnings=_grouped(snapshot.warnings()),
        disagreements=snapshot.disagreements,
        events=snapshot.lately.events(),
        line=_past(snapshot, snapshot.entry),
        topology=_topology(snapshot, view, draw_seconds),
        view=view,
        views=topology.VIEWS,
        bars=meters.html(snapshot),
        edges=EDGES,
        counts=snapshot.edge_counts,
        there=there,
        is_matrix=len(there) <= MATRIX_MAX,
        cells=matrix.rows(snapshot, time.time()) if MATRIX_MAX < len(there) <= matrix.CELLS_MAX else [],
        legend=matrix.legend(),
        heard=[_heard(snapshot, node.name) for node in there] if len(there) > matrix.CELLS_MAX else [],
        pairs=[[snapshot.pair(a, b) for b in zones] for a in zones] if len(zones) <= PAIRS_MAX else None,
        forms=FORMS,
        chosen=chosen,
        states=search.STATES,
        node_rows=node_rows,
        service_rows=service_rows,
        found=_found(chosen, {"nodes": node_rows, "services": service_rows}),
    )


def _found(chosen: Filter, tables: dict[str, dict[str, search.Row]]) -> str:
    return ", ".join(f"{sum(map(chosen.takes, rows.values()))} of {len(rows)} {what}" for what, rows in tables.items())


def _past(snapshot: Snapshot, name: str) -> past.Drawing | None:
    """The time line of a node, where it has told one."""
    status = snapshot.crawl.statuses.get(name)
    return past.drawing(status.line) if status is not None and status.line is not None else None


# Where a service may be copied to, and what that means.
TERMS = {
    Copies.ANY: ("anywhere", "where there is room"),
    Copies.MEETING: ("meeting", "to nodes whose policy meets its original's"),
    Copies.NONE: ("no", "it stays where it is"),
}


def render_service(snapshot: Snapshot, name: str, frame: Frame = PLAIN) -> str:
    """The HTML of a page for one service; CantFind when there is none of this name."""
    service = snapshot.service(name)
    holders = [(node, node.services[name]) for node in map(snapshot.by_name.__getitem__, service.holders)]
    holders.sort(key=lambda each: (each[1].type != STATIC, each[0].name))
    said = {offer.held.copies for _, offer in holders}
    return _about(
        "service",
        name,
        snapshot,
        frame,
        service=service,
        holders=holders,
        dead=[(node, node.services[name]) for node in snapshot.dead_holders(name)],
        originals=[node.name for node, offer in holders if offer.type == STATIC],
        terms=next((TERMS[each] for each in (Copies.NONE, Copies.MEETING) if each in said), TERMS[Copies.ANY]),
        warnings=_grouped([(node, finding.line) for node, finding in snapshot.findings_of_service(service)]),
        events=snapshot.lately.events(name),
        askers=snapshot.lately.askers(service=name),
        lookups=snapshot.lately.lookups(service=name),
    )


def render_node(snapshot: Snapshot, name: str, frame: Frame = PLAIN) -> str:
    """The HTML of a page for one node; CantFind when nobody knows it."""
    node = snapshot.node(name)
    return _about(
        "node",
        name,
        snapshot,
        frame,
        node=node,
        originals=sum(offer.type == STATIC for offer in node.services.values()),
        zone=snapshot.zones[node.zone],
        warnings=dict.fromkeys(attention.lines(snapshot.findings_of(name)), ""),
        seen=_seen(snapshot, node),
        events=snapshot.lately.events_of_node(name),
        calls=together(node.services.values()) if node.services or not node.has_answered else 0,
        askers=snapshot.lately.askers(name),
        lookups=snapshot.lately.lookups(name),
        line=_past(snapshot, name),
    )


def _seen(snapshot: Snapshot, node: Node) -> list[dict[str, Any]]:
    """How often a node is in which state, for whom, and when one of those last heard of it; what most say comes first."""
    says: dict[str, list[str]] = {}
    for observer, sights in snapshot.crawl.sights.items():
        if observer != node.name:
            says.setdefault(sights[node.name].status if node.name in sights else "unknown", []).append(observer)
    rows = []
    for state, observers in sorted(says.items(), key=lambda each: -len(each[1])):
        heard = [snapshot.heard_at(observer, node.name) for observer in observers]
        rows.append({"state": state, "observers": sorted(observers), "heard_at": max((at or 0.0 for at in heard), default=0.0)})
    return rows


# A measure in a complaint, by which nodes that have the same one differ.
_MEASURE = re.compile(r"(?<= )\d+(?:\.\d+)?(?= (?:%|s|days|MiB)(?: |$))")


def _grouped(warnings: list[tuple[str, str]]) -> dict[str, str]:
    """A complaint -> the names of the nodes that it is about; twenty dead nodes are one line, and so are twenty overloaded ones
    with a range of how much."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, said in warnings:
        groups.setdefault(_MEASURE.sub("", said), []).append((name, said))
    found = {}
    for alike in groups.values():
        ranges = map(_range, zip(*(_MEASURE.findall(said) for _, said in alike), strict=True))
        words = zip_longest(_MEASURE.split(alike[0][1]), ranges, fillvalue="")
        found["".join(chain.from_iterable(words))] = few([name for name, _ in alike if name], 12)
    return found


def _range(numbers: Sequence[str]) -> str:
    least, most = min(numbers, key=float), max(numbers, key=float)
    return least if least == most else f"{least} to {most}"


def _topology(snapshot: Snapshot, view: str, seconds: float) -> dict[str, Any]:
    """{"picture", "key", "reason", "description"}: SVG, PNG where Graphviz draws no SVG, or why there is none."""
    described = topology.description(snapshot)
    source = topology.dot(snapshot, LIGHT, view, has_key=False)
    try:
        try:
            picture = svg.inline(topology.render(source, "svg", seconds / 2), described)
        except NotDrawn:
            content = base64.b64encode(topology.png(snapshot, LIGHT, view, seconds / 2, has_key=False)).decode()
            picture = Markup('<img class="picture" src="data:image/png;base64,{}" alt="{}">').format(content, described)
    except BDError as error:
        return {"picture": "", "key": [], "reason": str(error), "description": described}
    return {
        "picture": picture,
        "key": [(svg.sample(each.colour, each.mark), each.words) for each in topology.key(snapshot, view)],
        "reason": "",
        "description": described,
    }


def _heard(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """Of one node: the observer that heard of it last, the one that has not for longest, how many never did."""
    times = {other: snapshot.heard_at(other, name) for other in snapshot.observers if other != name}
    heard = sorted((at, other) for other, at in times.items() if at is not None)
    return {
        "name": name,
        "last": heard[-1] if heard else None,
        "first": heard[0] if heard else None,
        "never": sum(at is None for at in times.values()),
    }


def _calls(offers: Iterable[Offer]) -> str:
    found = together(offers)
    return "" if found is None else str(found)


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _ago(at: float | None) -> str:
    return f"{_duration(time.time() - at)} ago" if at else "never"


def _linkable(url: str) -> bool:
    """Only what a browser fetches; never javascript: or data: from the mesh."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
