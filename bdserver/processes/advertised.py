"""The address by which other nodes know this one: as `advertise` says, else the one that is obvious.

Whatever it is, it must stand in this node's certificate: others dial it, and check."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
from ipaddress import IPv6Address, ip_address

from bdserver.core.address import join_address, split_address, without_zone
from bdserver.errors import BadConfig, NotYet
from bdserver.files.settings import Settings

# Of <linux/sockios.h>: the IPv4 address of an interface, in a struct ifreq of 40 bytes.
SIOCGIFADDR, IFREQ = 0x8915, "16s24x"
# One line for each IPv6 address: itself in hex, number, length of the prefix, scope (00: global), flags, interface.
IPV6_FILE = "/proc/net/if_inet6"
# Addresses of nobody (RFC 5737, RFC 3849: documentation): the kernel says from which of ours a way to them begins, and nothing
# is sent there.
FAR_AWAY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def advertised(settings: Settings, certified: tuple[str, ...]) -> str:
    """HOST:PORT, one of the hosts that the certificate is for; else BadConfig (or NotYet) lists the candidates."""
    if settings.advertise:
        host, port = split_address(settings.advertise, settings.port)
        if host not in certified:
            raise BadConfig(
                f"{settings.path}: advertise={settings.advertise}, but the certificate is for {', '.join(certified)}: "
                f"issue one with --host {host}, or advertise one of those"
            )
        return join_address(host, port)
    bound = [host for host in settings.bind if host in certified]
    here = local_addresses()
    local = [host for host in here if host in certified]
    for candidates in (list(certified), bound, local):
        if len(candidates) == 1:
            return join_address(*split_address(candidates[0], settings.port))  # as others will compare it
    raise (BadConfig if here else NotYet)(  # at boot, the route by which it is found may come late
        f"{settings.path}: set advertise= to the address by which the others reach this node: "
        f"{', '.join(certified) or 'the certificate names none'}"
    )


def local_addresses() -> list[str]:
    """The addresses that this host would speak from."""
    found = []
    for family, far_away in FAR_AWAY:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((far_away, 9))
            found.append(sock.getsockname()[0])
    return found


def is_elsewhere(host: str) -> bool:
    """Whether this is an address, and none of this host's: one that is translated on the way here, or was this host's once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((str(ip_address(without_zone(host))), 0))
    except ValueError:  # a name
        return False
    except OSError as error:
        return error.errno == errno.EADDRNOTAVAIL
    return False


def interface_addresses() -> list[str]:
    """The addresses of this host's interfaces by which others may reach it, whether it has a route to anywhere or not. Of an
    interface with several IPv4 addresses the first."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has none
                answer = fcntl.ioctl(sock, SIOCGIFADDR, struct.pack(IFREQ, name.encode()))
                found.append(socket.inet_ntoa(answer[20:24]))
    with contextlib.suppress(OSError), open(IPV6_FILE, encoding="ascii") as file:
        rows = [line.split() for line in file]
        found += [str(IPv6Address(bytes.fromhex(row[0]))) for row in rows if row[3] == "00"]
    return [each for each in found if not ip_address(each).is_loopback]
