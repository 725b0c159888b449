"""How a fuzz target runs: for as long as you like by atheris, in `make check` for a second from a seed that is printed.

A target is a module with its invariant in its first docstring and
    SEEDS      what is well formed, to begin with
    TOKENS     what mutation puts in, beside bytes
    one(data)  tries these bytes: whether they were taken; an AssertionError, or any error that the invariant does not name, is a find
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from random import Random


def mutated(data: bytes, tokens: Sequence[bytes], rng: Random) -> bytes:
    """These bytes with a few changes: a byte set, a span gone or repeated elsewhere, a token put in or over."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        where = rng.randrange(len(changed) + 1)
        change = rng.randrange(5)
        if change == 0:
            changed[where : where + 1] = rng.randbytes(1)
        elif change == 1:
            del changed[where : where + rng.randrange(1, 20)]
        elif change == 2:
            begin = rng.randrange(len(changed) + 1)
            changed[where:where] = changed[begin : begin + 40]
        elif change == 3:
            changed[where:where] = rng.choice(tokens)
        else:
            token = rng.choice(tokens)
            changed[where : where + rng.choice((1, len(token)))] = token
    return bytes(changed)


def fuzz(one: Callable[[bytes], bool], seeds: Sequence[bytes]) -> int:
    """Run a target by atheris until it finds something, or as libFuzzer's options (-max_total_time=60) say. A find is kept in
    .cache/fuzz-crash-…; given as an argument, it is tried alone."""
    try:
        import atheris
    except ImportError:
        print(f"{sys.argv[0]}: needs atheris: {sys.executable} -m pip install atheris", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            with open(os.path.join(corpus, str(number)), "wb") as file:
                file.write(seed)
        atheris.instrument_all()
        os.makedirs(".cache", exist_ok=True)
        inputs = [each for each in sys.argv[1:] if not each.startswith("-")] or [corpus]
        options = [each for each in sys.argv[1:] if each.startswith("-")]
        atheris.Setup([sys.argv[0], "-artifact_prefix=.cache/fuzz-", *options, *inputs], lambda data: one(data) and None)
        atheris.Fuzz()
    return 0
