"""`bdctl policy`: show a WS-Policy document in the original's form, or say whether two of them meet, and where not."""

from __future__ import annotations

import json

from bdserver.core import policy
from bdserver.core.policy import Policy
from bdserver.errors import PolicyMismatch
from bdserver.files import policyfile


def show_command(path: str, as_json: bool) -> int:
    """Print `(a /\\ b) V (c)`, or the normal form as JSON."""
    parsed = _read(path)
    print(json.dumps(policy.as_json(parsed), indent=2) if as_json else policy.show(parsed))
    return 0


def compare_command(path_a: str, path_b: str, mode: str, as_json: bool) -> int:
    """Print whether they meet and in which alternatives, else what stands alone on each side; exit 0 or 3."""
    a, b = _read(path_a), _read(path_b)
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


def _read(path: str) -> Policy:
    policy_in_file = policyfile.read(path, pipes=True).policy
    assert policy_in_file is not None  # there is none without a path
    return policy_in_file
