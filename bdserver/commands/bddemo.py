"""bddemo: a mesh of three nodes on this machine that tells its story; Ctrl-C ends it and leaves nothing behind.

bddemo [--seconds N] [--port 8460]
"""

from __future__ import annotations

import argparse
import sys

from bdserver.demo.ending import Ending
from bdserver.demo.story import PORT, Story


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when the story ended well, 1 when something in it did not happen."""
    options = _parser().parse_args(arguments)
    ending = Ending()
    ending.install()
    try:
        with Story(options.port, options.seconds, ending) as story:
            story.tell()
        ending.over()
    except KeyboardInterrupt:
        pass
    except (AssertionError, OSError) as error:
        words = f"{error.filename or 'this host'}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"bddemo: {words}", file=sys.stderr)
        return 1
    print("Everything is ended and cleaned up. Goodbye.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bddemo", description="A mesh of three nodes on this machine, and its story.")
    parser.add_argument("--seconds", type=float, help="end so long after the story (default: when you press Ctrl-C)")
    parser.add_argument("--port", type=int, default=PORT, help=f"of the page (default {PORT}); DNS has the next one")
    return parser
