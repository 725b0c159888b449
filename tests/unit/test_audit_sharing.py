"""Pages that are woken together look at the mesh once; nobody is shown what was before they were woken."""

import threading

import pytest

from bdserver.audit import sharing
from bdserver.audit.crawl import About
from bdserver.errors import NobodyThere


def test_who_asks_while_somebody_looks_takes_what_comes():
    began, go, looks = threading.Event(), threading.Event(), []

    def take(about):
        looks.append(about)
        began.set()
        assert go.wait(20)
        return len(looks)

    one, found = sharing.shared(take), []
    first = threading.Thread(target=lambda: found.append(one(About())))
    first.start()
    assert began.wait(20)
    others = [threading.Thread(target=lambda: found.append(one(About()))) for _ in range(8)]
    for other in others:
        other.start()
    go.set()
    for thread in (first, *others):
        thread.join(20)
    assert len(found) == 9 and len(looks) <= 2, "those that had asked by then; one that came late may look again"


def test_what_is_older_is_looked_at_anew_and_each_page_has_its_own():
    now, looks = [100.0], []

    def take(about):
        looks.append(about)
        return len(looks)

    one = sharing.shared(take, lambda: now[0])
    assert [one(About()), one(About()), one(About(node="a")), one(About())] == [1, 1, 2, 1]
    now[0] += sharing.SHARED_SECONDS * 1.01
    assert one(About()) == 3
    for number in range(2 * sharing.KEPT_MAX):
        one(About(node=str(number)))
    assert one(About()) == 4 + 2 * sharing.KEPT_MAX, "no more are kept than a few"


def test_a_look_that_fails_is_nobody_elses():
    def take(about):
        looks.append(about)
        if len(looks) == 1:
            raise NobodyThere("x")
        return "well"

    looks = []
    one = sharing.shared(take)
    with pytest.raises(NobodyThere):
        one(About())
    assert one(About()) == "well"
