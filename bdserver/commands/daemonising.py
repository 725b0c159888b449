"""What becomes of bdserverd's words: a check, or a node in the foreground or the background, a daemon in both.

Everything that may fail is tried before the process goes into the background; the first process then waits until the listener
answers. What the node does is `processes.run`'s business.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from argparse import Namespace

import daemon

from bdserver.errors import BDError, NotYet
from bdserver.processes import logs, startup, webserver
from bdserver.processes.run import run
from bdserver.processes.startup import Start
from bdserver.processes.webserver import Web

log = logging.getLogger("bdserver")

# Exit status 2 is for things that only an editor mends: another try is no use. Things that may pass by themselves are 1, as is
# any no of the host's.
TRY_AGAIN = 1
# What a node imports where it is first needed, since many never need it.
LATE = ("concurrent.futures.thread", "ctypes", "difflib", "filelock", "ssl", "tarfile")


def begin(options: Namespace) -> int:
    """Until the node's end, or in the background until the listener answers; the exit status."""
    os.umask(startup.UMASK)
    try:
        if options.check:
            node = startup.check(options.config, options.ws_policy, options.black_list)
            if not startup.claims(node.settings)[0].is_held():  # else the daemon has the port
                webserver.prepared(node.settings, startup.user_ids(node.settings), _say, is_check=True).close()
            print(f"{options.config}: ok: {node.name} of {node.mesh} at {node.address}")
            return 0
        files = options.config, options.ws_policy, options.black_list
        ready = startup.prepare(*files, _say, is_background=not options.foreground)
        web = _web(ready)
        return _in_foreground(ready, web) if options.foreground else _in_background(ready, web)
    except NotYet as error:
        _say(str(error))
        return TRY_AGAIN
    except BDError as error:
        _say(str(error))
        return error.exit
    except (OSError, daemon.daemon.DaemonError) as error:
        _say(": ".join(str(each) for each in (getattr(error, "filename", ""), getattr(error, "strerror", "") or error) if each))
        return TRY_AGAIN


def _web(start: Start) -> Web:
    with contextlib.ExitStack() as undone:
        for claim in start.claims:
            undone.callback(claim.remove)
        web = webserver.prepared(start.node.settings, start.owner, _say)
        undone.pop_all()
    return web


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"bdserverd: {line}", file=sys.stderr, flush=True)


def _in_foreground(start: Start, web: Web) -> int:
    handler, needed = logs.to_stderr(
        log_format=start.node.settings.log_format
    )  # before we become another user, who may not open root's pipe or terminal
    needed += _begun(start, web)
    logs.install(handler, start.node.settings.log_level)
    context = _context(start, needed, stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr, detach_process=False)
    with context, contextlib.ExitStack() as claimed:
        for claim in start.claims:
            claimed.enter_context(claim)
        run(start.node, start.sockets, start.claims, lambda: None)
    return 0


def _begun(start: Start, web: Web) -> list[int]:
    """The web server, before we become another user; what tells it that we live."""
    life = webserver.begin(start.node.settings, web)
    return [] if life is None else [life]


def _in_background(start: Start, web: Web) -> int:
    """Detach; the first process waits until the listener answers, or tells why it does not."""
    ready_read, ready_write = os.pipe()
    if os.fork() > 0:
        os.close(ready_write)
        with os.fdopen(ready_read) as ready:
            said = ready.readline()
        if said != "ready\n":
            _say(said.strip() or "ended before it was ready; see the log")
        return 0 if said == "ready\n" else TRY_AGAIN
    os.close(ready_read)

    def on_ready() -> None:
        os.write(ready_write, b"ready\n")
        os.close(ready_write)

    try:
        needed = [ready_write, *_begun(start, web)]
        with _context(start, needed, detach_process=True), contextlib.ExitStack() as claimed:
            for claim in start.claims:
                claimed.enter_context(claim)
            logs.install(
                logs.to_background(start.node.settings.log_file, start.node.settings.log_format), start.node.settings.log_level
            )
            run(start.node, start.sockets, start.claims, on_ready)
    except Exception as error:
        if logging.getLogger().handlers:  # this first: whoever is told that it ended looks into the log
            log.exception("the node ended")
        with contextlib.suppress(OSError):  # it was ready, and nobody reads any more
            os.write(ready_write, f"{error}\n".encode())
        return TRY_AGAIN
    return 0


def _import_late(uid: int) -> None:
    """At once, before this process becomes another user, who may not be allowed to read where Python imports from."""
    if uid != os.geteuid():
        for name in LATE:
            importlib.import_module(name)


def _context(start: Start, needed: list[int], **streams: object) -> daemon.DaemonContext:
    """A daemon's surroundings (PEP 3143), in the foreground too: / as its folder, its user, no core dump with keys in it."""
    uid, gid = start.owner
    _import_late(uid)
    if os.geteuid() == 0:
        os.setgid(gid)  # DaemonContext takes over the user's groups, and leaves root's as the first of them
    return daemon.DaemonContext(
        working_directory="/",
        umask=startup.UMASK,
        uid=uid,
        gid=gid,
        initgroups=os.geteuid() == 0,
        files_preserve=[
            *start.sockets.files(),
            *start.claims,
            *start.node.counters.share(),
            *start.node.purse.share(),
            *needed,
        ],
        signal_map={},
        **streams,
    )
