"""Every file of a running node removed, cut, bent, made a folder, a pipe, a link: look-ups go on, nothing dies, no bug is met."""

import contextlib
import os
import random
import shutil
import signal
import socket
import stat
import time

import pytest

from bdserver.core import messages
from bdserver.net import dialling, keys
from tests.hosts import until

CUT_BYTES, SAMPLES = 64, 3


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def put(path, damage):
    """In its place; the node may make its own file anew between the two."""
    for _ in range(100):
        remove(path)
        with contextlib.suppress(FileExistsError):
            return damage(path)
    raise AssertionError(f"{path} is made anew all the time")


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def full_folder(path):
    os.mkdir(path)
    write(os.path.join(path, "something"), b"in it")


def bent(data, at):
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def damages(data, rng):
    """(what is done, how, given a path where nothing lies any more)."""
    yield "removed", lambda path: None
    yield "an empty folder", os.mkdir
    yield "a folder", full_folder
    yield "a pipe", os.mkfifo
    yield "a socket", lambda path: socket.socket(socket.AF_UNIX).bind(path)
    yield "a link to itself", lambda path: os.symlink(path, path)
    yield "a link to nothing", lambda path: os.symlink(path + ".none", path)
    yield "a link to a device", lambda path: os.symlink("/dev/zero", path)
    if data is None:
        return
    yield "zeros", lambda path: write(path, bytes(len(data)))
    yield "noise", lambda path: write(path, rng.randbytes(300))
    cuts = range(0, max(len(data), 1), CUT_BYTES)
    for at in sorted(rng.sample(cuts, min(SAMPLES, len(cuts)))):
        yield f"cut at {at}", lambda path, at=at: write(path, data[:at])
    for at in sorted(rng.sample(range(8 * len(data)), min(SAMPLES, 8 * len(data)))):
        yield f"bit {at} flipped", lambda path, at=at: write(path, bent(data, at))


def files_of(host):
    """All that a node has, by its path; what belongs to the service that is looked up stays well, and so does our own log."""
    found = []
    for folder, _, names in os.walk(host.folder):
        found += [os.path.join(folder, name) for name in names if not name.startswith("Echo")]
    return sorted(each for each in found if each != host.log_path)


@pytest.mark.long
@pytest.mark.parametrize("is_told", [False, True], ids=["unawares", "at SIGHUP"])
def test_whatever_becomes_of_a_file_while_the_node_runs_look_ups_go_on(mesh, is_told):
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    print("SEED", seed)
    rng = random.Random(seed)
    one = mesh.host("n1", revoked="revoked", ws_policy="policy.xml", black_list="black", access_log="access.log")
    write(f"{one.folder}/policy.xml", b'<Policy xmlns="http://schemas.xmlsoap.org/ws/2004/09/policy"/>')
    write(f"{one.folder}/revoked", b"# nobody\njoan\nserial 0a:0b\n")
    write(f"{one.folder}/black", b"192.0.2.1\n")
    write(f"{one.folder}/access.log", b"")
    one.is_hasty = is_told  # hundreds of SIGHUPs, each behind a change
    one.start()
    two = mesh.host("n2", hints=one.address).start()
    for name in ("Echo", "Other", "Old"):
        one.add_service(name, weight=0)
    mesh.wait_known()
    until(lambda: {"Echo", "Other", "Old"} <= one.ctl("services").keys(), 10, "all are offered")
    one.ctl("withdraw", "Old")
    one.lookup("Other")
    credentials = keys.load(mesh.issue("joe", role="client"), "joe")

    def ask(request):
        deadline = time.monotonic() + 5
        with dialling.dial(one.address, credentials, deadline) as talk:
            return messages.encoded(talk.ask(request, deadline))

    def look_up():
        for _ in range(2):
            assert ask(["WHEREIS", "Echo", None])[0] == "ME"
        assert ask(["STATUS"])[0] == "STATUS"

    look_up()

    def hang_up(path):
        """SIGHUP; it was heard when the settings are those of now, unless these are what is damaged."""
        threshold = ask(["STATUS"])[1]["receiver_threshold"] + 1
        if path != one.config_path:
            one.write_config(receiver_threshold=threshold)
        one.process.send_signal(signal.SIGHUP)
        if path != one.config_path:
            until(lambda: ask(["STATUS"])[1]["receiver_threshold"] == threshold, 10, "SIGHUP is heard")

    discoverer = until(one.discoverer_pid, 10, "the discoverer")
    for path in files_of(one):
        if not os.path.lexists(path):  # a lock that was there for a moment
            continue
        mode, data = os.stat(path).st_mode, None
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:
                data = file.read()
        elif not stat.S_ISSOCK(mode):
            continue
        for what, damage in damages(data, rng):
            if is_told and path.endswith("ca.crt") and "flipped" in what:
                continue  # that may be another CA's certificate, as good as any that an operator gives it to read
            words = f"{os.path.relpath(path, one.folder)}: {what}, SEED={seed}"
            put(path, damage)
            try:
                if is_told:
                    hang_up(path)
                look_up()
                assert one.is_running and one.discoverer_pid() == discoverer, "a process has died"
            except Exception as error:
                raise AssertionError(f"{words}: {error!r}: {one.log[-1500:]}") from error
            if not is_ours_again(path, damage):
                remove(path)
                if data is not None:
                    write(path, data)
                    os.chmod(path, stat.S_IMODE(mode))
    until(lambda: os.path.exists(one.socket), 10, "the local socket is made again")
    look_up()
    assert "Traceback" not in one.log and "a bug" not in one.log, f"SEED={seed}: {one.log[-3000:]}"
    until(lambda: two.status_of("n1") == "alive" and one.status_of("n2") == "alive", 20, "they know each other")
    warnings = until(lambda: [each for each in one.ask(["STATUS"])[1]["warnings"] if "Other" not in each] or ["none"], 10, "")
    assert "stays as it was" not in str(warnings), f"SEED={seed}"


def is_ours_again(path, damage):
    """The node makes some of its files anew; what it made is left to it."""
    return path.endswith((".sock", ".bdcache")) and (
        os.path.lexists(path) and not os.path.islink(path) and stat.S_ISSOCK(os.lstat(path).st_mode) == path.endswith(".sock")
    )
