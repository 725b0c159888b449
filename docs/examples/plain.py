#!/usr/bin/env python3
"""Fetch a service of the mesh with Python's own library: one look-up for each call, and another one when the host is gone.

    plain.py SERVICE

Asks the node of this host; $BDSERVER_CONFIG says where its config is, if that is not /etc/bdserver/bdserverd.conf.
"""

from __future__ import annotations

import sys
import urllib.request

import bdserver
from bdserver.errors import BDError

TRIES = 3


def fetch(service: str) -> bytes:
    """What a host that serves it now answers. A host may end between its word and our call: then the mesh is asked again."""
    for left in range(TRIES - 1, -1, -1):
        url = bdserver.whereis(service, timeout=5).url
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read()
        except OSError:
            if not left:
                raise
    raise AssertionError("the last try has raised or returned")


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit("usage: plain.py SERVICE")
    try:
        sys.stdout.buffer.write(fetch(sys.argv[1]))
    except (BDError, OSError) as error:
        print(f"plain.py: {error}", file=sys.stderr)
        return error.exit if isinstance(error, BDError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
