"""One look at the mesh for all who ask at the same time: a change wakes every page that is open, and each would crawl.

Whoever asks while a crawl is under way waits for it, and takes it if it has begun no more than SHARED_SECONDS before they
asked: so nobody is shown what was before the change that woke them (pages wait longer than that before they ask).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bdserver.audit.crawl import About, Crawl

# page.js: TOGETHER.
SHARED_SECONDS = 0.3
KEPT_MAX = 16


def shared(take: Callable[[About], Crawl], clock: Callable[[], float] = time.monotonic) -> Callable[[About], Crawl]:
    """As `take`, for many threads."""
    lock = threading.Lock()
    kept: dict[About, tuple[float, Crawl]] = {}

    def one(about: About) -> Crawl:
        asked_at = clock()
        with lock:
            began, found = kept.get(about, (float("-inf"), None))
            if found is not None and began >= asked_at - SHARED_SECONDS:
                return found
            began = clock()
            kept.pop(about, None)
            kept[about] = began, take(about)
            while len(kept) > KEPT_MAX:
                del kept[next(iter(kept))]
            return kept[about][1]

    return one
