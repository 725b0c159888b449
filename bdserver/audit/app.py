"""The audit as a WSGI application: one crawl, shown as page, picture, metrics or JSON.

`?format=html|json|dot|png|svg|weight.png|prometheus`, `&theme=dark` for pictures, `&view=hosts` for the topology,
`&refresh=SECONDS` for the page, `&service=NAME` or `&node=NAME` for one service or node as page or JSON,
`&find=WORDS&state=…&zone=…&offers=…` for what the tables show. `format=part` is what changes of a page, for its script. Every
form says when it was taken and must not be kept. Nothing of the caller's request is believed or echoed but these parameters.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from bdserver.audit import jsonform, page, topology
from bdserver.audit.colours import THEMES, Theme
from bdserver.audit.crawl import About, Crawl
from bdserver.audit.page import Frame
from bdserver.audit.refusals import refuse
from bdserver.audit.search import FIND_CHARACTERS_MAX, STATES, Filter
from bdserver.audit.snapshot import Snapshot, local_time
from bdserver.core.names import valid_name
from bdserver.core.timeline import HOURS_MAX
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadRequest, BDError

DRAW_SECONDS = 5.0
REFRESH_MIN, REFRESH_MAX = 1, 3600
# Of the time line.
HOURS = 6
QUERY_CHARACTERS_MAX = 1000


class Wish(NamedTuple):
    """The wishes in a query; `refresh` is 0 or a number of seconds; `service` or `node` is a name, or both are "" for the whole
    mesh."""

    format: str
    theme: Theme
    refresh: int
    service: str = ""
    node: str = ""
    chosen: Filter = Filter()
    watch: str = ""
    view: str = topology.SERVICES
    hours: int = HOURS


def application(take: Callable[[About], Crawl], draw_seconds: float = DRAW_SECONDS, watch: str = "") -> WSGIApplication:
    """A WSGI application; `take` crawls the mesh anew for each request, as what it is about wants it. `watch`: where changes
    are told as server-sent events."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        again: list[tuple[str, str]] = []
        try:
            wish = wish_of(environ)._replace(watch=watch)
            if wish.refresh:
                again = [("Refresh", str(wish.refresh))]
            snapshot = Snapshot(take(about_of(wish)))
            kind, body = FORMS[wish.format](snapshot, wish, draw_seconds)
        except BDError as error:
            return refuse(start_response, error, again)
        headers = [
            *again,
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Taken-At", local_time(snapshot.taken_at)),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ]
        if wish.format in PAGES:
            headers += [("Content-Security-Policy", page.content_security_policy()), ("X-Frame-Options", "DENY")]
        start_response("200 OK", headers)
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    return app


def wish_of(environ: WSGIEnvironment) -> Wish:
    """The wishes in the query; BadRequest names what is wrong with them."""
    if environ.get("REQUEST_METHOD", "GET") not in ("GET", "HEAD"):
        raise BadRequest("only GET and HEAD are answered here")
    if environ.get("PATH_INFO", "") not in ("", "/"):
        raise BadRequest("there is nothing below this page: the forms are ?format=" + "|".join(FORMS))
    query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")[:QUERY_CHARACTERS_MAX]))
    form, theme, refresh = query.get("format", "html"), query.get("theme", "light"), query.get("refresh", "0")
    if form not in FORMS:
        raise BadRequest("format must be one of " + ", ".join(FORMS))
    if theme not in THEMES:
        raise BadRequest("theme must be one of " + ", ".join(THEMES))
    if refresh != "0" and not (refresh.isascii() and refresh.isdigit() and REFRESH_MIN <= int(refresh) <= REFRESH_MAX):
        raise BadRequest(f"refresh must be a number of seconds from {REFRESH_MIN} to {REFRESH_MAX}, or 0")
    view = query.get("view", topology.SERVICES)
    if view not in topology.VIEWS:
        raise BadRequest("view must be one of " + ", ".join(topology.VIEWS))
    names = {what: query.get(what, "") for what in ("service", "node")}
    for what, name in names.items():
        if name and not valid_name(name):
            raise BadRequest(f"{what} must be a {what}'s name: 1 to 100 letters, digits and ._-")
        if name and form not in (*PAGES, "json"):
            raise BadRequest(f"{what} is for format html or json: the other forms show the whole mesh")
    if all(names.values()):
        raise BadRequest("service or node: a page is about one of them")
    hours = query.get("hours", str(HOURS))
    if not (hours.isascii() and hours.isdigit() and 1 <= int(hours) <= HOURS_MAX):
        raise BadRequest(f"hours must be a number from 1 to {HOURS_MAX}")
    return Wish(form, THEMES[theme], int(refresh), **names, chosen=_filter(query), hours=int(hours), view=view)


def about_of(wish: Wish) -> About:
    """What the nodes are asked for beside how they are: pictures and metrics show none of it."""
    return About(wish.service, wish.node, 0 if wish.service else wish.hours) if wish.format in (*PAGES, "json") else About()


def _filter(query: dict[str, str]) -> Filter:
    wishes = Filter(*(query.get(key, "").strip() for key in Filter._fields))
    if any(len(each) > FIND_CHARACTERS_MAX for each in wishes):
        raise BadRequest(f"{', '.join(Filter._fields)}: at most {FIND_CHARACTERS_MAX} characters each")
    if wishes.state and wishes.state not in STATES:
        raise BadRequest("state must be one of " + ", ".join(STATES))
    return wishes


# --- the forms ----------------------------------------------------------------------------------------------------

Form = tuple[str, bytes]


PAGES = ("html", "part")


def _html(snapshot: Snapshot, wish: Wish, draw_seconds: float) -> Form:
    frame = Frame(wish.refresh, wish.format == "part", wish.watch, wish.hours)
    if wish.service:
        html = page.render_service(snapshot, wish.service, frame)
    elif wish.node:
        html = page.render_node(snapshot, wish.node, frame)
    else:
        html = page.render(snapshot, wish.refresh, draw_seconds, wish.chosen, frame, wish.view)
    return "text/html; charset=utf-8", html.encode()


def _json(snapshot: Snapshot, wish: Wish, draw_seconds: float) -> Form:
    if wish.service:
        value = jsonform.of_service(snapshot, wish.service)
    else:
        value = jsonform.of_node(snapshot, wish.node) if wish.node else jsonform.whole(snapshot)
    return "application/json", json.dumps(value, indent=1).encode() + b"\n"


def _dot(snapshot: Snapshot, wish: Wish, draw_seconds: float) -> Form:
    return "text/vnd.graphviz; charset=utf-8", topology.dot(snapshot, wish.theme, wish.view).encode()


def _png(snapshot: Snapshot, wish: Wish, draw_seconds: float) -> Form:
    return "image/png", topology.png(snapshot, wish.theme, wish.view, draw_seconds)


def _svg(snapshot: Snapshot, wish: Wish, draw_seconds: float) -> Form:
    return "image/svg+xml", topology.render(topology.dot(snapshot, wish.theme, wish.view), "svg", draw_seconds)


def _weight(snapshot: Snapshot, wish: Wish, draw_seconds: float) -> Form:
    from bdserver.audit import bars

    return "image/png", bars.draw(snapshot, wish.theme)


def _prometheus(snapshot: Snapshot, wish: Wish, draw_seconds: float) -> Form:
    from bdserver.audit import metrics

    return "text/plain; version=0.0.4; charset=utf-8", metrics.text(snapshot)


FORMS: dict[str, Callable[[Snapshot, Wish, float], Form]] = {
    "html": _html,
    "part": _html,
    "json": _json,
    "dot": _dot,
    "png": _png,
    "svg": _svg,
    "weight.png": _weight,
    "prometheus": _prometheus,
}
