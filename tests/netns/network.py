"""Hosts of their own on this one machine: network namespaces, cabled to a switch that is one too.

The switch has two bridges. A host hangs on the left one; plugged into the right one it reaches only those that are there
as well, which is how a mesh is cut into halves. Nothing here touches the machine's own network.
"""

import ctypes
import os
import shutil
import subprocess

LEFT, RIGHT = "left", "right"
CLONE_NEWNET = 0x40000000  # of <sched.h>


def why_not() -> str:
    """What this machine lacks for network namespaces; "" when it has everything."""
    if shutil.which("ip") is None:
        return "no network namespaces: iproute2 is not installed"
    if os.geteuid() != 0:
        return "no network namespaces: only root can make them"
    name = f"bdserver-{os.getpid()}-try"
    for arguments in (("netns", "add", name), ("-n", name, "link", "add", "try", "type", "bridge"), ("netns", "del", name)):
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            return f"no network namespaces: ip {' '.join(arguments)}: {done.stderr.strip()}"
    return ""


def ip(*arguments: str) -> str:
    """Run ip(8); AssertionError with its complaint if it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


class Network:
    """The switch and what is plugged into it."""

    def __init__(self):
        self._prefix = f"bdserver-{os.getpid()}-"
        self.switch = self.namespace("switch")
        self.addresses: dict[str, str] = {}  # by host

    def __enter__(self):
        try:
            ip("netns", "add", self.switch)
            for bridge in (LEFT, RIGHT):
                ip("-n", self.switch, "link", "add", bridge, "up", "type", "bridge")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        for host in [*self.addresses, "switch"]:
            subprocess.run(["ip", "netns", "del", self.namespace(host)], capture_output=True, check=False)

    def namespace(self, host: str) -> str:
        """Its name for ip(8)."""
        return self._prefix + host

    def within(self, host: str) -> list[str]:
        """The words that run a command on that host."""
        return ["ip", "netns", "exec", self.namespace(host)]

    def enter(self, host: str) -> None:
        """This process is on that host from now on: for one that was forked to be."""
        with open(f"/run/netns/{self.namespace(host)}") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def on(self, host: str, *arguments: str) -> str:
        """Run ip(8) on that host."""
        return ip("-n", self.namespace(host), *arguments)

    def add(self, host: str, address: str) -> None:
        """A host with this address, plugged into the left bridge."""
        ip("netns", "add", self.namespace(host))
        self.addresses[host] = address
        ip("-n", self.switch, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", self.namespace(host))
        self.plug(host, LEFT)
        self.reconnect(host)
        self.on(host, "link", "set", "lo", "up")
        self.on(host, "link", "set", "eth0", "up")
        self.set_address(host, address)

    def set_address(self, host: str, address: str) -> None:
        """This address instead of those before."""
        self.addresses[host] = address
        self.on(host, "address", "flush", "dev", "eth0", "scope", "global")
        length = ["/64", "nodad"] if ":" in address else ["/24"]
        self.on(host, "address", "add", address + length[0], "dev", "eth0", *length[1:])

    def pids(self, host: str) -> list[int]:
        """The processes on that host."""
        return [int(pid) for pid in ip("netns", "pids", self.namespace(host)).split()]

    # -- trouble, and its end

    def plug(self, host: str, bridge: str) -> None:
        """Into the left bridge or the right one."""
        ip("-n", self.switch, "link", "set", host, "master", bridge)

    def cut(self, host: str) -> None:
        """Nobody hears of it any more, and nobody is told why."""
        ip("-n", self.switch, "link", "set", host, "down")

    def reconnect(self, host: str) -> None:
        """Its cable works."""
        ip("-n", self.switch, "link", "set", host, "up")

    def filter(self, host: str, port: int, source: str = "") -> None:
        """A firewall on `host`: what comes to this TCP port is dropped without a word, from `source` or from everybody. What the
        host itself begins is let through, and the answers to it."""
        if " lookup local" in self.on(host, "rule", "show", "pref", "0"):
            self.on(host, "rule", "add", "pref", "10", "lookup", "local")
            self.on(host, "rule", "del", "pref", "0")
        come = ["from", self.addresses[source]] if source else []
        self.on(host, "rule", "add", "pref", "5", *come, "iif", "eth0", "ipproto", "tcp", "dport", str(port), "blackhole")

    def narrow(self, host: str, mtu: int) -> None:
        """What is sent to that host in packets larger than this is lost on the way, and nobody is told: a bridge's port. Between
        namespaces packets travel in bundles, which have no size: here they do not."""
        for each in self.addresses:
            self.on(each, "link", "set", "eth0", "gso_max_segs", "1")
        ip("-n", self.switch, "link", "set", host, "mtu", str(mtu))

    def deafen(self, host: str, to: str) -> None:
        """From now on `host` hears nothing of what `to` sends, while `to` still hears `host`.

        `to` sends its frames for `host` to a station that is not there: lost on the way, without a word."""
        nowhere = ["lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent"]
        self.on(to, "neighbour", "replace", self.addresses[host], *nowhere)
