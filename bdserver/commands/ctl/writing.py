"""bdctl export --to FILE --then COMMAND: the file is there whole or not at all, and one that its reader refuses does not stay.

Written only when its content changed, beside and renamed into place, with mode and owner of the old one. Then the command runs.
When it fails (a check of the new file, a reload), the old file is put back, so that its reader can be started anew, and the
next export tries again; so it does when we were killed before the command had ended. The text is exporting's business.
"""

from __future__ import annotations

import contextlib
import os
import subprocess

from bdserver.errors import BadConfig, CommandFailed
from bdserver.files import durable

FILE_BYTES_MAX = 64 << 20


def write(path: str, text: str, command: str | None) -> bool:
    """Whether it was written. `command` is for the shell; CommandFailed when it ends badly."""
    path = os.path.realpath(path)  # a link stays one
    due = os.path.join(
        os.path.dirname(path), f".{os.path.basename(path)}.due"
    )  # there as long as the command has not ended well
    old, status = _content(path)
    if old == text.encode() and not (command and os.path.exists(due)):
        return False
    if command:
        durable.replace(due, [], is_synced=False)
    durable.replace(path, [text.encode()], like=status)
    if command:
        _run(command, path, old, status)
        os.unlink(due)
    return True


def _content(path: str) -> tuple[bytes | None, os.stat_result | None]:
    try:
        return durable.read(path, FILE_BYTES_MAX)
    except FileNotFoundError:
        return None, None
    except durable.Unfit as error:
        raise BadConfig(f"{durable.shown(path)}: {error.strerror}") from None


def _run(command: str, path: str, old: bytes | None, status: os.stat_result | None) -> None:
    code = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, check=False).returncode
    if code == 0:
        return
    how = f"exit status {code}" if code > 0 else f"signal {-code}"
    if old is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise CommandFailed(f"{command}: {how}; {durable.shown(path)} is not there, as before")
    durable.replace(path, [old], like=status)
    raise CommandFailed(f"{command}: {how}; {durable.shown(path)} is as it was before")
