"""TEND, RETIRE, PLACE: what becomes of copies, each with its event in the journal."""

import io
import os
import time

import pytest

from bdserver import errors
from bdserver.core.membership import Withdrawal
from bdserver.core.messages import No, NotGiven, Ok, Withdrawn
from bdserver.core.roles import ADMIN
from bdserver.files import package
from bdserver.files.bdcert import Service
from bdserver.processes.describing import Told, update_own

from .nodes import a_mesh, a_node, acquaint

ECHO = b"#!/bin/sh\necho v1\n"


def tend(*nodes):
    """Each looks after its Echo, and all hear of what came of it."""
    said = []
    for node in nodes:
        with node.call_me(ADMIN) as talk:
            said.append(talk.ask(["TEND", ["Echo"]], time.monotonic() + 50))
    acquaint(*nodes)
    return said


def write(node, content):
    with open(os.path.join(node.settings.services_dir, "Echo"), "wb") as file:
        file.write(content)


def a_copied_service(tmp_path, *more, replicas=3):
    """An original at `home`, a copy at `away`, and others."""
    home, away, *others = a_mesh(tmp_path, "home", "away", *more)
    home.offer("Echo", ECHO, replicas=replicas)
    tend(home)
    acquaint(home, away, *others)
    away.ask("WILLYOUREPLICATE", "Echo")
    acquaint(home, away, *others)
    return home, away, *others


def publish(node, content, **wishes):
    path, file = os.path.join(node.settings.var_dir, "to-publish"), io.BytesIO()
    with open(path, "wb") as source:
        source.write(content)
    length, sha256 = package.pack(Service("Echo", "static", 1.0, "", "none", path, 0.0), file)
    file.seek(0)
    return node.ask("PUBLISH", "Echo", {"bytes": length, "sha256": sha256, **wishes}, role=ADMIN, package=file)


def newest(node):
    """The newest event here, without when it was."""
    event = node.journal.recent(1)[0]
    assert event.pop("at") == node.clock()
    return event


def edition(node):
    return node.services.get("Echo").edition


def test_what_is_changed_by_hand_is_an_update_and_what_is_numbered_first_is_none(tmp_path):
    [home] = a_mesh(tmp_path, "home")
    home.offer("Echo", ECHO)
    tend(home)
    assert home.journal.recent(9) == [] and edition(home).digest
    write(home, b"v2")
    tend(home)
    why = "its files were changed here"
    assert newest(home) == {"what": "updated", "service": "Echo", "edition": edition(home).digest, "why": why}


def test_an_original_that_others_are_to_have_and_that_can_not_be_copied_says_why(tmp_path):
    home, _away = a_copied_service(tmp_path, replicas=0)
    home.offer("Alone", ECHO)
    for name in ("Echo", "Alone"):
        path = os.path.join(home.settings.services_dir, name)
        os.unlink(path)
        os.mkdir(path)
        os.symlink("/etc/passwd", os.path.join(path, "link"))
    [said] = tend(home)
    assert "Echo: others are to have it, and it can't be copied: " in said.notes[0]
    assert "Echo/link: only files and folders can be copied" in said.notes[0]
    [again] = tend(home)
    assert again.notes == said.notes, "as long as it is so"
    with home.call_me(ADMIN) as talk:
        assert not talk.ask(["TEND", ["Alone"]], time.monotonic() + 50).notes, "nobody else is to have it"
    os.unlink(os.path.join(home.settings.services_dir, "Echo", "link"))
    assert not tend(home)[0].notes and edition(home).digest


def test_a_copy_tells_that_it_was_updated_from_whom_and_to_what(tmp_path):
    home, away = a_copied_service(tmp_path)
    write(home, b"v2")
    tend(home)
    acquaint(home, away)
    tend(away)
    assert edition(away) == edition(home)
    event = {"what": "updated", "service": "Echo", "edition": edition(home).digest, "original": "home", "giver": "home"}
    assert newest(away) == event and home.journal.recent(1)[0]["what"] == "gave"


def test_an_edition_of_the_same_content_is_told_to_be_so(tmp_path):
    home, away = a_copied_service(tmp_path)
    home.services.relabel("Echo", lambda now: now._replace(edition=now.edition._replace(counter=now.edition.counter + 9)))
    update_own(home)
    acquaint(home, away)
    tend(away)
    assert edition(away) == edition(home) and newest(away)["why"] == "what it has is the same"


def test_a_new_edition_that_nobody_gives_is_a_refusal_that_is_told_once(tmp_path):
    home, away = a_copied_service(tmp_path)
    write(home, b"v2")
    tend(home)
    acquaint(home, away)
    home.network.trouble[home.address] = errors.NobodyThere("silent")
    for _ in range(3):
        [said] = tend(away)
        assert "gives it" in said.notes[0]
    assert [each["what"] for each in away.journal.recent(9)] == ["refused", "replicated"]
    assert newest(away)["why"] == f"none of those that have edition {edition(home).digest[:8]} of home gives it"


def test_a_copy_of_what_is_withdrawn_goes_and_says_why(tmp_path):
    home, away = a_copied_service(tmp_path)
    home.network.trouble[away.address] = errors.NobodyThere("silent")
    home.ask("WITHDRAW", "Echo", role=ADMIN)
    event = newest(home)
    assert (event["what"], event["asker"]) == ("withdrawn", "caller")
    acquaint(home, away)
    tend(away)
    assert newest(away) == {"what": "withdrawn", "service": "Echo", "why": "home has withdrawn it"}
    assert away.services.get("Echo") is None


def test_a_copy_that_retires_says_why(tmp_path):
    home, away = a_copied_service(tmp_path, replicas=0)
    assert away.ask("RETIRE", "Echo", "nobody called it for 600 s", role=ADMIN) == Ok()
    assert newest(away) == {"what": "retired", "service": "Echo", "why": "nobody called it for 600 s"}
    assert home.ask("RETIRE", "Echo", "no", role=ADMIN) == Ok() and home.services.get("Echo") is not None  # an original stays


def test_a_copy_that_is_placed_is_told_with_how_many_there_were(tmp_path):
    home, _, third = a_copied_service(tmp_path, "third")
    assert home.ask("PLACE", "Echo", "third", role=ADMIN) == Ok() and third.services.get("Echo").is_copy
    placed = [each for each in home.journal.recent(9) if each["what"] == "placed"]
    assert [(each["taker"], each["why"]) for each in placed] == [("third", "2 of 3 holders live")]
    assert newest(third)["why"] == "to stand by: fewer hold it than are wanted"


@pytest.mark.parametrize("case", ["no room", "not given"])
def test_a_node_that_takes_no_copy_is_a_refusal_that_is_told_once(tmp_path, case):
    home, _, third = a_copied_service(tmp_path, "third")
    if case == "no room":
        update_own(third, Told(draining=True))
    else:
        network = home.network
        network.trouble |= {each: errors.NobodyThere("silent") for each in network.nodes if each != third.address}
    answer, why = {"no room": (No(), "it has no room for a copy"), "not given": (NotGiven(), "nobody gives it a copy")}[case]
    for _ in range(3):
        assert home.ask("PLACE", "Echo", "third", role=ADMIN) == answer
    refused = [each for each in home.journal.recent(9) if each["what"] == "refused"]
    assert [(each["taker"], each["why"]) for each in refused] == [("third", why)]


def test_an_orphan_that_is_adopted_says_whose_it_was(tmp_path):
    home, away = a_copied_service(tmp_path)
    home.ask("WITHDRAW", "Echo", True, role=ADMIN)
    acquaint(home, away)
    away.ask("ADOPT", "Echo", role=ADMIN)
    event = newest(away)
    assert (event["what"], event["why"]) == ("adopted", "its original was at home")
    assert event["edition"] == edition(away).digest


# --- what an administrator does about a copy ----------------------------------------------------------------------


def test_a_copy_is_withdrawn_where_its_original_is_or_here_alone(tmp_path):
    home, away = a_copied_service(tmp_path)
    with pytest.raises(errors.BadService, match="Echo is a copy here, and its original is at home: withdraw it there, or"):
        away.ask("WITHDRAW", "Echo", role=ADMIN)
    assert away.ask("WITHDRAW", "Echo", True, role=ADMIN) == Withdrawn([], []) and away.services.get("Echo") is None
    assert home.services.get("Echo") is not None


def test_an_orphan_is_adopted_before_it_is_withdrawn(tmp_path):
    home, away = a_copied_service(tmp_path)
    home.ask("WITHDRAW", "Echo", True, role=ADMIN)
    acquaint(home, away)
    with pytest.raises(errors.BadService, match="nobody has its original: bdctl adopt it first"):
        away.ask("WITHDRAW", "Echo", role=ADMIN)


@pytest.mark.parametrize("is_there_already", [False, True])
def test_who_publishes_anew_what_others_have_orphans_of_is_told_and_takes_them_over(tmp_path, is_there_already):
    home, away, third = a_copied_service(tmp_path, "third")
    home.ask("WITHDRAW", "Echo", True, role=ADMIN)
    acquaint(home, away, third)
    if is_there_already:  # the same content, as a node has it that was named home before
        said = publish(third, ECHO)
        assert "whose original was at home: with --take-over they follow this one" in said.notes[-1]
        acquaint(home, away, third)
        assert tend(away) == [Ok()] and away.services.get("Echo").original == "home"
    said = publish(third, ECHO, take_over=True)
    assert not any("take-over" in note for note in said.notes) and newest(third)["why"] == "taken over from home"
    acquaint(home, away, third)
    tend(away)
    assert away.services.get("Echo").original == "third" and edition(away) == edition(third)


@pytest.mark.parametrize("asked", [("PUBLISH", {"bytes": 0, "sha256": "", "url": "http://u/x"}), ("STATEMENT",)])
def test_of_an_orphan_nobody_is_told_to_go_where_its_original_was(tmp_path, asked):
    home, away = a_copied_service(tmp_path)
    home.ask("WITHDRAW", "Echo", True, role=ADMIN)
    acquaint(home, away)
    command, *more = asked
    with pytest.raises(errors.BadService, match="nobody has its original: bdctl adopt it first"):
        away.ask(command, "Echo", *more, role=ADMIN)


def test_what_became_a_url_takes_its_copies_along_when_it_is_withdrawn(tmp_path):
    home, away = a_copied_service(tmp_path)
    home.ask("PUBLISH", "Echo", {"bytes": 0, "sha256": "", "url": "http://u/x"}, role=ADMIN)
    acquaint(home, away)
    home.ask("WITHDRAW", "Echo", role=ADMIN)
    acquaint(home, away)
    assert tend(away) == [Ok()] and away.services.get("Echo") is None and newest(away)["why"] == "home has withdrawn it"


def test_what_was_never_more_than_a_url_is_withdrawn_without_a_word_to_copies(tmp_path):
    home = a_node(tmp_path, "home").offer("Echo", None, url="http://u/x")
    assert home.ask("WITHDRAW", "Echo", role=ADMIN) == Withdrawn([], [])
    assert home.services.get("Echo") is None and home.cache.view().own.withdrawn == {}


def test_what_comes_back_from_the_graveyard_is_above_what_was_withdrawn_whatever_the_clock_says(tmp_path):
    home, _ = a_copied_service(tmp_path)
    home.ask("WITHDRAW", "Echo", role=ADMIN)
    last = int(home.clock()) + 5000  # a copy was above it: a clock was ahead
    update_own(home, Told(withdrawn={"Echo": Withdrawal(last, int(home.clock()))}))
    home.ask("RESTORE", "Echo", role=ADMIN)
    assert edition(home).counter > last and "Echo" in home.cache.view().own.services


def test_what_has_a_living_original_or_is_none_of_ours_is_not_adopted(tmp_path):
    home, away = a_copied_service(tmp_path)
    with pytest.raises(errors.BadService, match="Echo has its original at home, which lives: withdraw it there first"):
        away.ask("ADOPT", "Echo", role=ADMIN)
    with pytest.raises(errors.BadService, match="Echo is no copy here"):
        home.ask("ADOPT", "Echo", role=ADMIN)
    with pytest.raises(errors.BadService, match="Other: not offered here$"):
        home.ask("ADOPT", "Other", role=ADMIN)


def test_what_is_not_offered_here_is_told_with_where_it_is(tmp_path):
    home, away = a_copied_service(tmp_path)
    third = a_node(tmp_path, "third")
    acquaint(home, away, third)
    for request, kind in (("WITHDRAW", errors.CantFind), ("ADOPT", errors.BadService)):
        with pytest.raises(kind) as caught:
            third.ask(request, "Echo", role=ADMIN)
        assert str(caught.value).endswith(f"Echo: not offered here, its original is at home ({home.address})")


def test_what_is_published_over_a_copy_is_refused_until_it_is_to_be_taken_over(tmp_path):
    home, away = a_copied_service(tmp_path)
    wish = {"bytes": 0, "sha256": "", "url": "http://u/x"}
    with pytest.raises(
        errors.BadService, match="its original is at home: publish it there, or publish it here with --take-over"
    ):
        away.ask("PUBLISH", "Echo", wish, role=ADMIN)
    said = away.ask("PUBLISH", "Echo", {**wish, "take_over": True}, role=ADMIN)
    assert said.url == "http://u/x" and newest(away)["why"] == "taken over from home"
    assert not away.services.get("Echo").is_copy and home.services.get("Echo") is not None
