"""`bdctl policy`: show a WS-Policy document in the original's form, or say whether two of them meet, and where not."""

from __future__ import annotations

import json

from bdserver.core import policy
from bdserver.errors import BadConfig, PolicyMismatch


def show_command(path: str, as_json: bool) -> int:
    """Print `(a /\\ b) V (c)`, or the normal form as JSON."""
    parsed = read(path)
    print(json.dumps(policy.as_json(parsed), indent=2) if as_json else policy.show(parsed))
    return 0


def compare_command(path_a: str, path_b: str, mode: str, as_json: bool) -> int:
    """Print whether they meet and in which alternatives, else what stands alone on each side; exit 0 or 3."""
    a, b = read(path_a), read(path_b)
    common = policy.intersect(a, b, mode)
    if as_json:
        print(json.dumps({"compatible": bool(common.alternatives), "alternatives": len(common.alternatives)}))
    elif common.alternatives:
        print(f"compatible ({mode}): {policy.show(common)}")
    else:
        print(f"not compatible ({mode})")
        for path, ours, theirs in ((path_a, a, b), (path_b, b, a)):
            names = ", ".join(policy.alone(ours, theirs, mode)) or "nothing"
            print(f"  {path}: {names} has no counterpart")
    return 0 if common.alternatives else PolicyMismatch.exit


def read(path: str) -> policy.Policy:
    """The policy in a file; BadConfig, BadPolicy or TooLarge names file and line."""
    try:
        with open(path, "rb") as file:
            return policy.parse(file.read(policy.TEXT_BYTES_MAX + 1), path)
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from None
