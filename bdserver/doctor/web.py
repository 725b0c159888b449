"""Does the web server serve the services of this host where their URLs lead, and keep their .bdcert to itself?

HEAD, not GET: a service that is a program may do something when it is called, and a look must not.
"""

from __future__ import annotations

import http.client
import os
import pwd
import shlex
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from bdserver.core import membership
from bdserver.core.attention import Finding, Severity, few
from bdserver.core.membership import Record
from bdserver.core.tuples import NamedTuple
from bdserver.doctor.host import Host
from bdserver.files.bdcert import SUFFIX, Service
from bdserver.files.settings import EMBEDDED, Settings

# Of many services, so many tell as much as all; and a service that is a script takes a second to start where many others do.
SERVICES_MAX, ANSWER_SECONDS, AT_ONCE = 8, 2.0, 8
GRAVE, WARNING = Severity.GRAVE, Severity.WARNING


class _Seen(NamedTuple):
    """The status of a service's URL, and of its .bdcert's; 0, and why, when there was no answer."""

    url: str
    status: int
    why: str
    cert_status: int


def web_server(host: Host) -> Iterator[Finding]:
    """Services that lie here are served at axis_port and axis_web_dir, or where service_url says."""
    here = {name: each for name, each in host.services.items() if each.path is not None and not each.url}
    urls = {name: url_of(host, each) for name, each in sorted(here.items())[:SERVICES_MAX]}
    if not urls:
        return
    if host.given.web == EMBEDDED and not host.is_running:  # which is to serve them
        yield from _closed(host.given)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = dict(zip(urls, pool.map(_look, urls.values()), strict=True))
    yield from _judged(host, seen)


def _closed(settings: Settings) -> Iterator[Finding]:
    """Folders above the services that web_user, under whom ours serves them, may not pass."""
    try:
        user = pwd.getpwnam(settings.web_user)
    except KeyError:  # the check of the ports says so
        return
    groups, folder = os.getgrouplist(user.pw_name, user.pw_gid), os.path.realpath(settings.services_dir)
    closed: list[str] = []
    while os.geteuid() == 0 and folder != os.path.dirname(folder):
        if os.path.isdir(folder) and not _may_pass(os.stat(folder), user.pw_uid, groups):
            closed.insert(0, folder)
        folder = os.path.dirname(folder)
    if closed:
        words = f"no service can be served by web=embedded: user {user.pw_name} (web_user) may not pass {few(closed)}"
        yield Finding(GRAVE, "web-closed", words, f"chmod o+x {shlex.join(closed)}, or another services_dir")


def _may_pass(folder: os.stat_result, user: int, groups: list[int]) -> bool:
    if folder.st_uid == user:
        return bool(folder.st_mode & stat.S_IXUSR)
    return bool(folder.st_mode & (stat.S_IXGRP if folder.st_gid in groups else stat.S_IXOTH))


def url_of(host: Host, service: Service) -> str:
    """As this node tells it the mesh."""
    settings, address = host.given, host.address or f"127.0.0.1:{host.given.port}"
    own = Record(host.name, address, (0, 0))._replace(
        web_port=settings.axis_port, web_dir=settings.axis_web_dir, service_url=settings.service_url
    )
    return membership.service_url(own, service.name, service.url)


def _judged(host: Host, seen: dict[str, _Seen]) -> Iterator[Finding]:
    settings, first = host.given, next(iter(seen.values()))
    if all(each.status == 0 for each in seen.values()):
        words = f"nothing answers at {first.url} ({first.why}), where the services of this host are said to be"
        remedy = "start the web server, or set axis_port; or web=embedded"
        if settings.web == EMBEDDED:
            remedy = "web=embedded is to serve them: see the daemon's log, and start it anew"
        yield Finding(GRAVE, "web-server", words, remedy)
        return
    missing = [each.url for each in seen.values() if each.status == 404]
    closed = list(_closed(settings)) if missing and settings.web == EMBEDDED else []
    yield from closed
    if missing and not closed and len(missing) < len(seen):
        words = f"nothing is at {few(missing)} (404), while other services are served"
        yield Finding(WARNING, "web-404", words, "of a folder, its index.cgi or index.html is served: has it one?")
    elif missing and not closed:
        words = f"the web server does not serve {settings.services_dir} at {few(missing)} (404)"
        remedy = "let it serve that folder there, or set axis_web_dir"
        yield Finding(GRAVE, "web-404", words, remedy)
    failing = [f"{each.url} ({each.status or each.why})" for each in seen.values() if _is_failing(each.status)]
    if failing:
        yield Finding(WARNING, "web-fails", f"services fail: {few(failing)}", "see the web server's error log")
    given = [name + SUFFIX for name, each in seen.items() if each.cert_status == 200]
    if given:
        words = f"the web server gives out {few(given)}"
        yield Finding(WARNING, "bdcert-served", words, "deny *.bdcert there (bdserver-services-apache2.conf does)")


def _is_failing(status: int) -> bool:
    return status in (0, 401, 403, 500, 502, 503, 504)


def _look(url: str) -> _Seen:
    status, why = _head(url)
    parts = urlsplit(url)
    cert_status = 0
    if status:
        path = os.path.join(os.path.dirname(parts.path), os.path.basename(parts.path) + SUFFIX)
        cert_status, _ = _head(parts._replace(path=path, query="").geturl())
    return _Seen(url, status, why, cert_status)


def _head(url: str) -> tuple[int, str]:
    """(status, ""), or (0, why there is none)."""
    began = time.monotonic()
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return 405, ""  # nothing that we could try
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("HEAD", f"{parts.path}?{parts.query}" if parts.query else parts.path)
            return connection.getresponse().status, ""
        finally:
            connection.close()
    except TimeoutError:
        return 0, f"no answer in {time.monotonic() - began:.1f} s"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, getattr(error, "strerror", None) or str(error) or type(error).__name__
