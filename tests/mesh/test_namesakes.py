"""Two hosts of one name, for which two signers have signed: refused where that can be seen, and else told by every node."""

import contextlib
import os

import pytest

from bdserver.core.roles import NODE
from bdserver.net import keys, signing
from bdserver.net.authority import general_names
from tests.hosts import until
from tests.joiners import Joiner


@pytest.fixture
def hosts(tmp_path):
    """Two signers, alpha and beta, and two hosts that will both be named web, in folders of their own."""
    alpha, beta = Joiner(tmp_path, "alpha", "127.0.0.1"), Joiner(tmp_path, "beta", "127.0.0.2")
    first, second = (Joiner(tmp_path / which, "web", f"127.0.0.{number}") for number, which in ((3, "first"), (4, "second")))
    try:
        two_signers(tmp_path, alpha, beta)
        yield alpha, beta, first, second
    finally:
        for each in (second, first, beta, alpha):
            with contextlib.suppress(ProcessLookupError):
                each.end()


def two_signers(folder, alpha, beta):
    done = alpha.begin()
    assert done.returncode == 0, done.stderr
    done = beta.join(alpha.address, alpha.token(), "--no-start")
    assert done.returncode == 0, done.stderr
    done = alpha.run("bdkeys", "signer", str(folder / "ca"), "beta", "--out", beta.keys)
    assert done.returncode == 0, done.stderr
    with open(beta.config, "a") as file:
        file.write("signer=yes\n")
    start(beta)
    until(lambda: beta.alive() == {"alpha", "beta"}, 20, "the two know each other")


def start(host):
    done = host.run("bdserverd", host.config)
    assert done.returncode == 0, done.stderr


def sign_by(signer, host):
    """The certificate of a host from a signer that does not look who else has the name: one that was stolen, or cut off."""
    base = os.path.join(host.keys, host.name)
    own = keys.load_named(base)
    made = signing.Signer.load(signer.keys, signer.name, "home", list(own.authorities))
    chain = made.certify(own.key.public_key(), host.name, NODE, general_names([host.ip]), 90)
    with open(base + ".crt", "wb") as file:
        file.write(chain.pem())


def test_the_name_of_a_host_that_lives_is_had_from_no_other_signer(hosts):
    alpha, beta, first, second = hosts
    done = first.join(alpha.address, alpha.token())
    assert done.returncode == 0, done.stderr
    until(lambda: "web" in beta.alive(), 20, "beta knows it")
    for invited in ((), ("web",)):
        done = second.join(beta.address, beta.token(*invited))
        assert done.returncode == 5 and done.stderr.count("\n") == 1, done.stderr
        assert f"the name web is taken, by a node at {first.address}: choose another one with --name" in done.stderr


def test_two_that_live_are_told_with_their_certificates_by_status_and_doctor_of_every_node(hosts):
    alpha, beta, first, second = hosts
    for host in (first, second):
        done = host.join(alpha.address, alpha.token("web"), "--no-start")
        assert done.returncode == 0, done.stderr
    sign_by(beta, second)
    serials = {host: f"{keys.load_named(os.path.join(host.keys, 'web')).identity.serial:x}" for host in (first, second)}
    start(first)
    until(lambda: "web" in alpha.alive(), 20, "alpha knows the first")
    start(second)
    line = (
        f"two live nodes are named web: at {first.address} (serial {serials[first]}, signed by alpha)"
        f" and at {second.address} (serial {serials[second]}, signed by beta)"
    )

    def told(host):
        return [each for each in host.ctl("status")["findings"] if each["key"] == "rival"]

    for host in (first, second, alpha, beta):
        [found] = until(lambda host=host: told(host), 30, f"{host.folder} tells of the two")
        assert found["text"] == line and found["severity"] == ("grave" if host.name == "web" else "warning")
    done = alpha.run("bdctl", "--config", alpha.config, "doctor")
    [row] = [row for row in done.stdout.splitlines() if "two live nodes" in row]
    assert line in row and done.returncode == 1, done.stdout
