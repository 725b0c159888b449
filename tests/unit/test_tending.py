"""TEND, RETIRE, PLACE, of nodes in memory that give each other real packages."""

import itertools
import os

import pytest

from bdserver.core import copies, policy
from bdserver.core.membership import Copies, Withdrawal
from bdserver.core.messages import No, NotGiven, Ok, Yes
from bdserver.core.roles import ADMIN
from bdserver.errors import NobodyThere
from bdserver.files import package
from bdserver.processes.answers import tending
from bdserver.processes.describing import Told, update_own
from tests.unit.nodes import NOW, a_mesh, a_node, acquaint, document


def tend(node, *names):
    return node.ask("TEND", list(names or ("Echo",)), role=ADMIN)


def content(node, name="Echo"):
    with open(node.services.get(name).path, "rb") as file:
        return file.read()


def events(node):
    return [(each["what"], each["service"]) for each in node.journal.recent(9)]


def republish(node, text):
    """The file of Echo is another one now, and has its edition."""
    with open(os.path.join(node.settings.services_dir, "Echo"), "wb") as file:
        file.write(text)
    node.clock.now += 1
    assert tend(node) == Ok()


def with_copies(tmp_path, *names, **pairs):
    """(the node that has the original, and others with copies of it), who know each other."""
    origin, *others = nodes = a_mesh(tmp_path, "origin", *names)
    origin.offer("Echo", b"1", **pairs)
    tend(origin)
    for node in others:
        node.knows(origin)
        assert isinstance(node.ask("WILLYOUREPLICATE", "Echo", False), Yes)
    acquaint(*nodes)
    return nodes


# --- originals ------------------------------------------------------------------------------------------------------


def test_what_an_administrator_dropped_or_changed_gets_its_edition(tmp_path):
    node = a_node(tmp_path).offer("Echo", b"1", signer="joe", signature="by joe", is_seen=False)
    assert node.services.get("Echo").edition.digest == ""
    assert tend(node) == Ok()
    first = node.services.get("Echo")
    assert (first.edition.counter, first.signer, first.signature) == (NOW, "", "")
    assert node.cache.view().own.services["Echo"].edition == first.edition
    stamp = os.stat(os.path.join(node.settings.services_dir, "Echo.bdcert")).st_mtime_ns
    assert tend(node) == Ok() and os.stat(os.path.join(node.settings.services_dir, "Echo.bdcert")).st_mtime_ns == stamp
    republish(node, b"22")
    assert node.services.get("Echo").edition > first.edition


def test_what_fell_back_is_numbered_above_its_copies(tmp_path):
    origin, copy = with_copies(tmp_path, "copy")
    origin.services.relabel("Echo", lambda now: now._replace(edition=now.edition._replace(counter=5)))
    update_own(origin)
    view = origin.cache.view()
    assert copies.to_raise(view, "Echo", view.own.services["Echo"])
    tend(origin)
    assert origin.services.get("Echo").edition.counter == copy.services.get("Echo").edition.counter + 1


# --- copies ---------------------------------------------------------------------------------------------------------


def test_a_copy_becomes_the_new_edition_from_any_holder_of_it(tmp_path):
    origin, one, other = with_copies(tmp_path, "one", "other")
    republish(origin, b"2")
    one.knows(origin)
    assert tend(one) == Ok() and content(one) == b"2" and ("updated", "Echo") in events(one)
    here = one.services.get("Echo")
    assert (here.original, here.edition, here.arrived_at) == ("origin", origin.services.get("Echo").edition, NOW)
    other.knows(origin, one)
    other.network.trouble[origin.address] = NobodyThere("it died")
    assert tend(other) == Ok() and content(other) == b"2" and one.cache.view().own.services["Echo"].edition == here.edition


def test_what_nobody_gives_is_noted_and_the_old_one_stays_and_the_others_are_looked_after(tmp_path):
    origin, copy = with_copies(tmp_path, "copy")
    republish(origin, b"2")
    copy.offer("Mine", b"m").knows(origin)
    copy.network.trouble[origin.address] = NobodyThere("it died")
    (note,) = tend(copy, "Echo", "Mine", "Nothing").notes
    assert note.startswith("Echo: none of those that have edition") and content(copy) == b"1"
    assert copy.services.get("Mine").edition.digest


def test_a_copy_of_the_same_content_is_told_anew_without_a_package(tmp_path):
    origin, copy = with_copies(tmp_path, "copy")
    origin.services.relabel("Echo", lambda now: now._replace(edition=now.edition._replace(counter=now.edition.counter + 9)))
    update_own(origin)
    copy.knows(origin).network.called.clear()
    assert tend(copy) == Ok() and copy.network.called == []
    assert copy.services.get("Echo").edition == origin.services.get("Echo").edition


def test_a_copy_goes_with_what_is_withdrawn(tmp_path):
    origin, copy = with_copies(tmp_path, "copy")
    update_own(origin, Told(withdrawn={"Echo": Withdrawal(origin.services.get("Echo").edition.counter, int(NOW))}))
    assert tend(copy) == Ok() and copy.services.get("Echo") is not None  # it has not heard yet
    copy.knows(origin)
    assert tend(copy) == Ok() and copy.services.get("Echo") is None and copy.services.buried() == ["Echo"]
    assert ("withdrawn", "Echo") in events(copy) and "Echo" not in copy.cache.view().own.services
    assert copy.journal.recent(1)[0]["why"] == "origin has withdrawn it"


def test_a_copy_that_was_changed_by_hand_is_fetched_anew_where_somebody_has_it(tmp_path):
    _, copy = with_copies(tmp_path, "copy")
    with open(os.path.join(copy.settings.services_dir, "Echo"), "wb") as file:
        file.write(b"by hand")
    assert tend(copy) == Ok() and content(copy) == b"1"
    with open(os.path.join(copy.settings.services_dir, "Echo"), "wb") as file:
        file.write(b"by hand")
    with copy.cache.locked() as view:
        view.bury("origin", NOW)
    assert tend(copy) == Ok() and content(copy) == b"by hand"  # an orphan: nobody has it


def test_what_is_changed_while_it_is_hashed_is_no_edition_but_tried_again(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("Echo", b"1" * 1000)
    first, path = node.services.get("Echo"), os.path.join(node.settings.services_dir, "Echo")
    hash_ = package.edition_digest

    def cut_meanwhile(*arguments):
        os.truncate(path, 500)
        found = hash_(*arguments)
        os.truncate(path, 400)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(package, "edition_digest", cut_meanwhile)
        assert tend(node).notes == ["Echo: it was changed while it was hashed"]
    assert node.services.get("Echo") == first and node.cache.view().own.services["Echo"].edition == first.edition
    assert tend(node) == Ok() and node.services.get("Echo").edition.digest != first.edition.digest


def test_what_there_is_no_time_for_is_noted_and_what_was_done_is_done(tmp_path, monkeypatch):
    node = a_node(tmp_path).offer("A", b"a", is_seen=False).offer("B", b"b", is_seen=False)
    left = itertools.chain([9.0, 9.0], itertools.repeat(tending.LEFT_SECONDS))
    monkeypatch.setattr("bdserver.processes.session.Session.left", lambda session: next(left))
    assert tend(node, "A", "B").notes == ["B: there was no time left to look at it"]
    assert node.services.get("A").edition.digest and not node.services.get("B").edition.digest


# --- RETIRE and PLACE -----------------------------------------------------------------------------------------------


def test_a_copy_retires_when_it_can_be_spared(tmp_path):
    origin, copy = with_copies(tmp_path, "copy")
    assert copy.ask("RETIRE", "Echo", "nobody called it", role=ADMIN) == Ok()
    assert copy.services.get("Echo") is None and copy.journal.recent(1)[0]["why"] == "nobody called it"
    assert copy.ask("RETIRE", "Echo", "again", role=ADMIN) == Ok() and events(copy)[0] == ("retired", "Echo")
    assert origin.ask("RETIRE", "Echo", "an original never", role=ADMIN) == Ok() and origin.services.get("Echo")


@pytest.mark.parametrize("how", ["the original is dead", "so many are wanted"])
def test_a_copy_that_can_not_be_spared_any_more_stays(tmp_path, how):
    _, copy = with_copies(tmp_path, "copy", **({"replicas": 2} if how == "so many are wanted" else {}))
    if how == "the original is dead":
        with copy.cache.locked() as view:
            view.bury("origin", NOW)
    assert copy.ask("RETIRE", "Echo", "nobody called it", role=ADMIN) == Ok() and copy.services.get("Echo")


@pytest.mark.parametrize("wish", ["none", "meeting"])
def test_a_copy_goes_where_its_original_wants_none_any_more(tmp_path, wish):
    _, copy = with_copies(tmp_path, "copy", replicas=2)
    with copy.cache.locked() as view:
        record = view.records["origin"]
        said = {"Echo": record.services["Echo"]._replace(copies=Copies(wish))}
        for name in "AB":
            view.learn_policy(policy.digest(document(name)), document(name))
        view.put(record._replace(services=said, policy=policy.digest(document("A"))))
        view.put(view.own._replace(policy=policy.digest(document("B"))))
    assert copy.ask("RETIRE", "Echo", "not wanted here", role=ADMIN) == Ok()
    assert copy.services.get("Echo") is None and events(copy)[0] == ("retired", "Echo")


def test_the_last_copy_keeps_its_slot(tmp_path):
    origin, holder, copy = a_mesh(tmp_path, "origin", "holder", "copy", max_dynamic=1)
    origin.offer("Echo", b"1")
    holder.offer("Other", b"o")
    acquaint(origin, holder, copy)
    copy.ask("WILLYOUREPLICATE", "Echo")
    copy.clock.now += 61
    with copy.cache.locked() as view:
        view.bury("origin", NOW)
    assert copy.ask("WILLYOUREPLICATE", "Other") == No() and content(copy) == b"1"


def test_another_node_is_made_to_take_a_copy(tmp_path):
    origin, other = a_mesh(tmp_path, "origin", "other")
    origin.offer("Echo", b"1", replicas=2)
    tend(origin)
    acquaint(origin, other)
    assert origin.ask("PLACE", "Echo", "other", role=ADMIN) == Ok()
    here = other.services.get("Echo")
    assert (content(other), here.is_copy, here.original, here.replicas) == (b"1", True, "origin", 2)
    assert other.hitlog.runs("Echo", NOW) == []  # there was no call


def test_a_node_that_takes_none_says_why(tmp_path):
    origin, full, ready = a_mesh(tmp_path, "origin", "full", "ready")
    for name in ("Echo", "Nothing"):
        origin.offer(name, b"1", replicas=2)
    update_own(full, Told(draining=True))
    acquaint(origin, full, ready)
    assert origin.ask("PLACE", "Echo", "full", role=ADMIN) == No()
    os.unlink(os.path.join(origin.settings.services_dir, "Nothing"))
    os.mkfifo(os.path.join(origin.settings.services_dir, "Nothing"))
    assert origin.ask("PLACE", "Nothing", "ready", role=ADMIN) == NotGiven()
    with pytest.raises(NobodyThere, match="nobody of that name"):
        origin.ask("PLACE", "Echo", "unknown", role=ADMIN)


def test_nobody_is_made_to_take_a_copy_that_is_not_missing_any_more(tmp_path):
    origin, _ = with_copies(tmp_path, "copy", replicas=2)
    other = a_node(tmp_path, "other")
    acquaint(origin, other)
    assert origin.ask("PLACE", "Echo", "other", role=ADMIN) == Ok()
    assert other.services.get("Echo") is None and ("placed", "Echo") not in events(origin)
