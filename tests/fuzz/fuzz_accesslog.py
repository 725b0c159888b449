"""No matter what a stranger makes the web server write into its log, a line is either no request, or one that was made at a time
that has been, for a path that is a service's or nobody's; no error is raised.

    python -m tests.fuzz.fuzz_accesslog

The first byte of the input chooses the log's format, which is the operator's and not the stranger's.
"""

from __future__ import annotations

import sys

from bdserver.files.accesslog import NAMED_FORMATS, parsed, pattern, service_at
from tests.fuzz.running import fuzz

NOW = 1_790_000_000.0
SERVICES = {"/axis/Primes": "Primes", "/axis/Calculator.jws": "Calculator.jws"}
FORMATS = [pattern(form) for form in (*NAMED_FORMATS, "%{sec}t %a %U %s", '%h "%r" "%{User-Agent}i" %D')]
SEEDS = (
    b'\x0010.0.0.9 - - [10/Oct/2026:13:55:36 -0700] "POST /axis/Primes?x=1 HTTP/1.1" 200 512',
    b'\x01::1 - - [01/Jan/2026:00:00:00 +0000] "GET /axis/Calculator.jws/%61 HTTP/1.1" 500 - "-" "curl/8 (\\"x\\")"',
    b"\x021789999999 10.0.0.9 /axis/Primes 200",
    b'\x0310.0.0.9 "GET /axis/Primes" "a" 17',
)
TOKENS = (
    b'"',
    b'\\"',
    b"\\",
    b"[",
    b"]",
    b" ",
    b"%",
    b"%2f",
    b"%ff",
    b"?",
    b"-",
    b"0",
    b"9" * 400,
    b"99",
    b"0000",
    b"Feb",
    b"\xff",
    b"\xd9\xa3",
    b"\0",
)


def one(data: bytes) -> bool:
    """Whether it was a request for a service."""
    form = FORMATS[data[0] % len(FORMATS)] if data else FORMATS[0]
    request = parsed(form, data[1:].decode(errors="replace"), NOW)
    if request is None:
        return False
    assert request.at <= NOW and request.path and request.client
    service = service_at(SERVICES, request.path)
    assert service is None or service in SERVICES.values()
    return service is not None


if __name__ == "__main__":
    sys.exit(fuzz(one, SEEDS))
