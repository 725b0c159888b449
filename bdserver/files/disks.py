"""What is left on the file systems that a node writes to. Asking never waits for a disk: statvfs is the kernel's own word."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from bdserver.core.attention import Disk


def look(folders: Iterable[str]) -> tuple[Disk, ...]:
    """Each file system once, by the first of these folders that lies on it; a folder that is not there is left out."""
    found: dict[int, Disk] = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            device = os.stat(folder).st_dev
            if device not in found:
                found[device] = _disk(folder, os.statvfs(folder))
    return tuple(found.values())


def _disk(folder: str, said: os.statvfs_result) -> Disk:
    """Blocks that root alone may use count as taken. A file system that makes inodes as it needs them counts none."""
    share = said.f_bavail / said.f_blocks if said.f_blocks else 1.0
    inodes = said.f_favail / said.f_files if said.f_files else 1.0
    left = said.f_bavail * said.f_frsize if said.f_blocks else 1 << 60
    return Disk(folder, left, share, inodes)
