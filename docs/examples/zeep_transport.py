#!/usr/bin/env python3
"""SOAP by zeep, and each call goes to a host that serves it now.

    zeep_transport.py NUMBER

A zeep client reads the WSDL once and keeps the address in it for ever: a host that was overloaded or ended since is called
all the same. This transport asks the mesh before each call, and takes only the address's place.
"""

from __future__ import annotations

import sys

import requests
import zeep
from zeep.transports import Transport

import bdserver
from bdserver.errors import BDError


class MeshTransport(Transport):
    """Sends each call of `service` where the mesh says."""

    def __init__(self, mesh: bdserver.Mesh, service: str, **keywords) -> None:
        super().__init__(**keywords)
        self.mesh, self.service = mesh, service

    def post(self, address, message, headers):
        """The call; `address`, the WSDL's, is what the mesh knows better."""
        return super().post(self.mesh.whereis(self.service).url.partition("?")[0], message, headers)


def client(mesh: bdserver.Mesh, service: str) -> zeep.Client:
    """A zeep client of a service; its description is read from the host that serves the first call."""
    return zeep.Client(mesh.whereis(service).url, transport=MeshTransport(mesh, service, timeout=10, operation_timeout=10))


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit("usage: zeep_transport.py NUMBER")
    try:
        with bdserver.Mesh() as mesh:
            found = client(mesh, "Primes").service.Factors(number=int(sys.argv[1]))
    except (BDError, requests.RequestException, zeep.exceptions.Error) as error:
        print(f"zeep_transport.py: {error}", file=sys.stderr)
        return error.exit if isinstance(error, BDError) else 1
    print(f"{found.factors}, by {found.host}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
