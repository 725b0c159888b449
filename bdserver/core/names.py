"""The one rule for names of nodes, services and meshes: safe in files, URLs, certificates and logs alike."""

from __future__ import annotations

import re
from functools import lru_cache

# 100: with .bdcert or .bdlog behind it, a name fits into every file system's 255 bytes.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


# A look-up checks the same few names again and again; a mesh has some thousands of them.
@lru_cache(maxsize=8192)
def valid_name(name: str) -> bool:
    """1 to 100 of letters, digits, `._-`, not beginning with `.` or `-`; not one that a sidecar could have."""
    return _NAME.fullmatch(name) is not None and not name.endswith(".bdcert")
