"""The audit page as a WSGI application: every node that it is told of, asked with STATUS side by side.

For now a plain list: nodes, weights, services, and who does not answer. What comes from the mesh is escaped by the template
engine, whatever names it has. Drawing graphs and crawling outward come later.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable

import jinja2

from bdserver import client
from bdserver.errors import BDError

# All nodes together: a page that takes longer is reloaded anyway.
CRAWL_SECONDS = 2.0

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("bdserver.audit"), autoescape=True, undefined=jinja2.StrictUndefined
)


def application(sockets: Callable[[], dict[str, str]]):
    """A WSGI application. `sockets()`: name -> local socket of each node to ask."""

    def app(environ, start_response):
        if environ.get("PATH_INFO", "/") not in ("", "/"):
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"nothing here but /\n"]
        body = page(crawl(sockets())).encode()
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
        ]
        start_response("200 OK", headers)
        return [body]

    return app


def crawl(sockets: dict[str, str]) -> dict[str, dict | None]:
    """name -> the node's status and nodes, or None when it does not answer in time."""
    deadline = time.monotonic() + CRAWL_SECONDS
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda path: _ask(path, deadline), sockets.values())
        return dict(zip(sockets, found, strict=True))


def _ask(path: str, deadline: float) -> dict | None:
    try:
        with client.dial_local(path, deadline) as talk:
            _, status, nodes = talk.ask(["STATUS"], deadline)
            return {"status": status, "nodes": nodes}
    except BDError:
        return None


def page(found: dict[str, dict | None]) -> str:
    """The page's HTML."""
    statuses = [each["status"] for each in found.values() if each]
    replicas = [service for status in statuses for service in status["services"].values()]
    return _templates.get_template("list.html").render(
        found=found,
        taken_at=time.strftime("%Y-%m-%d %H:%M:%S"),
        weight=sum(status["weight"] for status in statuses),
        services=len({name for status in statuses for name in status["services"]}),
        static=sum(each["type"] == "static" for each in replicas),
        dynamic=sum(each["type"] == "dynamic" for each in replicas),
    )
