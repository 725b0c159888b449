"""A mesh of real daemons, each on a host of its own; nothing of either is left afterwards."""

import ipaddress

import pytest

from tests.hosts import Host, Mesh, until
from tests.netns.network import Network, why_not

PORT = 9001
# Failures are found in seconds, and the original's rounds take their part.
FAST = {"probe_interval": 0.2, "round_min": 1, "round_max": 2}


class Lan(Mesh):
    """A mesh whose hosts n1, n2 … have the first addresses of `subnet`, in its order, and port 9001."""

    def __init__(self, folder: str, network: Network):
        super().__init__(folder, "lan")
        self.network = network
        self.subnet = ipaddress.ip_network("10.77.0.0/24")

    def host(self, name: str, within: list[str] | None = None, **config) -> Host:
        """Cabled to the switch, not yet started; `within`: words before each of its commands, on that host."""
        address = str(self.subnet[len(self.network.addresses) + 1])
        self.network.add(name, address)
        return super().host(name, ip=address, port=PORT, within=[*self.network.within(name), *(within or [])], **FAST | config)


@pytest.fixture(scope="session")
def has_network():
    """Skips where network namespaces can't be made."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def lan(has_network, tmp_path):
    """A switch, and a mesh without hosts: the test adds them."""
    with Network() as network, Lan(str(tmp_path), network) as mesh:
        yield mesh
        mesh.stop()
        until(lambda: not any(map(network.pids, network.addresses)), 10, "no process is left on any host")
