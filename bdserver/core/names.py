"""The one rule for names of nodes, services and meshes: safe in files, URLs, certificates and logs alike."""

from __future__ import annotations

import re
from functools import lru_cache

# With .bdcert or .bdlog behind it, a name fits into every file system's 255 bytes.
NAME_CHARACTERS_MAX = 100
NAME_WORDS = f"1 to {NAME_CHARACTERS_MAX} of letters, digits and ._-"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def valid_name(name: str) -> bool:
    """1 to 100 of letters, digits, `._-`, not beginning with `.` or `-`; not one that a sidecar could have."""
    return len(name) <= NAME_CHARACTERS_MAX and _is_well_formed(name)


# A look-up checks the same few names again and again; a mesh has some thousands of them. What is remembered is short.
@lru_cache(maxsize=8192)
def _is_well_formed(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not name.endswith(".bdcert")
