"""Certificates of seconds that renew themselves under look-ups, revocations that travel, and a CA that is rolled to its end."""

import contextlib
import os
import time

import pytest

from bdserver.core.roles import CLIENT
from bdserver.errors import BDError, Forbidden
from bdserver.net import chain as chains
from bdserver.net import dialling, keys
from bdserver.net.authority import general_names, request_by
from bdserver.net.identity import identity_of
from tests.hosts import until
from tests.joiners import Joiner

# Seconds. For longer: RENEWING_LIFE=60 RENEWING_SECONDS=600.
LIFE = int(os.environ.get("RENEWING_LIFE", "14"))
SECONDS = int(os.environ.get("RENEWING_SECONDS", str(5 * LIFE // 2)))
DAYS = str(LIFE / 86400)


@pytest.fixture
def mesh(tmp_path):
    """Makes a mesh of so many hosts, the first of which signs."""
    made = []

    def start(count, **more):
        for number in range(1, count + 1):
            host = Joiner(tmp_path, f"n{number}", f"127.0.0.{number}", **more)
            made.append(host)
            done = host.begin() if number == 1 else host.join(made[0].address, made[0].token())
            assert done.returncode == 0, done.stderr
        everybody = {host.name for host in made}
        for host in made:
            until(lambda host=host: host.alive() == everybody, 20, f"{host.name} sees everybody")
        return made

    yield start
    for each in made:
        with contextlib.suppress(ProcessLookupError):
            each.end()


def ping(address, credentials):
    deadline = time.monotonic() + 5
    with dialling.dial(address, credentials, deadline) as talk:
        return talk.ask(["PING"], deadline)


def serial(host):
    return host.ctl("status")["certificate"]["serial"]


@pytest.mark.long(seconds=2 * SECONDS + 60)
def test_certificates_of_seconds_are_renewed_under_look_ups_and_none_is_lost(mesh, tmp_path):
    alpha, beta = mesh(2, certificate_days=DAYS, receiver_threshold=1e9, log_level="info")
    service = tmp_path / "hello"
    service.write_text("#!/bin/sh\n")
    alpha.ctl("publish", str(service))
    until(lambda: "hello" in beta.ctl("services"), 20, "n2 hears of the service")
    before, pids = {serial(alpha), serial(beta)}, (alpha.pid, beta.pid)
    credentials = keys.load(beta.keys, "n2")
    ends_at, asked = time.monotonic() + SECONDS, 0
    deadline = ends_at + 10
    with (
        dialling.dial(alpha.address, credentials, deadline, "n1") as kept,
        dialling.dial_local(os.path.join(beta.settings["var_dir"], "run", "n2.sock"), deadline) as local,
    ):
        while time.monotonic() < ends_at:
            for talk in (kept, local):
                said = talk.ask(["WHEREIS", "hello", None], time.monotonic() + 5)
                assert said.details["node"] in ("n1", "n2"), said
                asked += 1
            time.sleep(0.02)
    print(f"{asked} look-ups")
    assert asked > LIFE and (alpha.pid, beta.pid) == pids
    assert before.isdisjoint({serial(alpha), serial(beta)})
    for host in (alpha, beta):
        assert host.log.count(f"the certificate of {host.name} is renewed by n1") >= 2, host.log
        assert host.ctl("status")["warnings"] == []


def test_a_node_that_was_off_too_long_joins_again_and_is_told_so(mesh):
    alpha, beta = mesh(2, certificate_days=str(5 / 86400))
    beta.end()
    time.sleep(6)
    done = beta.run("bdserverd", beta.config)
    assert done.returncode == 2 and "bdkeys join again" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    joined = beta.join(alpha.address, alpha.token())
    assert joined.returncode == 0 and "n2 is in the mesh" in joined.stdout, joined.stderr


def test_a_client_renews_itself_by_any_node_and_for_nobody_else(mesh, tmp_path):
    """The hostile half: with a good certificate of its own, a client asks for another name, role and host, and once revoked."""
    alpha, beta = mesh(2)
    app = Joiner(tmp_path, "app", "127.0.0.9")
    done = app.join(alpha.address, alpha.token("app", "--role", "client"))
    assert done.returncode == 0, done.stderr
    base = f"{app.keys}/app"
    assert alpha.address in open(base + ".nodes").read().split()
    first = keys.load_named(base)

    quiet = app.run("bdkeys", "renew", base)
    assert quiet.returncode == 0 and "is good for 90 days, and renewed from" in quiet.stdout, quiet.stderr
    assert keys.load_named(base).identity.serial == first.identity.serial
    # n2 does not sign, and says who does.
    renewed = app.run("bdkeys", "renew", base, "--now", "--node", beta.address)
    assert renewed.returncode == 0 and "app of home is renewed by n1, and good for 90 days" in renewed.stdout, renewed.stderr
    second = keys.load_named(base)
    assert second.identity.serial != first.identity.serial and second.identity[:3] == ("home", CLIENT, "app")

    def certified(name, hosts=()):
        request = request_by(second.key, name, general_names(hosts)).decode()
        with dialling.dial(alpha.address, second, time.monotonic() + 5) as talk:
            return talk.ask(["RENEW", request], time.monotonic() + 5)

    for name in ("n2", "root"):
        with pytest.raises(Forbidden, match=f"app asks for a certificate of {name}"):
            certified(name)
    identity = identity_of(*chains.from_pem(certified("app", ["127.0.0.2"]).certificate.encode()))
    assert (identity.role, identity.hosts) == (CLIENT, second.identity.hosts), "what the request says of hosts counts nothing"
    alpha.ctl("revoke", "app")
    until(lambda: beta.ctl("status")["revoked"], 10, "n2 hears of it")
    for node in (alpha, beta):
        refused = app.run("bdkeys", "renew", base, "--now", "--node", node.address)
        assert refused.returncode in (4, 5) and "app of home is not renewed" in refused.stderr, refused.stderr
        assert refused.stderr.count("\n") == 1, refused.stderr
    assert keys.load_named(base).identity.serial == second.identity.serial


def test_a_revoked_node_is_out_of_everybodys_view_and_comes_back_by_a_new_invitation(mesh):
    alpha, beta, gamma = mesh(3)
    old = keys.load(beta.keys, "n2")
    alpha.ctl("revoke", "n2", "--why", "stolen")
    for host in (alpha, gamma):
        until(lambda host=host: "n2" not in host.alive(), 5, f"{host.name} knows n2 no longer")
        [told] = host.ctl("status")["revoked"]
        assert (told["what"], told["value"], told["why"]) == ("name", "n2", "stolen")
        with pytest.raises(BDError, match="revoked|not accept|broke off"):
            ping(host.address, old)
    done = beta.join(alpha.address, alpha.token("n2"))
    assert done.returncode == 2 and f"remove {beta.keys}/n2.{{key,crt}}, and join again" in done.stderr, done.stderr
    pid = beta.pid
    for each in ("key", "crt"):
        os.unlink(f"{beta.keys}/n2.{each}")
    time.sleep(1)  # certificates count from whole seconds
    done = beta.join(alpha.address, alpha.token("n2"))
    assert done.returncode == 0 and beta.pid == pid, done.stderr
    until(lambda: "n2" in gamma.alive(), 20, "n3 knows n2 again")


def test_the_ca_is_rolled_to_its_end_by_one_command_more(mesh, tmp_path):
    alpha, beta, gamma = hosts = mesh(3, certificate_days=str(60 / 86400))
    before = {host.name: serial(host) for host in hosts}
    rolled = alpha.run("bdkeys", "roll", str(tmp_path / "ca"))
    assert rolled.returncode == 0 and "bdctl roll" in rolled.stdout, rolled.stderr
    gamma.ctl("roll", str(tmp_path / "ca" / "roll.json"))
    until(lambda: any(each for each in beta.ctl("status")["roll"]), 10, "n2 hears of it")
    assert "3 nodes" in beta.ctl("status")["roll"][0]

    new = open(tmp_path / "ca" / "ca.crt").read().split("-----END")[0]

    def is_over():
        held = [open(f"{host.keys}/ca.crt").read() for host in hosts]
        return all(each.count("BEGIN") == 1 and each.split("-----END")[0] == new for each in held)

    until(is_over, 90, "the old CA is dropped everywhere")
    for host in hosts:
        assert serial(host) != before[host.name] and host.alive() == {"n1", "n2", "n3"}
        until(lambda host=host: host.ctl("status")["warnings"] == [], 10, f"{host.name} is well")
    late = Joiner(tmp_path, "n4", "127.0.0.4")
    done = late.join(alpha.address, alpha.token(), "--no-start")
    assert done.returncode == 0, done.stderr
