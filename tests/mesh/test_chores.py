"""Each chore of a real discoverer raising, hanging and dying in turn: the node goes on, serves, and says so."""

import json
import sys
import threading
import time

import pytest

from tests.hosts import until

# Read by the daemon's interpreter before anything of ours: each chore looks into a file what is to be wrong with it. Patience
# is shorter than in the field.
PLANT = """
import os, sys, time
sys.path[:0] = {paths!r}
from bdserver.core import attention
from bdserver.processes import chores, listener

attention.HUNG_SECONDS, listener.HUNG_LOOKS, listener.SOCKETS_SECONDS = 1.5, 10, 0.3
chores.HEALTH_SECONDS = chores.TRIM_SECONDS = 1.0
listener.WELL_SECONDS = {well}

def planted(chore):
    def do(wall):
        with open({fault!r}) as file:
            what, _, how = file.read().partition(": ")
        if what == chore.what:
            if how == "raises":
                raise KeyError("planted")
            if how == "dies":
                os._exit(1)
            time.sleep(3600)
        return chore.do(wall)
    return chore._replace(do=do)

whole = chores.Chores.__init__
def begin(self, *arguments, **keywords):
    whole(self, *arguments, **keywords)
    self._chores = tuple(map(planted, self._chores))
    self._due_at = dict.fromkeys(self._chores, 0.0)
chores.Chores.__init__ = begin
"""
CHORES = ["the access log", "the weight of our services", "the health of our services", "trimming hit logs", "our own record",
          "whom we have heard from", "warnings", "company", "on_change"]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "well", "whats"),
    # Each has a guard against what it raises; a hang, which the one beat of them all tells, is waited for each time; and a
    # discoverer that dies again and again waits longer.
    [("raises", 60, CHORES), ("hangs", 0, CHORES[::4]), ("dies", 60, CHORES[:1])],
    ids=["raises", "hangs", "dies"],
)
def test_whatever_becomes_of_a_chore_look_ups_go_on_and_status_says_so(mesh, tmp_path, how, well, whats):
    fault = tmp_path / "fault"
    fault.write_text("")
    (tmp_path / "plant").mkdir()
    paths = [each for each in sys.path if each]
    (tmp_path / "plant" / "sitecustomize.py").write_text(PLANT.format(paths=paths, fault=str(fault), well=well))
    one = mesh.host("n1", within=["env", f"PYTHONPATH={tmp_path / 'plant'}"]).start()
    one.add_service("Echo", weight=0)
    is_over, failed = threading.Event(), []

    def look_up():
        while not is_over.wait(0.02):
            started = time.monotonic()
            try:
                assert one.lookup("Echo")[0] == "ME" and time.monotonic() - started < 2
            except Exception as error:
                failed.append(error)

    def warnings():
        return "\n".join(one.ask(["STATUS"])[1]["warnings"])

    thread = threading.Thread(target=look_up)
    thread.start()
    try:
        for what in whats:
            fault.write_text(f"{what}: {how}")
            words = f"{what}: a bug: KeyError('planted')" if how == "raises" else "the discoverer hangs for "
            until(lambda words=words: words in warnings(), 10, f"{what}: it is said")
            before = one.discoverer_pid()
            fault.write_text("")
            until(lambda: "hangs" not in warnings() and "planted" not in warnings(), 40, f"{what}: it is well again")
            assert how != "raises" or one.discoverer_pid() == before, "a chore that fails ends nothing"
    finally:
        is_over.set()
        thread.join()
    assert not failed, failed[:3]


def test_the_program_of_on_change_hears_of_the_mesh_and_its_failure_is_shown(mesh, tmp_path):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ncat >> {tmp_path}/told\ntest ! -e {tmp_path}/broken\n")
    program.chmod(0o755)
    alpha = mesh.host("alpha", on_change=program).start()
    beta = mesh.host("beta", hints=alpha.address).start()

    def told():
        text = (tmp_path / "told").read_text() if (tmp_path / "told").exists() else ""
        return [
            (each["node"], each["kind"], each.get("service"))
            for line in text.splitlines()
            for each in json.loads(line)["changes"]
        ]

    until(lambda: ("alpha", "began", None) in told() and ("beta", "new", None) in told(), 30, "it hears of beta")
    beta.add_service("Echo")
    until(lambda: ("beta", "offered", "Echo") in told(), 30, "it hears of Echo")
    (tmp_path / "broken").touch()
    beta.kill()
    until(lambda: ("beta", "status", None) in told(), 30, "it hears that beta is gone")
    until(lambda: any("exit status 1" in each for each in alpha.ctl("status")["warnings"]), 30, "that it fails is a warning")
    (tmp_path / "broken").unlink()
    alpha.add_service("Other")
    until(lambda: not any("on_change" in each for each in alpha.ctl("status")["warnings"]), 30, "it is well again")
    assert alpha.log.count("on_change=") == 1
