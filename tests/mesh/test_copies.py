"""Copies follow their originals, with real daemons: updated, withdrawn, orphaned, adopted, placed, while they are called."""

import os
import subprocess
import time

import pytest

from tests import plants
from tests.hosts import free_port, until
from tests.mesh.calling import calls, served

# A generous one, for a machine that does much else: the copies of a mesh that is at leisure take a tenth of it.
SECONDS = 20


@pytest.fixture
def serving(mesh):
    """`serving(count)`: so many hosts that know each other, and whose services can be called."""
    servers = []

    def start(count, **config):
        hosts = [
            mesh.host(f"n{number}", axis_port=free_port(), receiver_threshold=100000, **config)
            for number in range(1, count + 1)
        ]
        for host in hosts:
            host.config["hints"] = hosts[0].address
            host.write_config()
            host.launch()
        for host in hosts:
            host.wait_ready()
        mesh.wait_known()
        web = served(hosts)
        web.__enter__()
        servers.append(web)
        return hosts

    yield start
    for web in servers:
        web.__exit__(None, None, None)


def publish(host, name, text, *options, size=0):
    """A file with this text; with a size, a folder with an index of it, and a file of so many bytes."""
    path = os.path.join(host.folder, name)
    if size:
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "load"), "wb") as file:
            file.write(os.urandom(1 << 16) * (size >> 16))
    with open(os.path.join(path, "index") if size else path, "w") as file:
        file.write(text)
    done = host.run("bdctl", "publish", path, *options)
    assert done.returncode == 0, done.stderr
    return done


def content(host, name):
    """What this host's web server serves, or None."""
    path = os.path.join(host.services, name)
    try:
        with open(os.path.join(path, "index") if os.path.isdir(path) else path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def contents(hosts, name="Echo"):
    return [content(host, name) for host in hosts]


def with_copies(hosts, count, *options, **keywords):
    """The first host's Echo v1, and its copies: in all, so many hosts have it, and all hosts know."""
    publish(hosts[0], "Echo", "v1", "--replicas", str(count), *options, **keywords)

    def known():
        return {host.name: sorted(holders(host)) for host in hosts}

    try:  # a copy whose node answered too late was placed twice, then: the surplus one stays for up to a minute
        until(lambda: all(len(names) == count for names in known().values()), 5 * SECONDS, f"all know {count} holders")
    except AssertionError as error:
        raise AssertionError(f"{error}: {known()}") from None
    return [host for host in hosts if content(host, "Echo") is not None]


def holders(host):
    """As this host knows them."""
    return {each["node"] for each in host.ctl("services").get("Echo", [])}


def became(hosts, text, seconds=SECONDS):
    until(lambda: set(contents(hosts)) == {text}, seconds, f"all have {text}: {contents(hosts)}")


def failures(made):
    return [call.failure for call in made if call.failure]


# --- updates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 100 << 20], ids=["a file", "a folder of 100 MiB"])
def test_a_new_edition_is_what_callers_get_everywhere_and_no_call_fails(serving, size):
    hosts = serving(5, package_bytes_max=200 << 20)
    having = with_copies(hosts, 4, size=size)
    with calls("Echo", hosts, a_second=50) as made:
        until(lambda: len({call.node for call in made}) > 2, SECONDS, "copies are called")
        publish(hosts[0], "Echo", "v2", "--replicas", "4", size=size)
        became(having, "v2", 3 * SECONDS)
        renewed_at = time.monotonic()
        until(lambda: len([call for call in made if call.at > renewed_at]) > 100, SECONDS, "100 more calls")
        until(lambda: len({call.node for call in made if call.at > renewed_at}) > 2, SECONDS, "copies are called again")
    assert failures(made) == []
    assert {call.served for call in made if call.at > renewed_at} == {"v2"}


def test_two_editions_within_a_second_end_at_the_later_one(serving):
    hosts = serving(4)
    having = with_copies(hosts, 3)
    for edition in ("v2", "v3"):
        publish(hosts[0], "Echo", edition, "--replicas", "3")
    became(having, "v3")


def test_a_new_edition_while_copies_of_the_old_one_are_on_their_way_is_what_all_have_in_the_end(serving):
    hosts = serving(4)
    for edition in ("v1", "v2"):
        publish(hosts[0], "Echo", edition, "--replicas", "4", size=20 << 20)
    became(hosts, "v2", 3 * SECONDS)


def test_the_original_killed_in_the_middle_of_an_update_leaves_one_edition_and_no_call_fails(serving):
    hosts = serving(5)
    having = with_copies(hosts, 4, size=20 << 20)
    with calls("Echo", hosts[1:], a_second=25) as made:
        publish(hosts[0], "Echo", "v2", "--replicas", "4", size=20 << 20)
        until(lambda: "v2" in contents(having[1:]) or not hosts[0].is_running, SECONDS, "a copy is renewed")
        hosts[0].kill()
        became(having[1:], "v2", 2 * SECONDS)
        renewed_at = time.monotonic()
        until(lambda: len([call for call in made if call.at > renewed_at]) > 50, SECONDS, "50 more calls")
    # Who was named a host in the very moment of its death calls in vain: no registry can take that back.
    assert [each for each in failures(made) if "then n1" not in each] == []
    assert {call.served for call in made if call.at > renewed_at} == {"v2"}


def test_an_original_that_dies_before_anybody_has_its_edition_leaves_the_old_one_served_and_said(serving):
    hosts = serving(3)
    having = with_copies(hosts, 3)
    with hosts[1].frozen(), hosts[2].frozen():
        publish(hosts[0], "Echo", "v2", "--replicas", "3")
        hosts[0].kill()
    until(lambda: hosts[1].status_of("n1") == "dead", SECONDS, "n1 is known to be dead")
    assert contents(having[1:]) == ["v1", "v1"]
    assert hosts[1].lookup("Echo")[-1]["node"] in ("n2", "n3", "ME")
    warnings = hosts[1].ctl("status")["warnings"]
    assert any("no original any more: Echo (of n1)" in each for each in warnings), warnings


def test_what_is_changed_in_the_folder_by_hand_reaches_the_copies(serving):
    hosts = serving(3)
    having = with_copies(hosts, 3)
    with open(os.path.join(hosts[0].services, "Echo"), "w") as file:
        file.write("by hand")
    became(having, "by hand")


def test_a_copy_that_is_changed_by_hand_becomes_again_what_its_original_is(serving):
    hosts = serving(3)
    having = with_copies(hosts, 3)
    with open(os.path.join(having[1].services, "Echo"), "w") as file:
        file.write("forged")
    became(having, "v1")


def test_a_copy_whose_disk_is_full_is_not_called_says_so_and_is_renewed_when_there_is_room(serving):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    hosts = serving(3)
    small = os.path.join(hosts[1].folder, "small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", small], check=True)
    try:
        hosts[1].end()
        hosts[1].write_config(services_dir=f"{small}/services", graveyard_dir=f"{small}/graveyard")
        os.mkdir(f"{small}/services")
        hosts[1].services = f"{small}/services"
        hosts[1].start()
        with_copies(hosts, 3, size=2 << 20)
        with open(f"{small}/ballast", "wb") as file:
            file.write(bytes(9 << 20))
        with calls("Echo", hosts, a_second=20) as made:
            publish(hosts[0], "Echo", "v2", "--replicas", "3", size=2 << 20)
            until(lambda: "no space" in str(hosts[1].ctl("status")["warnings"]).lower(), SECONDS, "the full disk is said")
            became([hosts[0], hosts[2]], "v2")
            full_at = time.monotonic()
            until(lambda: len([call for call in made if call.at > full_at]) > 50, SECONDS, "50 more calls")
            os.unlink(f"{small}/ballast")
            became(hosts, "v2", 3 * SECONDS)
        assert failures(made) == [] and {call.served for call in made if call.at > full_at} == {"v2"}
        assert {call.node for call in made if call.at > full_at} >= {"n1", "n3"}
    finally:
        hosts[1].end()
        subprocess.run(["umount", small], check=True)


# --- withdrawals, orphans -----------------------------------------------------------------------------------------


def test_a_withdrawal_takes_the_copies_along_and_says_who_was_not_reached(serving):
    hosts = serving(4)
    with_copies(hosts, 4)
    hosts[3].kill()
    until(lambda: hosts[0].status_of("n4") == "dead", SECONDS, "n4 is known to be dead")
    done = hosts[0].run("bdctl", "withdraw", "Echo")
    assert done.stdout == ("Echo: copies went from 2 nodes: n2, n3\nEcho: not reached, and obey when they hear of it: n4\n")
    assert contents(hosts[:3]) == [None] * 3
    hosts[3].start()
    until(lambda: content(hosts[3], "Echo") is None, SECONDS, "n4 obeys when it is back")
    hosts[0].ctl("graveyard", "restore", "Echo")
    until(lambda: contents(hosts) == ["v1"] * 4, SECONDS, "it comes back as a new edition")


def test_a_withdrawal_while_a_copy_is_on_its_way_leaves_none(serving):
    hosts = serving(3)
    publish(hosts[0], "Echo", "v1", "--replicas", "3", size=40 << 20)
    hosts[0].run("bdctl", "withdraw", "Echo")
    until(lambda: contents(hosts) == [None] * 3, SECONDS, "nobody has it")
    until(lambda: all("Echo" not in host.ctl("services") for host in hosts), SECONDS, "nobody is said to have it")
    assert contents(hosts) == [None] * 3


@pytest.mark.parametrize("how", ["a file removed by hand", "a host that comes back empty"])
def test_what_nobody_withdrew_stays_as_orphans_until_somebody_adopts_it(serving, how):
    hosts = serving(3)
    with_copies(hosts, 3)
    if how == "a file removed by hand":
        for suffix in (".bdcert", ""):
            os.unlink(os.path.join(hosts[0].services, "Echo" + suffix))
    else:
        hosts[0].kill_all()
        subprocess.run(["rm", "-rf", os.path.join(hosts[0].folder, "var")], check=True)
        os.makedirs(hosts[0].services)
        hosts[0].start()
    until(lambda: "no original any more" in str(hosts[1].ctl("status")["warnings"]), SECONDS, "n2 has an orphan")
    assert contents(hosts[1:]) == ["v1", "v1"]
    assert "withdraw" in hosts[1].run("bdctl", "withdraw", "Echo").stderr and content(hosts[1], "Echo") == "v1"
    hosts[1].ctl("adopt", "Echo")
    publish(hosts[1], "Echo", "v2", "--replicas", "3")
    until(lambda: content(hosts[2], "Echo") == "v2", SECONDS, "n3 follows who has adopted it")
    assert "no original" not in str(hosts[2].ctl("status")["warnings"])


def test_publishing_over_a_copy_says_where_its_original_is(serving):
    hosts = serving(2)
    with_copies(hosts, 2)
    path = os.path.join(hosts[1].folder, "Echo")
    with open(path, "w") as file:
        file.write("mine")
    done = hosts[1].run("bdctl", "publish", path)
    assert done.returncode == 2 and "its original is at n1" in done.stderr and contents(hosts) == ["v1", "v1"]
    done = hosts[1].run("bdctl", "publish", path, "--take-over")
    assert done.returncode == 0 and "another original, which differs, at n1" in done.stderr
    until(lambda: "Echo, at n2 (edition" in str(hosts[0].ctl("status")["warnings"]), SECONDS, "n1 says that there are two")


# --- standing copies ----------------------------------------------------------------------------------------------


def test_hosts_die_one_after_the_other_and_no_call_fails_as_long_as_two_live(serving):
    hosts = serving(10)
    with_copies(hosts, 3)
    asker, dead = hosts[9], set()
    with calls("Echo", [asker], a_second=20) as made:
        while len(hosts) - len(dead) > 2:
            names = holders(asker)
            victim = next(host for host in hosts[:9] if host.name in names and host.is_running)
            victim.kill()
            dead.add(victim.name)
            wanted = min(3, len(hosts) - len(dead))
            until(
                lambda n=wanted: len(holders(asker) - dead) == n, 5 * SECONDS, f"{wanted} live holders without {sorted(dead)}"
            )
    # A call to a host that died between its answer and the call fails, as it must.
    assert [each for each in failures(made) if not any(f"then {name}:" in each for name in dead)] == []
    assert len([call for call in made if not call.failure]) > 0.9 * len(made)


def test_two_holders_killed_at_once_are_replaced_and_come_back_as_none_too_many(serving, tmp_path):
    """A surplus copy goes after seconds here, where a real one has a minute (tests/simulation/test_copying.py)."""
    hosts = serving(6, within=plants.plant(tmp_path, plants.HASTE))
    having = with_copies(hosts, 3)
    for host in having[:2]:
        host.kill()
    others = [host for host in hosts if host not in having[:2]]

    def living():
        return {each["node"] for each in others[0].ctl("services").get("Echo", [])}

    gone = {host.name for host in having[:2]}
    until(lambda: len(living()) == 3 and not living() & gone, 2 * SECONDS, "three live holders")
    for host in having[:2]:
        host.start()
    until(lambda: len(living()) == 3 and "n1" in living(), 4 * SECONDS, f"three again: {living()}")
