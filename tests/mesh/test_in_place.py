"""What a person or a tool writes in place, empty or cut for a moment, with real daemons: nothing is taken, spread or lost by it."""

import os
import signal
import time

from bdserver.core.stillness import REST_SECONDS
from tests.hosts import until

SECONDS = 30


def publish(host, name, text, *options):
    path = os.path.join(host.folder, name)
    with open(path, "w") as file:
        file.write(text)
    done = host.run("bdctl", "publish", path, *options)
    assert done.returncode == 0, done.stderr


def holders(host, name):
    """node -> (type, edition), as this host knows them."""
    return {each["node"]: (each["type"], *each["edition"]) for each in host.ctl("services").get(name, [])}


def with_a_copy(mesh, name, *options):
    """The host with the original, one with a copy, and the path of that service there."""
    hosts = mesh.start(2)
    mesh.wait_known()
    publish(hosts[0], name, "whole", "--replicas", "2", *options)
    until(lambda: len(holders(hosts[0], name)) == len(holders(hosts[1], name)) == 2, SECONDS, "a copy")
    return hosts, os.path.join(hosts[0].services, name)


def test_a_service_that_is_uploaded_slowly_is_one_new_edition_when_it_is_whole(mesh):
    (_, other), path = with_a_copy(mesh, "Echo")
    for attempt in range(5):
        before, seen, copied = holders(other, "Echo"), set(), set()
        wrote_at, gap = time.monotonic(), 0.0
        with open(path, "w") as file:
            while len(seen) < 12:
                file.write(f"{attempt}, a part\n")
                file.flush()
                gap, wrote_at = max(gap, time.monotonic() - wrote_at), time.monotonic()
                seen.add((len(seen), holders(other, "Echo")["n1"]))
                with open(os.path.join(other.services, "Echo")) as copy:
                    copied.add(copy.read())
        text = f"{attempt}, a part\n" * 12
        until(lambda text=text: _content(other, "Echo") == text, SECONDS, "the copy is the new edition")
        until(lambda: len({edition[1:] for edition in holders(other, "Echo").values()}) == 1, SECONDS, "it is told")
        if gap < REST_SECONDS / 2:  # else this machine has made a pause, for which nobody waits
            assert {edition for _, edition in seen} == {before["n1"]} and len(copied) == 1
            return
    raise AssertionError("this machine never wrote twelve lines without a pause of a second")


def _content(host, name):
    with open(os.path.join(host.services, name)) as file:
        return file.read()


def test_a_bdcert_that_is_emptied_and_written_later_takes_nothing_meanwhile_and_counts_then(mesh):
    (home, other), _ = with_a_copy(mesh, "Echo")
    before = holders(home, "Echo")
    for host in (other, home):  # that of the copy, and of the original
        cert = os.path.join(host.services, "Echo.bdcert")
        with open(cert) as file:
            whole = file.read()
        with open(cert, "w") as file:

            def said():
                return [line for line in host.ctl("status")["complaints"] if "Echo.bdcert" in line]  # noqa: B023

            until(said, SECONDS, "it is said")
            assert holders(home, "Echo") == holders(other, "Echo") == before
            file.write(whole.replace("weight=1\n", "weight=3\n") if host is home else whole)
        until(lambda: not said(), SECONDS, "it is well again")
    until(lambda: home.ctl("status")["services"]["Echo"]["cost"] == 3, SECONDS, "what was written counts")
    until(lambda: other.ctl("status")["services"]["Echo"]["cost"] == 3, SECONDS, "and goes to the copy")
    assert {node: kind for node, (kind, *_) in holders(home, "Echo").items()} == {"n1": "static", "n2": "dynamic"}


def test_a_service_elsewhere_is_named_while_its_bdcert_is_written_in_place(mesh):
    home, other = mesh.start(2)
    mesh.wait_known()
    assert home.run("bdctl", "publish", "Wiki", "--url", "http://127.0.0.1:1/wiki").returncode == 0
    until(lambda: holders(home, "Wiki") and other.whereis("Wiki").returncode == 0, SECONDS, "it is known")
    cert = os.path.join(home.services, "Wiki.bdcert")
    with open(cert) as file:
        whole = file.read()
    with open(cert, "w") as file:
        for _ in range(12):
            assert other.whereis("Wiki").stdout == "http://127.0.0.1:1/wiki\n"
        file.write(whole)
    assert other.whereis("Wiki").returncode == 0 and os.stat(cert).st_size == len(whole)


def test_a_config_that_is_emptied_changes_nothing_at_sighup(mesh):
    (home,) = mesh.start(1, receiver_threshold=7)
    with open(home.config_path) as file:
        whole = file.read()

    def status():
        return home.ask(["STATUS"])[1]

    with open(home.config_path, "w") as file:
        home.process.send_signal(signal.SIGHUP)
        until(lambda: "nothing is set in it" in home.log, SECONDS, "the reload")
        assert status()["receiver_threshold"] == 7 and any("nothing is set in it" in line for line in status()["warnings"])
        file.write(whole.replace("receiver_threshold=7", "receiver_threshold=8"))
    home.process.send_signal(signal.SIGHUP)
    until(lambda: status()["receiver_threshold"] == 8, SECONDS, "the next reload")
    assert not any("nothing is set in it" in line for line in status()["warnings"])
