"""whereis as a WSGI application: /SERVICE is answered with a redirection to a host that serves it now.

So any HTTP client uses the mesh by one URL: 302 (307 for what is no GET), 404 nobody has it, 403 policy or role, 503 no node
answers, 504 not in time; reasons as plain text. It leads only to hosts of the mesh, and to those that audit.conf names.
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from bdserver.audit.config import AuditConfig, entrances_of
from bdserver.audit.refusals import refuse
from bdserver.core import pages
from bdserver.core.address import split_address
from bdserver.core.membership import ALIVE, SUSPECT
from bdserver.core.names import valid_name
from bdserver.errors import BadRequest, BDError, Forbidden
from bdserver.files import policyfile
from bdserver.net.conversation import Conversation
from bdserver.net.entrances import in_turn, located


def application(config: AuditConfig) -> WSGIApplication:
    """A WSGI application."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            url = locate(config, service_of(environ))
        except BDError as error:
            return refuse(start_response, error)
        is_reading = environ.get("REQUEST_METHOD", "GET") in ("GET", "HEAD")
        body = f"{url}\n".encode()
        headers = [
            ("Location", url),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        start_response("302 Found" if is_reading else "307 Temporary Redirect", headers)
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    return app


def service_of(environ: WSGIEnvironment) -> str:
    """The service in the path; BadRequest when there is none, or more."""
    name = str(environ.get("PATH_INFO", "")).strip("/")
    if not valid_name(name):
        raise BadRequest("put the service's name behind this address, as in whereis.cgi/Primes")
    return name


def locate(config: AuditConfig, service: str) -> str:
    """The URL at which a node serves it now. Raises as bdwhereis exits."""
    text = policyfile.read(config.whereis_policy).text
    entrances, _ = entrances_of(config, text)

    def ask(talk: Conversation, deadline: float) -> str:
        details = located(service, talk.ask(["WHEREIS", service, text], deadline))
        return _checked(config, talk, details, deadline)

    return in_turn(entrances, time.monotonic() + config.whereis_seconds, ask)


def _checked(config: AuditConfig, talk: Conversation, details: dict[str, Any], deadline: float) -> str:
    """The URL, if it leads to where it may; Forbidden names it. A node could offer any URL as its service's."""
    url = str(details["url"])
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https") or not (url.isascii() and url.isprintable()) or " " in url:
        raise Forbidden(f"{details['node']} names no URL that could be followed: {url[:200]!r}")
    if host not in config.whereis_hosts and host not in _hosts(talk, deadline):
        raise Forbidden(f"{url} is on no host of the mesh: name {host} in whereis_hosts, if it is meant")
    return url


def _hosts(talk: Conversation, deadline: float) -> set[str]:
    """The hosts of all nodes that are known to live."""
    said = pages.status_of(talk, deadline, {"brief": True})
    addresses = [said.own["address"]]
    for row in said.nodes:
        address, status = (row["address"], row["status"]) if isinstance(row, dict) else (row[1], row[2])
        if status in (ALIVE, SUSPECT):
            addresses.append(address)
    return {split_address(address)[0] for address in addresses}
