"""How a node that was just made is started, and when it is said to be in the mesh.

By systemd where it runs and has our unit, by the init script where that is there, else as a daemon of its own; both know the
usual config alone. A node is in the mesh when another one sees it alive and gets to it: what lets a host call others, and no
other call it, is the firewall that most hosts have.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from bdserver.core import checkup, pages
from bdserver.core.attention import Severity
from bdserver.core.membership import ALIVE
from bdserver.core.messages import Checkup, Invited
from bdserver.errors import BadConfig, BDError, NobodyThere
from bdserver.files.settings import DEFAULT_PATH, Settings, default_path
from bdserver.net import dialling

UNIT, INIT_SCRIPT = "bdserverd.service", "/etc/init.d/bdserverd"
# A start takes half a second; that another node sees it, a round trip. A loaded machine takes longer.
READY_SECONDS, SEEN_SECONDS, POLL_SECONDS = 20.0, 10.0, 0.05
ASK_SECONDS = 2.0
# A visit takes some milliseconds, and three seconds where a firewall swallows it.
VISIT_SECONDS, VISIT_PAUSE_SECONDS = 5.0, 0.5
INVITATION_SECONDS = 3600.0
UNSEEN = "and none of them sees it: does every firewall between let them in at both its ports?"
# The command as a process of the very interpreter that runs us, installed or from a checkout.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_RUN = f"import sys; sys.path.insert(0, {_ROOT!r}); from bdserver.commands.bdserverd import main; sys.exit(main())"


def start(settings: Settings, options: Namespace, seen: Callable[[], str]) -> int:
    """Start the node as the options say; `seen()` waits until it is in the mesh, and says so."""
    if options.no_start:
        print(f"{settings.path}: ready; start it with: {line_of('bdserverd', settings)}")
        return 0
    if options.foreground:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-c", _RUN, "--foreground", settings.path])
    if runs(settings):  # it takes new keys by itself
        print(seen())
        return 0
    done = subprocess.run(_words(settings), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise BadConfig(f"the node does not start: {said[-1] if said else f'exit status {done.returncode}'}")
    print(seen())
    return 0


def line_of(command: str, settings: Settings) -> str:
    """As a person types it for the node of this config: `bdserverd`, or `bdctl` and a word."""
    path = shlex.quote(settings.path)
    if command == "bdserverd":
        return f"bdserverd {path}"
    program, word = command.split()
    return command if settings.path == os.path.abspath(default_path()) else f"{program} --config {path} {word}"


def runs(settings: Settings) -> bool:
    """Whether the node of this config answers."""
    try:
        ask(settings, ["PING"])
    except BDError:
        return False
    return True


def _words(settings: Settings) -> list[str]:
    if os.path.realpath(settings.path) == DEFAULT_PATH:
        if os.path.isdir("/run/systemd/system") and _has_unit():
            return ["systemctl", "enable", "--now", UNIT]
        if os.access(INIT_SCRIPT, os.X_OK):
            return [INIT_SCRIPT, "start"]
    return [sys.executable, "-c", _RUN, settings.path]


def _has_unit() -> bool:
    return subprocess.run(["systemctl", "cat", UNIT], capture_output=True, check=False).returncode == 0


def ask(settings: Settings, request: list[Any], seconds: float = ASK_SECONDS) -> Any:
    """One question to the node of this host."""
    deadline = time.monotonic() + seconds
    with dialling.dial_local(settings.socket, deadline) as talk:
        return talk.ask(request, deadline)


def wait_seen(settings: Settings, name: str, inviter: str, address: str) -> str:
    """Until another node sees this one alive, and gets to it; a line that tells who, and whom this one sees. NobodyThere says
    why none does."""
    until, reason = time.monotonic() + SEEN_SECONDS, ""
    is_hinted = False
    while True:
        pause = POLL_SECONDS
        try:
            if not is_hinted:
                ask(settings, ["HINT", address])
                is_hinted = True
            others = _alive(settings, name)
            nearest = sorted(others, key=lambda other: other != inviter)
            other = next((each for each in nearest if _is_seen_by(settings, each, name)), None)
            if other is None:
                known = f"it knows {', '.join(others)}, {UNSEEN}" if others else _doubt(settings)
                reason = f"no other node sees it alive within {SEEN_SECONDS:.0f} s: {known}"
            elif missed := _missed(settings, other, name):
                reason, pause = f"the others can't call it: {missed}", VISIT_PAUSE_SECONDS
            else:
                return f"{name} is in the mesh: {other} sees it alive, and it sees {', '.join(others)}"
        except BDError as error:
            reason = f"no other node sees it alive within {SEEN_SECONDS:.0f} s: {error}"
        if time.monotonic() > until:
            raise NobodyThere(f"{name} runs, and {reason}")
        time.sleep(pause)


def _status(settings: Settings) -> Any:
    return pages.status(lambda request: ask(settings, request))


def _alive(settings: Settings, name: str) -> list[str]:
    return [each["name"] for each in _status(settings).nodes if each["status"] == ALIVE and each["name"] not in (None, name)]


def _is_seen_by(settings: Settings, other: str, name: str) -> bool:
    said = ask(settings, ["STATUS", {"of": other, "brief": True}])
    return any(row[0] == name and row[2] == ALIVE for row in said.nodes)


def _missed(settings: Settings, other: str, name: str) -> str:
    """Why the other one, which sees this node because this one has called it, does not get here; "" when it does."""
    try:
        said: Checkup = ask(settings, ["DOCTOR", {"of": other, "visit": name}], VISIT_SECONDS)
    except BDError:  # it visits for somebody else, or is too old to be asked
        return ""
    visits = [visit for visit in map(checkup.from_json, said.visits) if visit.name == name]
    return next((each.line for each in checkup.findings({other: visits}) if each.severity is Severity.GRAVE), "")


def _doubt(settings: Settings) -> str:
    warnings = _status(settings).own["warnings"]
    return warnings[0] if warnings else "it has met nobody yet"


def invite(settings: Settings) -> tuple[str, str]:
    """(a token, the address to bring it to) for the next host."""
    until = time.monotonic() + READY_SECONDS
    while True:
        try:
            said: Invited = ask(settings, ["INVITE", {"seconds": INVITATION_SECONDS}])
        except NobodyThere:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return said.token, said.address
