"""A mesh made of empty folders by its own commands: init --here, invite, join; and every token that lets nobody in."""

import contextlib
import os
import stat

import pytest

from tests.hosts import until
from tests.joiners import Joiner


@pytest.fixture
def hosts(tmp_path):
    """Makes hosts, and ends what they have started."""
    made = []

    def host(name, ip="127.0.0.1", **more):
        made.append(Joiner(tmp_path, name, ip, **more))
        return made[-1]

    yield host
    for each in made:
        with contextlib.suppress(ProcessLookupError):
            each.end()


@pytest.fixture
def alpha(hosts):
    """The first node."""
    alpha = hosts("alpha")
    done = alpha.begin()
    assert done.returncode == 0, done.stderr
    return alpha


def refused(done, reason):
    """One line says why, and nothing was started."""
    assert done.returncode not in (0, 1) or reason in done.stderr, done.stdout
    assert reason in done.stderr and done.stderr.count("\n") == 1, done.stderr
    return True


def test_three_empty_hosts_are_a_mesh_after_three_commands(hosts):
    alpha, beta, gamma = hosts("alpha"), hosts("beta", "127.0.0.2"), hosts("gamma", "127.0.0.3")
    begun = alpha.begin()
    assert begun.returncode == 0, begun.stderr
    *_, bdkeys, join, address, token = begun.stdout.split()
    assert (bdkeys, join, address) == ("bdkeys", "join", alpha.address)
    joined = beta.join(address, token)
    assert joined.returncode == 0, joined.stderr
    assert "beta is in the mesh: alpha sees it alive, and it sees alpha" in joined.stdout
    third = gamma.join(address, alpha.token("gamma"))
    assert third.returncode == 0, third.stderr
    for host in (alpha, beta, gamma):
        until(lambda host=host: host.alive() == {"alpha", "beta", "gamma"}, 20, f"{host.name} sees all three")
    service = os.path.join(alpha.folder, "hello")
    with open(service, "w") as file:
        file.write("#!/bin/sh\n")
    assert alpha.ctl("publish", service)
    until(lambda: "hello" in gamma.ctl("services"), 20, "gamma hears of the service")
    found = gamma.run("bdwhereis", "--config", gamma.config, "hello")
    assert found.returncode == 0 and "127.0.0.1" in found.stdout, found.stderr


def test_the_key_is_a_secret_of_the_host_and_the_config_passes_the_check(alpha, hosts):
    beta = hosts("beta", "127.0.0.2")
    done = beta.join(alpha.address, alpha.token(), "--no-start")
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(os.stat(f"{beta.keys}/beta.key").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(beta.keys).st_mode) == 0o700
    checked = beta.run("bdserverd", "--check", beta.config)
    assert checked.returncode == 0 and "ok: beta of home" in checked.stdout, checked.stderr


def test_what_is_there_is_never_overwritten(alpha, hosts):
    again = alpha.begin()
    assert refused(again, "is there already, of alpha of mesh home")
    beta = hosts("beta", "127.0.0.2")
    assert beta.join(alpha.address, alpha.token()).returncode == 0
    before = open(f"{beta.keys}/beta.crt").read()
    assert refused(beta.join(alpha.address, alpha.token()), "beta of mesh home is here already")
    assert open(f"{beta.keys}/beta.crt").read() == before


def test_a_token_lets_in_as_many_hosts_as_it_says_and_is_listed_and_revoked(alpha, hosts):
    token = alpha.token("--hosts", "2")
    for number in (2, 3):
        assert hosts(f"n{number}", f"127.0.0.{number}").join(alpha.address, token, "--no-start").returncode == 0
    assert refused(hosts("n4", "127.0.0.4").join(alpha.address, token, "--no-start"), "the token was used already (by n2, n3)")
    other = alpha.token("late")
    told = {each["name"]: each for each in alpha.ctl("invite", "--list")["invitations"]}
    assert told["late"]["state"] == "open" and told[""]["state"] in ("used", "open")
    assert "hash" not in told["late"]
    alpha.ctl("invite", "--revoke", told["late"]["id"])
    assert refused(hosts("late", "127.0.0.5").join(alpha.address, other, "--no-start"), "the token is not known here")


def test_every_wrong_token_is_one_line(alpha, hosts):
    beta = hosts("beta", "127.0.0.2")
    token = alpha.token("gamma")
    assert refused(beta.join(alpha.address, token, "--no-start"), "the token is for gamma, not for beta")
    assert refused(beta.join(alpha.address, "rubbish", "--no-start"), "that is no token, or not all of it")
    assert refused(beta.join(alpha.address, token[:-4], "--no-start"), "that is no token, or not all of it")
    short = alpha.token("--valid", "0.05s")
    assert refused(beta.join(alpha.address, short, "--no-start"), "the token has ended ")
    assert refused(hosts("alpha2").run("bdkeys", "join", alpha.address, alpha.token(), "--no-start", "--name", "alpha",
                   "--config", f"{beta.folder}/other", "--set", f"var_dir={beta.folder}/other"),
                   "the name alpha is taken, by a node at")  # fmt: skip
    assert not os.path.exists(beta.config)


def test_a_token_of_another_mesh_is_not_even_said(alpha, hosts, tmp_path):
    other = Joiner(tmp_path / "other", "omega", "127.0.0.9")
    try:
        assert other.begin("away").returncode == 0
        beta = hosts("beta", "127.0.0.2")
        done = beta.join(alpha.address, other.token(), "--no-start")
        assert refused(done, "the token is of another CA: nothing was sent")
        assert "wants to join" not in alpha.log
    finally:
        other.end()


def test_a_join_that_was_broken_off_goes_on_with_the_same_token(alpha, hosts):
    """The certificate was signed, and lost on the way: the key that was made is there."""
    beta, token = hosts("beta", "127.0.0.2"), alpha.token()
    assert beta.join(alpha.address, token, "--no-start").returncode == 0
    key = open(f"{beta.keys}/beta.key").read()
    for path in (beta.config, f"{beta.keys}/beta.crt", f"{beta.keys}/ca.crt"):
        os.unlink(path)
    done = beta.join(alpha.address, token)
    assert done.returncode == 0 and "beta is in the mesh" in done.stdout, done.stderr
    assert open(f"{beta.keys}/beta.key").read() == key
    other = hosts("gamma", "127.0.0.3")
    assert refused(other.join(alpha.address, token, "--no-start"), "the token was used already (by beta)")


def test_what_a_config_says_already_stays_and_what_it_lacks_is_added(alpha, hosts):
    """As a package leaves it: without a name, and without keys."""
    beta = hosts("beta", "127.0.0.2")
    with open(beta.config, "w") as file:
        file.write("# by a package\nreceiver_threshold=7\nmax_dynamic=1")
    done = beta.join(alpha.address, alpha.token())
    assert done.returncode == 0, done.stderr
    text = open(beta.config).read()
    assert text.startswith("# by a package\nreceiver_threshold=7\nmax_dynamic=1\n") and "username=beta\n" in text
    assert beta.ctl("status")["receiver_threshold"] == 7


def test_a_node_that_signs_for_nobody_lets_nobody_knock_and_says_who_does(alpha, hosts):
    beta = hosts("beta", "127.0.0.2")
    assert beta.join(alpha.address, alpha.token()).returncode == 0
    until(lambda: "alpha" in beta.alive(), 20, "beta sees alpha")
    done = beta.run("bdctl", "--config", beta.config, "invite")
    assert done.returncode == 2 and f"beta is no signer: invite on alpha ({alpha.address})" in done.stderr
    gamma = hosts("gamma", "127.0.0.3")
    assert refused(gamma.join(beta.address, alpha.token(), "--no-start"), "is no invitation open there any more")


def test_an_admin_gets_keys_and_no_node(alpha, hosts):
    ann = hosts("ann")
    done = ann.join(alpha.address, alpha.token("ann", "--role", "admin"))
    assert done.returncode == 0 and "admin ann of home" in done.stdout, done.stderr
    assert not os.path.exists(ann.config)
    asked = ann.run("bdctl", "--node", alpha.address, "--keys", f"{ann.keys}/ann", "invite", "--list")
    assert asked.returncode == 0 and "used" in asked.stdout, asked.stderr


def test_two_joins_of_one_name_at_once_are_one_node(alpha, hosts):
    tokens = [alpha.token("twin") for _ in range(2)]
    twins = [hosts(f"host{number}", f"127.0.0.{number}") for number in (2, 3)]
    for twin in twins:
        twin.name = "twin"
    running = [
        twin.popen("bdkeys", "join", alpha.address, token, *twin.place(), "--no-start")
        for twin, token in zip(twins, tokens, strict=True)
    ]
    said = [each.communicate(timeout=60) for each in running]
    assert sorted(each.returncode for each in running) == [0, 5], said
    assert any("the name twin is taken" in errors for _, errors in said), said


@pytest.mark.long
def test_twenty_hosts_join_at_once(alpha, hosts):
    token = alpha.token("--hosts", "20")
    joiners = [hosts(f"n{number}", f"127.0.1.{number}") for number in range(1, 21)]
    running = [each.popen("bdkeys", "join", alpha.address, token, *each.place(), "--no-start") for each in joiners]
    said = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0] * 20, said
    [told] = [each for each in alpha.ctl("invite", "--list")["invitations"] if each["uses"] == 20]
    assert sorted(told["joined"]) == sorted(each.name for each in joiners) and told["state"] == "used"
