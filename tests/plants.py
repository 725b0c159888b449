"""What is planted in the processes of a real daemon: bugs of ours (for some words its readers meet an exception, for others they
die), and whatever else a test has them run before anything of ours."""

from __future__ import annotations

import os
import re
import sys
import time

from tests.hosts import Host

# Read by the daemon's interpreter before anything of ours.
_SITE = """
import os, sys
sys.path[:0] = {paths!r}

def planted(whole):
    def reads(*arguments):
        if "Dies" in str(arguments):
            os._exit(1)
        if "Raises" in str(arguments):
            raise KeyError("planted")
        return whole(*arguments)
    return reads

"""
IN_POLICIES = """
from bdserver.core import policy
policy.parse = planted(policy.parse)
"""
IN_SERVICES = """
from bdserver.files import services
services.read_service = planted(services.read_service)
"""
# By what the owner said; that another one suspects it is written beside it.
IN_RECORDS = """
from bdserver.core import membership
from_json, meet = membership.from_json, planted(lambda said: None)
def read(value):
    meet(value.get("said") if isinstance(value, dict) else None)
    return from_json(value)
membership.from_json = read
"""
# A copy that is one too many goes after seconds, where a real one has a minute (tests/simulation/test_copying.py).
HASTE = """
from bdserver.core import turns
turns.RETIRE_AFTER, turns.SURPLUS_SECONDS, turns.SURPLUS_SPREAD_SECONDS = 12.0, 5.0, 6.0
"""


def plant(folder: str | os.PathLike[str], *bugs: str) -> list[str]:
    """The words before a command of a host's: its processes have these bugs. The folder gets a folder of their own."""
    place = os.path.join(folder, "plant")
    os.makedirs(place)
    with open(os.path.join(place, "sitecustomize.py"), "w") as file:
        file.write(_SITE.format(paths=[each for each in sys.path if each]) + "".join(bugs))
    return ["env", f"PYTHONPATH={place}"]


def is_restless(host: Host, *sick: Host) -> bool:
    """Whether this host leaves out whatever these say of themselves, which say something new at each question."""
    for each in sick:
        each.add_service("News", weight=round(time.monotonic(), 2))
    said = "\n".join(host.ask(["STATUS"])[1]["warnings"])
    return all(re.search(f"a record of {each.name} that .*: in quarantine, .* went wrong [4-9] times", said) for each in sick)
