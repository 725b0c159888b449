#!/usr/bin/env python3
"""Many calls by requests: one connection to the mesh stays open for the look-ups, and one to each host for the calls.

    with_requests.py SERVICE COUNT

Prints how many calls each host took. The answer of a look-up is for one call: load moves between hosts, so the next one may be
another's to take.
"""

from __future__ import annotations

import sys
from collections import Counter

import requests

import bdserver
from bdserver.errors import BDError

TRIES = 3


class MeshSession(requests.Session):
    """As requests' own; `get_service` and `post_service` take a service's name instead of a URL."""

    def __init__(self, mesh: bdserver.Mesh) -> None:
        super().__init__()
        self.mesh = mesh
        self.calls: Counter[str] = Counter()

    def get_service(self, service: str, **keywords) -> requests.Response:
        """GET it at a host that serves it now; where that host has just gone, at the next."""
        for left in range(TRIES - 1, -1, -1):
            location = self.mesh.whereis(service)
            try:
                response = self.get(location.url, **{"timeout": 10, **keywords})
            except requests.ConnectionError:
                if not left:
                    raise
                continue
            self.calls[location.node] += 1
            return response
        raise AssertionError("the last try has raised or returned")

    def post_service(self, service: str, data: bytes, **keywords) -> requests.Response:
        """POST to it, once: whether a call that was broken off has been carried out, only the caller can tell."""
        location = self.mesh.whereis(service)
        self.calls[location.node] += 1
        return self.post(location.url.partition("?")[0], data, **{"timeout": 10, **keywords})


def main() -> int:
    if len(sys.argv) != 3:
        sys.exit("usage: with_requests.py SERVICE COUNT")
    service, count = sys.argv[1], int(sys.argv[2])
    try:
        with bdserver.Mesh() as mesh, MeshSession(mesh) as session:
            for _ in range(count):
                session.get_service(service).raise_for_status()
    except (BDError, requests.RequestException) as error:
        print(f"with_requests.py: {error}", file=sys.stderr)
        return error.exit if isinstance(error, BDError) else 1
    for node, calls in sorted(session.calls.items()):
        print(f"{node}: {calls}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
