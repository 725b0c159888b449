"""Signed services, with real daemons: hosts begin to ask for signatures while copies are served."""

import os
import signal

from bdserver.commands import bdkeys
from bdserver.files.minisign import SecretKey
from tests.hosts import until
from tests.mesh.test_copies import content, publish


def offered(host, name="Echo"):
    """Who has it, as this host knows: node -> its signer."""
    return {each["node"]: each.get("signer", "") for each in host.ctl("services").get(name, [])}


def reloaded(host, **changes):
    host.write_config(**changes)
    os.kill(host.process.pid, signal.SIGHUP)


def warned(host, word):
    return any(word in line for line in host.ask(["STATUS"])[1]["warnings"])


def test_hosts_begin_to_ask_for_signatures_and_what_is_signed_then_is_served_again(mesh):
    one, two = mesh.start(2)
    mesh.wait_known()
    publish(one, "Echo", "v1", "--replicas", "2")
    until(lambda: set(offered(one)) == {"n1", "n2"}, 20, "two have Echo")
    key_path = os.path.join(mesh.folder, "publisher.key")
    assert bdkeys.main(["publisher", mesh.folder]) == 0
    with open(key_path, "rb") as file:
        key = SecretKey.of_file(file.read())
    listed = os.path.join(mesh.folder, "publishers")
    with open(listed, "w") as file:
        file.write(key.public.line)
    for host in (one, two):
        reloaded(host, publishers=listed)
    until(lambda: set(offered(one)) == {"n1"}, 20, "the copy is not offered")
    assert warned(two, "copies here are not offered") and content(two, "Echo") == "v1"
    assert one.lookup("Echo")[-1]["node"] == "n1"
    until(lambda: "Echo is served here and never copied: nobody has signed it" in one.log, 20, "it is said")

    done = one.run("bdctl", "sign", "Echo", "--key", key_path)
    assert done.returncode == 0 and done.stdout.endswith(f"signed by {key.public.name}\n"), done.stderr
    until(lambda: offered(one) == {"n1": key.public.name, "n2": key.public.name}, 20, "the copy has renewed itself")
    assert not warned(two, "copies here are not offered")

    with open(listed, "a") as file:
        file.write("\nno key\n")
    reloaded(two)
    until(lambda: warned(two, "no copy is taken in or offered"), 20, "the broken list is said")
    until(lambda: set(offered(one)) == {"n1"}, 20, "nobody's signature counts")
    with open(listed, "w") as file:
        file.write(key.public.line)
    reloaded(two)
    until(lambda: set(offered(one)) == {"n1", "n2"}, 20, "it is mended")

    assert publish(one, "Echo", "v2", "--sign", key_path).returncode == 0
    until(lambda: content(two, "Echo") == "v2", 20, "a new edition reaches the copy")
    until(lambda: offered(one) == {"n1": key.public.name, "n2": key.public.name}, 20, "and is offered")
