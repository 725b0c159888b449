"""The address by which others know a node: as told, or the obvious one, and always one that its certificate is for."""

import socket

import pytest

from bdserver.errors import BadConfig, NotYet
from bdserver.files.settings import Settings
from bdserver.processes import advertised as module
from bdserver.processes.advertised import advertised


def settings(**given):
    return Settings("/etc/bd/conf", given)


@pytest.mark.parametrize(
    ("given", "certified", "address"),
    [
        ({"advertise": "a.example"}, ("a.example", "b.example"), "a.example:9001"),
        ({"advertise": "a.example:9"}, ("a.example",), "a.example:9"),
        ({"advertise": "[2001:db8::7]:9"}, ("2001:db8::7",), "[2001:db8::7]:9"),
        ({"port": 7}, ("a.example",), "a.example:7"),
        ({}, ("A.Example",), "a.example:9001"),
        ({}, ("2001:db8::7",), "[2001:db8::7]:9001"),
        ({"bind": ("192.0.2.1", "127.0.0.1")}, ("192.0.2.1", "a.example"), "192.0.2.1:9001"),
        ({"bind": ("192.0.2.9",)}, ("192.0.2.1", "10.0.0.5"), "10.0.0.5:9001"),
        ({}, ("192.0.2.1", "10.0.0.5"), "10.0.0.5:9001"),
    ],
)
def test_the_obvious_address_is_taken(monkeypatch, given, certified, address):
    monkeypatch.setattr(module, "local_addresses", lambda: ["10.0.0.5"])
    assert advertised(settings(**given), certified) == address


@pytest.mark.parametrize(
    ("given", "certified", "words"),
    [
        (
            {"advertise": "c.example"},
            ("a.example", "b.example"),
            "the certificate is for a.example, b.example: issue one with --host c.example",
        ),
        ({}, ("a.example", "b.example"), "set advertise= .*: a.example, b.example"),
        ({"bind": ("192.0.2.1", "192.0.2.2")}, ("192.0.2.1", "192.0.2.2"), "set advertise="),
        ({}, (), "the certificate names none"),
    ],
)
def test_where_none_is_obvious_the_candidates_are_listed(monkeypatch, given, certified, words):
    monkeypatch.setattr(module, "local_addresses", lambda: ["10.0.0.5"])
    with pytest.raises(Exception, match=rf"^/etc/bd/conf: .*{words}") as caught:
        advertised(settings(**given), certified)
    assert isinstance(caught.value, BadConfig)


def test_while_this_host_has_no_address_yet_there_may_be_one_soon(monkeypatch):
    monkeypatch.setattr(module, "local_addresses", list)
    with pytest.raises(NotYet, match="set advertise="):
        advertised(settings(), ("192.0.2.1", "10.0.0.5"))


def test_the_addresses_of_its_interfaces_are_known_without_a_route(monkeypatch, tmp_path):
    addresses = {"lo": "127.0.0.1", "eth0": "10.0.0.5", "eth1": "192.0.2.5"}

    def ioctl(sock, request, wish):
        name = wish[:16].rstrip(b"\0").decode()
        if name not in addresses:
            raise OSError(99, "Cannot assign requested address")
        return wish[:16] + b"\2\0\0\0" + socket.inet_aton(addresses[name]) + bytes(16)

    monkeypatch.setattr(module.socket, "if_nameindex", lambda: list(enumerate([*addresses, "down0"])))
    monkeypatch.setattr(module.fcntl, "ioctl", ioctl)
    file = tmp_path / "if_inet6"
    monkeypatch.setattr(module, "IPV6_FILE", str(file))
    assert module.interface_addresses() == ["10.0.0.5", "192.0.2.5"]
    rows = {"20010db8000000000000000000000007": "00", "fe800000000000000000000000000001": "20", "0" * 31 + "1": "00"}
    file.write_text("".join(f"{address} 02 40 {scope} 80     eth0\n" for address, scope in rows.items()))
    assert module.interface_addresses() == ["10.0.0.5", "192.0.2.5", "2001:db8::7"]
    monkeypatch.undo()
    assert all(isinstance(each, str) and each for each in module.interface_addresses())


def test_the_addresses_of_this_host_are_those_it_would_speak_from(monkeypatch):
    assert all(isinstance(each, str) and each for each in module.local_addresses())
    monkeypatch.setattr(module, "FAR_AWAY", ((module.socket.AF_INET, "127.0.0.1"), (module.socket.AF_INET, "256.0.0.1")))
    assert module.local_addresses() == ["127.0.0.1"]  # and what has no route has none
