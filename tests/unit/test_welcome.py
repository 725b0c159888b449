"""Whoever answers at the address of a token must be the node that gave it, by a certificate that counts: else nothing is said."""

import time

import pytest

from bdserver.core import joining as rules
from bdserver.errors import Forbidden
from bdserver.net import keys, welcome
from bdserver.net.authority import Authority
from tests.unit.certificates import Key, load_certificate, uri
from tests.unit.signers import Door, asked, begun, opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a mesh whose first node was begun."""
    folder = str(tmp_path_factory.mktemp("mesh"))
    begun(folder)
    return folder


def met(folder, authority, **odd):
    """A joiner with a token of alpha's meets one that says what alpha would, by a certificate of that CA, as odd as asked for."""
    alpha = opened(folder, "alpha")
    token = rules.read_token(asked(alpha, "INVITE", {}).token)
    its = Key()
    names = [uri(odd.pop("name", "bd://home/node/alpha"))]
    certificate = Key.of(f"{authority}/ca.key").sign(
        its.key.public_key(), load_certificate(f"{authority}/ca.crt").subject, names, **odd
    )
    alpha.credentials = keys.Credentials(its.key, certificate, alpha.credentials.authorities, 0.0)
    with Door(alpha) as door:
        welcome.meet(door.address, token, time.monotonic() + 10).close()


def test_a_certificate_by_the_token_s_own_ca_is_that_of_the_inviter(folder):
    met(folder, f"{folder}/ca")


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"name": "bd://home/client/alpha"}, "whoever is there has no certificate by the CA of the token: nothing was sent"),
        ({"name": "bd://home/node/beta"}, "beta is there, and another node gave the token: nothing was sent"),
        ({"begins": -2, "ends": -1}, "a certificate there expired on 20"),
        ({"begins": 1, "ends": 2}, "a certificate there is not valid before 20"),
    ],
)
def test_a_certificate_that_does_not_count_is_not_the_inviter(folder, odd, reason):
    with pytest.raises(Forbidden, match=reason):
        met(folder, f"{folder}/ca", **odd)


def test_who_shows_the_token_s_ca_and_is_by_another_is_told_nothing(folder, tmp_path):
    """The CA's certificate is no secret: anybody may show it, and make one of the same name."""
    Authority.make(f"{tmp_path}/forged", "home")
    with pytest.raises(Forbidden, match="whoever is there has no certificate by the CA of the token: nothing was sent"):
        met(folder, f"{tmp_path}/forged")
