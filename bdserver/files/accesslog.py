"""The web server's own access log as a source of hits (`access_log`): weight is what clients really did.

The original counts a hit when a node agrees to a call, which misses clients that keep a URL. With `access_log` set, each
request for a service that the server logs is a hit, and agreeing is none. Read from the end on, line by line as they come;
a rotated or truncated log is followed. Which requests are hits: those below the URL of a service here, not answered 3xx or
4xx (they reached no service), not by BDserver's own health checks. A path counts in the normal form in which web servers
look it up: `//x/./y/../Echo;jsessionid=1` is `/x/Echo`.
"""

from __future__ import annotations

import calendar
import logging
import os
import re
import urllib.parse
from collections.abc import Iterator
from typing import BinaryIO

from bdserver.core.tuples import NamedTuple
from bdserver.errors import BadConfig
from bdserver.files import durable

# Read at once: 40,000 requests. The rest is read at the next call.
READ_BYTES_MAX = 4 << 20
# More than this behind, we would only count the past: go on at the end.
BEHIND_BYTES_MAX = 64 << 20
LINE_BYTES_MAX = 16 << 10
AGENT = "bdserverd"
NAMED_FORMATS = {
    "common": '%h %l %u %t "%r" %>s %b',
    "combined": '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
}
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"

log = logging.getLogger("bdserver.accesslog")

_DIRECTIVE = re.compile(r"%(?:[<>!,0-9]*)(?:\{([^}]*)\})?([A-Za-z%]|\^[A-Za-z]{2})")
# A proxy is asked for whole URLs, and any server takes them (RFC 9112, absolute-form).
_SITE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_TIME = re.compile(r"(\d{1,2})/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)", re.ASCII)


class Request(NamedTuple):
    """A line: who asked for what, when, how it was answered, by which program (each "" where the log does not say)."""

    client: str
    path: str
    at: float
    status: str
    agent: str


class AccessLog:
    """The log at a path, as it grows."""

    def __init__(self, path: str, form: str):
        self.path = path
        self._pattern = pattern(form)
        self.complaint = ""
        self._file: BinaryIO | None = None
        self._rest = b""

    def hits(self, services: dict[str, str], now: float) -> Iterator[tuple[str, str, float]]:
        """(service, client, when) of the requests since the last call; `services`: path of a URL -> service."""
        for line in self._lines():
            request = parsed(self._pattern, line, now)
            if request is None or request.status[:1] in ("3", "4") or request.agent == AGENT:
                continue
            service = service_at(services, request.path)
            if service is not None:
                yield service, request.client, request.at

    def _lines(self) -> Iterator[str]:
        """Whole lines that are new; of a rotated log the rest first."""
        if self._file is None:
            self._file = self._opened(os.SEEK_END)
        left = READ_BYTES_MAX
        while self._file is not None and left > 0:
            self._follow_truncation(self._file)
            data = self._file.read(left)
            if data:
                left -= len(data)
                *lines, self._rest = (self._rest + data).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines if len(line) <= LINE_BYTES_MAX)
                self._rest = self._rest[-LINE_BYTES_MAX - 1 :]
                continue
            fresh = self._opened(os.SEEK_SET)
            if fresh is None or os.path.sameopenfile(fresh.fileno(), self._file.fileno()):
                if fresh is not None:
                    fresh.close()
                return
            self._file.close()
            self._file, self._rest = fresh, b""

    def _opened(self, whence: int) -> BinaryIO | None:
        try:
            file = open(durable.open_regular(self.path), "rb")  # noqa: SIM115 (kept open)
        except OSError as error:
            self.complaint = f"access_log={self.path}: {error.strerror}: no hit is counted"
            return None
        self.complaint = ""
        file.seek(0, whence)
        return file

    def _follow_truncation(self, file: BinaryIO) -> None:
        size, position = os.fstat(file.fileno()).st_size, file.tell()
        if size < position:
            file.seek(0)
            self._rest = b""
        elif size - position > BEHIND_BYTES_MAX:
            log.warning("%s: %d MB behind: going on at its end", self.path, (size - position) >> 20)
            file.seek(size)
            self._rest = b""


def service_at(services: dict[str, str], path: str) -> str | None:
    """The service whose URL's path is this one, or begins it; of one at the root, the root alone counts."""
    path = normal(path)
    while path:
        if path in services:
            return services[path]
        path = path.rpartition("/")[0]
    return None


def normal(target: str) -> str:
    """The path in what a request asks for, as Apache, lighttpd and Tomcat look it up: without site, query and what a segment
    has behind a `;`, unquoted, without empty segments and dots, and without a / at its end."""
    path = target[match.end() :] if (match := _SITE.match(target)) else target
    segments: list[str] = []
    for raw in path.partition("?")[0].partition("#")[0].split("/"):
        for segment in urllib.parse.unquote(raw.partition(";")[0]).split("/"):
            if segment == "..":
                del segments[-1:]
            elif segment not in ("", "."):
                segments.append(segment)
    return "/" + "/".join(segments)


def pattern(form: str) -> re.Pattern[str]:
    """What a line looks like, from Apache's LogFormat (mod_log_config) or the name of one; BadConfig when it can't serve."""
    form = NAMED_FORMATS.get(form, form)
    parts, groups, end = [], set(), 0
    for match in _DIRECTIVE.finditer(form):
        literal = form[end : match.start()]
        parts.append(re.escape(literal))
        text, name = _part(match[1], match[2], is_quoted=literal.endswith('"'))
        if name in groups:  # a directive that stands twice is believed at its first place
            text = re.sub(r"\?P<\w+>", "?:", text)
        elif name:
            groups.add(name)
        parts.append(text)
        end = match.end()
    parts.append(re.escape(form[end:]))
    if "path" not in groups:
        raise BadConfig("access_log_format needs %r or %U: else nobody can tell which service was called")
    return re.compile("".join(parts) + r"\s*")


def _part(argument: str | None, letter: str, is_quoted: bool) -> tuple[str, str]:
    """A directive's regular expression, and what it tells."""
    if letter == "%":
        return "%", ""
    if letter in "ha" and argument is None:
        return r"(?P<client>\S+)", "client"
    if letter == "t" and argument is None:
        return r"\[(?P<time>[^\]]+)\]", "time"
    if letter == "t" and argument in ("sec", "%s"):
        return r"(?P<time>\d+)", "time"
    if letter == "r":
        return r"\S+ (?P<path>[^\s\"]+)(?: [^\s\"]+)?", "path"
    if letter == "U":
        return r"(?P<path>\S+)", "path"
    if letter == "s":
        return r"(?P<status>\d{3}|-)", "status"
    if letter == "i" and (argument or "").lower() == "user-agent":
        return r"(?P<agent>(?:[^\"\\]|\\.)*)" if is_quoted else r"(?P<agent>\S*)", "agent"
    return (r"(?:[^\"\\]|\\.)*", "") if is_quoted else (r"(?:\[[^\]]*\]|\S*)", "")


def parsed(form: re.Pattern[str], line: str, now: float) -> Request | None:
    """A line's request; None for a line of another form. What lies in the future is now."""
    match = form.fullmatch(line)
    if match is None:
        return None
    fields = match.groupdict()
    at = _instant(fields.get("time"))
    return Request(
        fields.get("client") or "-",
        fields["path"],
        now if at is None else min(at, now),
        fields.get("status") or "",
        fields.get("agent") or "",
    )


def _instant(text: str | None) -> float | None:
    """`10/Oct/2026:13:55:36 -0700`, in English whatever the locale, or seconds since the epoch."""
    if text and text.isascii() and text.isdigit():
        return float(text)
    match = _TIME.fullmatch(text or "")
    if match is None or match[2] not in MONTHS.split():
        return None
    day, month, year, hour, minute, second, sign, hours, minutes = match.groups()
    offset = (int(hours) * 3600 + int(minutes) * 60) * (1 if sign == "+" else -1)
    try:
        utc = calendar.timegm((int(year), 1 + MONTHS.split().index(month), int(day), int(hour), int(minute), int(second)))
    except ValueError:  # the year 0
        return None
    return float(utc - offset)


def paths_of(urls: dict[str, str]) -> dict[str, str]:
    """service -> URL becomes path -> service. What is no URL has no path that anybody could ask for here."""
    return {normal(url): service for service, url in urls.items() if _has_site(url)}


def _has_site(url: str) -> bool:
    try:
        return bool(urllib.parse.urlsplit(url).netloc)
    except ValueError:  # as http://[x/
        return False
