"""HTTP for programs: /NAME leads to a host that takes the call, /v1/ tells in JSON, /metrics for Prometheus, / shows the audit.

A WSGI application made of the table ROUTES, from which the OpenAPI document is made too. Nothing is kept by caches (no-store);
who has an answer already may say so (If-None-Match) and is spared it. A browser may be led here by a page from anywhere: it is
answered under names of this host alone (no DNS rebinding), and to other sites' pages only where it goes somewhere.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import threading
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from bdserver.audit import refusals
from bdserver.core import holding, policy, shapes
from bdserver.core.address import split_address
from bdserver.core.fields import TEXT_MAX
from bdserver.core.membership import POLICIES_MAX
from bdserver.core.names import valid_name
from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadFrame, BadPolicy, BadRequest, BDError, TooBusy, TooLarge
from bdserver.gateway import openapi
from bdserver.gateway.follower import Follower
from bdserver.gateway.lookups import Lookups
from bdserver.gateway.openapi import Operation

JSON, TEXT, EVENTS = "application/json", "text/plain; charset=utf-8", "text/event-stream; charset=utf-8"
# In a quiet mesh a watcher, and what lies between it and us, hears so often that the connection lives; and so often we look
# whether it is gone: pages come and go, and each holds a place of watchers_max.
HEARTBEAT_SECONDS, LOOK_SECONDS = 10.0, 1.0
# How soon a browser comes back, in milliseconds.
RETRY_MS = 1000
READING = ("GET", "HEAD")
_EVENT_ID = re.compile(r"([0-9a-f]{1,32})-([0-9]{1,15})", re.ASCII)
# What may stand in a path as it is (RFC 3986).
PATH_SAFE = "/:@!$&'()*+,;=~-._"
QUERY_SAFE = PATH_SAFE + "?%[]"


class Refusal(Exception):
    """An answer of HTTP's own, which is about the request and not about the mesh."""

    def __init__(self, status: str, code: str, words: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(words)
        self.status, self.code, self.headers = status, code, list(headers)


class Request(NamedTuple):
    """What counts of a request. `rest`: what stands in the path behind the route's beginning; `body`: read within the limit."""

    method: str
    path: str
    rest: str
    query_text: str
    body: bytes
    environ: WSGIEnvironment

    @property
    def query(self) -> dict[str, str]:
        """What it asks for, by name."""
        return dict(urllib.parse.parse_qsl(self.query_text, keep_blank_values=True))

    def header(self, name: str) -> str:
        """A header's text, "" without one."""
        return str(self.environ.get("HTTP_" + name.upper().replace("-", "_"), ""))


class Response(NamedTuple):
    """An answer; `stream` instead of a body goes on until it ends. `has_tag`: it is told by its content."""

    kind: str
    body: bytes = b""
    status: str = "200 OK"
    headers: tuple[tuple[str, str], ...] = ()
    stream: Iterator[bytes] | None = None
    has_tag: bool = False


class Route(NamedTuple):
    """A path, or with a / at its end all below it; who answers, to which methods. `answer`: its schema's name in the OpenAPI
    document."""

    path: str
    run: Callable[[Gateway, Request], Response]
    methods: tuple[str, ...]
    answer: str
    summary: str

    @property
    def name(self) -> str:
        """The path, with NAME for what a service's name stands for."""
        return self.path + "NAME" * self.path.endswith("/")


class Gateway:
    """What the answers are made of."""

    def __init__(
        self,
        lookups: Lookups,
        follower: Follower,
        *,
        timed: Callable[[], AbstractContextManager[None]] = nullcontext,
        own_policy: str | None = None,
        hosts: Iterable[str] = (),
        watchers_max: int = 20,
        audit: WSGIApplication | None = None,
        metrics: Callable[[], bytes] = lambda: b"",
        count: Callable[[str, str], None] = lambda kind, outcome: None,
        refused: Callable[[str], None] = lambda limit: None,
        boot: str = "0",
    ) -> None:
        self.lookups, self.follower, self.own_policy = lookups, follower, own_policy
        self.hosts, self.audit, self.metrics, self.count, self.timed = frozenset(hosts), audit, metrics, count, timed
        self.refused = refused
        self.policies = PolicyTexts()
        self.boot = boot  # event numbers of another life of ours mean nothing
        self.stop = threading.Event()
        self.watchers = threading.BoundedSemaphore(watchers_max) if watchers_max else None

    def change(self, own_policy: str | None, hosts: Iterable[str], audit: WSGIApplication) -> None:
        """From now on other settings; what is under way ends with those with which it began."""
        self.own_policy, self.hosts, self.audit = own_policy, frozenset(hosts), audit

    # -- WSGI

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The application."""
        kind = "http"
        try:
            kind, answer = self._answered(environ, start_response)
        except Refusal as refusal:
            answer = _refused(refusal.status, refusal.code, str(refusal), refusal.headers)
        except BDError as error:
            status = next((status for each, status in refusals.STATUS_OF if isinstance(error, each)), "502 Bad Gateway")
            answer = _refused(status, error.code, str(error))
        if not isinstance(answer, Response):
            return answer
        self.count(kind, answer.status[:3])
        return _sent(answer, environ, start_response)

    def _answered(self, environ: WSGIEnvironment, start_response: StartResponse) -> tuple[str, Response | Iterable[bytes]]:
        self._check_origin(environ)
        path, method = str(environ.get("PATH_INFO", "") or "/"), str(environ.get("REQUEST_METHOD", "GET"))
        if path == "/" and self.audit is not None:
            self.count("/", "audit")
            return "/", self.audit(environ, start_response)
        route = _route_of(path)
        if route is None:
            raise Refusal("404 Not Found", "not-found", f"nothing is at {path[:200]!r}: see /v1/openapi.json")
        if method not in route.methods:
            allowed = ", ".join(route.methods)
            raise Refusal("405 Method Not Allowed", "method", f"{path[:200]} takes {allowed}", [("Allow", allowed)])
        query = str(environ.get("QUERY_STRING", ""))
        body = _body(environ) if route.path.startswith("/v1/") else b""
        rest = path[len(route.path) :] if route.path.endswith("/") else ""
        return route.name, route.run(self, Request(method, path, rest, query, body, environ))

    def _check_origin(self, environ: WSGIEnvironment) -> None:
        """A page of another site must not read here, nor make calls by loading pictures or frames."""
        host = str(environ.get("HTTP_HOST", ""))
        if host and not self._is_ours(host):
            words = f"this is no host of that name: {host[:200]!r}; name it in http_hosts, if it is meant"
            raise Refusal("421 Misdirected Request", "forbidden", words)
        is_foreign = environ.get("HTTP_SEC_FETCH_SITE") == "cross-site"
        is_led = environ.get("HTTP_SEC_FETCH_MODE") == "navigate" and environ.get("HTTP_SEC_FETCH_DEST") in (None, "document")
        if is_foreign and not is_led:  # a frame navigates too, without anybody's doing
            raise Refusal("403 Forbidden", "forbidden", "another site's page may lead here, and may not load from here")

    def _is_ours(self, host: str) -> bool:
        try:
            name, _ = split_address(host, 80)
        except BDError:
            return False
        if name == "localhost" or name.endswith(".localhost") or name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    # -- look-ups

    def located(self, request: Request, service: str, policy_text: str | None = None) -> dict[str, Any]:
        """Where a service's next call goes: the shape of `bdwhereis --json`."""
        if not valid_name(service):
            raise BadRequest(f"{service[:200]!r} is no service's name")
        digest = request.query.get("policy")
        if policy_text is None and digest is not None:
            policy_text = self.policies.text(digest)
        with self.timed():
            return self.lookups.whereis(service, self.own_policy if policy_text is None else policy_text)


class PolicyTexts:
    """Policies that clients have shown, by their digests; the ones that were used last."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, document: bytes) -> tuple[str, str]:
        """(digest, text) of a WS-Policy; BadRequest when it is none."""
        try:
            policy.parse(document, "the policy")
            text = policy.text_of(document)
        except (BadPolicy, TooLarge) as error:
            raise BadRequest(str(error)) from None
        digest = policy.digest(text)
        with self._lock:
            self._texts[digest] = text
            self._texts.move_to_end(digest)
            while len(self._texts) > POLICIES_MAX:
                self._texts.popitem(last=False)
        return digest, text

    def text(self, digest: str) -> str:
        """The policy of a digest."""
        with self._lock:
            if digest in self._texts:
                self._texts.move_to_end(digest)
                return self._texts[digest]
        words = f"no policy {digest[:64]!r} is known here: POST it to /v1/policies first, or again"
        raise Refusal("409 Conflict", "policy-unknown", words)


# --- the answers --------------------------------------------------------------------------------------------------


def _json(value: Any, status: str = "200 OK", headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(JSON, json.dumps(value, indent=1).encode() + b"\n", status, headers, has_tag=status == "200 OK")


def redirect(gateway: Gateway, request: Request) -> Response:
    """/NAME and all below it: 307 to the same below the service's URL."""
    service = request.rest.partition("/")[0]
    details = gateway.located(request, service)
    asked = [each for each in request.query_text.split("&") if urllib.parse.unquote(each.partition("=")[0]) != "policy"]
    url = target(details["url"], below(request), "&".join(asked))
    headers = (("Location", url), ("BD-Node", details["node"]))
    return Response(TEXT, f"{url}\n".encode(), "307 Temporary Redirect", headers)


def below(request: Request) -> str:
    """What stands below the service's name, "" or from its slash on, as a URL has it: as it was sent, where the server tells
    that, since %2F and / are not the same to a service, and what WSGI tells is decoded."""
    service, slash, rest = request.rest.partition("/")
    sent = str(request.environ.get("REQUEST_URI", "")).partition("?")[0]
    first, _, sent_below = sent.removeprefix("/").partition("/")
    if slash and urllib.parse.unquote(first) == service and urllib.parse.unquote(sent_below, "latin-1") == rest:
        return "/" + urllib.parse.quote(sent_below.encode("latin-1"), safe=PATH_SAFE + "%")
    return slash + urllib.parse.quote(rest.encode("latin-1"), safe=PATH_SAFE)


def target(url: str, below: str, query: str) -> str:
    """Where a request goes for what is below a service's URL: its own query takes the place of the URL's. BadFrame when the URL
    is none that an HTTP client could follow."""
    is_plain = url.isascii() and url.isprintable() and " " not in url
    parts = urllib.parse.urlsplit(url) if is_plain else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadFrame(f"it is offered at {url[:200]!r}, which no HTTP client can follow: look it up at /v1/whereis")
    if not below and not query:
        return url
    path = parts.path.rstrip("/") if below else parts.path
    path += below
    # WSGI's form of bytes: each is a character. The query comes as it was sent.
    asked = urllib.parse.quote(query.encode("latin-1"), safe=QUERY_SAFE) if query else ("" if below else parts.query)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, asked, ""))


def whereis(gateway: Gateway, request: Request) -> Response:
    """Who takes the next call; a WS-Policy may come with it."""
    if request.method != "POST":
        return _json(gateway.located(request, request.rest))
    digest, text = gateway.policies.keep(request.body)
    return _json(gateway.located(request, request.rest, text) | {"policy": digest})


def keep_policy(gateway: Gateway, request: Request) -> Response:
    """A WS-Policy, for ?policy=DIGEST."""
    digest, _ = gateway.policies.keep(request.body)
    return _json({"digest": digest}, "201 Created", (("Location", f"/v1/whereis/NAME?policy={digest}"),))


def services(gateway: Gateway, request: Request) -> Response:
    """All services and their holders."""
    return _json(holding.services(gateway.lookups.status()))


def nodes(gateway: Gateway, request: Request) -> Response:
    """All nodes that the node knows."""
    return _json(shapes.nodes(gateway.lookups.status().nodes))


def status(gateway: Gateway, request: Request) -> Response:
    """How the node is; its settings, which it tells an administrator, are for no one who asks by HTTP."""
    return _json({key: value for key, value in gateway.lookups.status().own.items() if key != "settings"})


def metrics(gateway: Gateway, request: Request) -> Response:
    """Figures of this gateway and of its node."""
    return Response("text/plain; version=0.0.4; charset=utf-8", gateway.metrics())


def document(gateway: Gateway, request: Request) -> Response:
    """The OpenAPI document."""
    return _json(openapi.document(Operation(each.path, each.methods, each.answer, each.summary) for each in ROUTES))


def watch(gateway: Gateway, request: Request) -> Response:
    """Server-sent events: the nodes as they are, then each change. With Last-Event-ID: what was missed since."""
    if request.method == "HEAD":
        return Response(EVENTS)
    if gateway.watchers is None or not gateway.watchers.acquire(blocking=False):
        gateway.refused("watchers_max")
        raise TooBusy("as many follow the mesh as watchers_max allows")
    is_gone = request.environ.get("waitress.client_disconnected", lambda: False)
    return Response(EVENTS, stream=_events(gateway, request.header("Last-Event-ID"), is_gone))


def _events(gateway: Gateway, last: str, is_gone: Callable[[], bool]) -> Iterator[bytes]:
    assert gateway.watchers is not None
    quiet = 0.0
    try:
        match = _EVENT_ID.fullmatch(last)
        number = int(match[2]) if match and match[1] == gateway.boot else None
        yield f"retry: {RETRY_MS}\n\n".encode()
        while not gateway.stop.is_set() and not is_gone():
            events, number = gateway.follower.since(number, LOOK_SECONDS)
            if events is None:
                known, number = gateway.follower.state()
                yield _event(gateway, number, "state", {"nodes": list(known.values())})
            for event in events or ():
                yield _event(gateway, event.number, "change", event.facts)
            quiet = quiet + LOOK_SECONDS if events == [] else 0.0
            if quiet >= HEARTBEAT_SECONDS:
                yield b": nothing new\n\n"
                quiet = 0.0
    except BDError as error:
        yield _event(gateway, None, "error", {"code": error.code, "message": str(error)})
    finally:
        gateway.watchers.release()


def _event(gateway: Gateway, number: int | None, kind: str, data: dict[str, Any]) -> bytes:
    name = "" if number is None else f"id: {gateway.boot}-{number}\n"
    return f"{name}event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


ROUTES = (
    Route("/v1/whereis/", whereis, (*READING, "POST"), "Whereis", "a host that takes the service's next call"),
    Route("/v1/policies", keep_policy, ("POST",), "Policy", "keep a WS-Policy, for ?policy=DIGEST"),
    Route("/v1/services", services, READING, "Services", "all services, and the nodes that have them"),
    Route("/v1/nodes", nodes, READING, "Nodes", "all nodes that the local node knows"),
    Route("/v1/status", status, READING, "Status", "how the local node is"),
    Route("/v1/watch", watch, READING, "", "the nodes, and each change from now on, as server-sent events"),
    Route("/v1/openapi.json", document, READING, "Document", "this API, in OpenAPI's words"),
    Route("/metrics", metrics, READING, "", "figures for Prometheus"),
    Route(
        "/",
        redirect,
        (*READING, "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
        "",
        "go to a host that takes the service's next call",
    ),
)
RESERVED = frozenset(route.path.split("/")[1] for route in ROUTES if route.path != "/")


def _route_of(path: str) -> Route | None:
    """The route of a path: the first word of the API's is no service's name here."""
    for route in ROUTES:
        is_below = route.path.endswith("/") and path.startswith(route.path) and len(path) > len(route.path)
        if path == route.path.removesuffix("/") or is_below:
            return None if route.path == "/" and path.split("/")[1] in RESERVED else route
    return None


# --- bytes in and out ---------------------------------------------------------------------------------------------


def _body(environ: WSGIEnvironment) -> bytes:
    text = str(environ.get("CONTENT_LENGTH") or "0")
    length = int(text) if text.isascii() and text.isdigit() else 0
    if length > TEXT_MAX:
        raise Refusal("413 Content Too Large", "too-large", f"a policy may have {TEXT_MAX} bytes")
    return environ["wsgi.input"].read(length) if length else b""


def _refused(status: str, code: str, words: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
    more = [("Retry-After", "1")] if status.startswith("503") else []
    return _json({"code": code, "message": words}, status, (*headers, *more))


def _sent(answer: Response, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    headers = [
        *answer.headers,
        ("Content-Type", answer.kind),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if answer.stream is not None:
        start_response(answer.status, headers)
        return answer.stream
    status, body = answer.status, answer.body
    if answer.has_tag:
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers.append(("ETag", tag))
        if _has_already(str(environ.get("HTTP_IF_NONE_MATCH", "")), tag):
            start_response("304 Not Modified", [each for each in headers if each[0] != "Content-Type"])
            return []
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]


def _has_already(tags: str, tag: str) -> bool:
    """Whether If-None-Match names it, weakly or not (RFC 9110)."""
    return tags.strip() == "*" or tag in [each.strip().removeprefix("W/") for each in tags.split(",")]
