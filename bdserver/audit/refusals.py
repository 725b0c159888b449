"""Errors as HTTP answers: a status that fits, and one line of plain text for a person."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse

from bdserver.errors import (
    BadConfig,
    BadRequest,
    BDError,
    CantFind,
    Deadline,
    Forbidden,
    NobodyThere,
    NotDrawn,
    PolicyMismatch,
    TooBusy,
)

STATUS_OF: list[tuple[type[BDError], str]] = [
    (BadRequest, "400 Bad Request"),
    (PolicyMismatch, "403 Forbidden"),
    (Forbidden, "403 Forbidden"),
    (CantFind, "404 Not Found"),
    (BadConfig, "500 Internal Server Error"),
    (NotDrawn, "501 Not Implemented"),
    (NobodyThere, "503 Service Unavailable"),
    (TooBusy, "503 Service Unavailable"),
    (Deadline, "504 Gateway Timeout"),
]


def refuse(start_response: StartResponse, error: BDError, more: Iterable[tuple[str, str]] = ()) -> Iterable[bytes]:
    """An error as plain text; `more` headers: a page that refreshes itself is to come back by itself."""
    status = next((status for kind, status in STATUS_OF if isinstance(error, kind)), "502 Bad Gateway")
    body = f"{error}\n".encode(errors="replace")
    headers = [
        *more,
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response(status, headers)
    return [body]
