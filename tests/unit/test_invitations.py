"""The invitations of a signer and what it has signed, in two files that several processes change."""

import contextlib
import os
import threading

import pytest

from bdserver.core.joining import TOLD_SECONDS, Invitation
from bdserver.core.roles import NODE
from bdserver.errors import BadConfig, CantFind, TooBusy
from bdserver.files import invitations as module
from bdserver.files.invitations import Invitations, Signed

NOW = 1_000_000.0


@pytest.fixture
def kept(tmp_path):
    return Invitations(str(tmp_path / "me.bdinvitations"))


def invitation(id_="a", until=NOW + 600):
    return Invitation(id_, "hash", "", NODE, 1, NOW, until, "ann")


def signed(name, key="k", until=NOW + 600, at=NOW):
    return Signed(name, "node", key, "ab", at, until, "invitation a")


def test_an_invitation_is_kept_by_all_processes_and_nobody_else_reads_it(kept):
    assert not kept.are_there(NOW) and kept.book().invitations == {}
    kept.add(invitation(), NOW)
    assert Invitations(kept.path).book().invitations == {"a": invitation()} and kept.are_there(NOW)
    assert os.stat(kept.path).st_mode & 0o777 == 0o600
    kept.revoke("a", NOW)
    assert not kept.are_there(NOW)
    with pytest.raises(CantFind, match="no such invitation"):
        kept.revoke("a", NOW)


def test_what_ended_a_day_ago_is_forgotten_and_what_was_signed_with_its_end(kept):
    kept.add(invitation(), NOW)
    late = NOW + 600 + TOLD_SECONDS
    assert kept.are_there(late) and not kept.are_there(late + 1)
    with kept.locked(NOW) as book:
        book.signed += [signed("beta"), signed("beta", "other", at=NOW + 5), signed("gamma", until=NOW - 1)]
    book = kept.book()
    assert book.keys_of("beta") == {"k", "other"} and book.keys_of("gamma") == set()
    assert book.given_at("beta", "k") == NOW + 5 and book.given_at("zeta", "k") == 0.0
    kept.add(invitation("b", late + 900), late + 2)
    assert list(kept.book().invitations) == ["b"] and kept.book().signed == []


def test_neither_file_grows_above_what_its_reader_takes(kept, monkeypatch):
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 2000)
    for number in range(100):
        try:
            with kept.locked(NOW) as book:
                book.note(signed("beta", f"k{number}"))
                book.note(signed(f"node{number}"))
        except TooBusy as error:
            assert "no room" in str(error)
            break
    assert 10 < number < 99 and os.path.getsize(kept.path + ".signed") <= 2000
    assert kept.book().keys_of("beta") == {f"k{number - 1}"} and kept.book().keys_of("node3") == {"k"}
    with kept.locked(NOW + 601) as book:
        book.note(signed("late", until=NOW + 9999))
    assert [each.name for each in kept.book().signed] == ["late"]
    for number in range(10):
        kept.add(invitation(f"i{number}"), NOW)
    monkeypatch.setattr(module, "FILE_BYTES_MAX", os.path.getsize(kept.path))
    with pytest.raises(TooBusy, match="no room"):
        kept.add(invitation("late"), NOW)
    assert "i3" in kept.book().invitations
    kept.revoke("i3", NOW)


def test_of_each_name_the_last_few_are_kept(kept, monkeypatch):
    with kept.locked(NOW) as book:
        book.note(signed("gamma"))
        for number in range(20):
            assert book.has_many("beta", "node", NOW - 1) == (number >= module.SIGNED_KEPT)
            book.note(signed("beta", f"k{number}"))
        assert not book.has_many("beta", "node", NOW)
    assert len(kept.book().signed) == module.SIGNED_KEPT + 1 and kept.book().signed[-1].key == "k19"


def test_what_strangers_try_waits_for_no_disk(kept, monkeypatch):
    kept.add(invitation(), NOW)
    synced = []
    real = module.durable.replace
    monkeypatch.setattr(module.durable, "replace", lambda *words, **more: (synced.append(more), real(*words, **more)))
    with kept.locked(NOW) as book:
        book.unknown += 1
        book.invitations["a"] = invitation()._replace(wrong=1)
    assert [each["is_synced"] for each in synced] == [False] and kept.book().invitations["a"].wrong == 1


def test_what_is_counted_is_saved_whatever_ends_the_work(kept):
    kept.add(invitation(), NOW)
    with contextlib.suppress(KeyError), kept.locked(NOW) as book:
        book.unknown += 1
        raise KeyError
    assert kept.book().unknown == 1


def test_there_is_an_end_to_invitations(kept, monkeypatch):
    monkeypatch.setattr(module, "INVITATIONS_MAX", 1)
    kept.add(invitation(), NOW)
    with pytest.raises(TooBusy, match="are open already"):
        kept.add(invitation("b"), NOW)


def test_invitations_that_are_over_make_room_for_new_ones_the_oldest_first(kept, monkeypatch):
    monkeypatch.setattr(module, "INVITATIONS_MAX", 2)
    kept.add(invitation("a", NOW + 600), NOW)
    kept.add(invitation("b", NOW + 500), NOW)
    kept.add(invitation("c", NOW + 900), NOW + 700)
    assert list(kept.book().invitations) == ["a", "c"], "b ended before a did"
    kept.add(invitation("d", NOW + 10 * TOLD_SECONDS), NOW + 2 * TOLD_SECONDS)
    assert list(kept.book().invitations) == ["d"], "and nobody had to be told of the others any more"
    kept.add(invitation("e", NOW + 10 * TOLD_SECONDS), NOW + 2 * TOLD_SECONDS)
    with pytest.raises(TooBusy, match="are open already"):
        kept.add(invitation("f", NOW + 10 * TOLD_SECONDS), NOW + 2 * TOLD_SECONDS)


def test_one_process_at_a_time_changes_them(kept, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with kept.locked(NOW):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(10)
    with pytest.raises(TooBusy, match="its lock was not to be had"):
        kept.add(invitation(), NOW)
    leave.set()
    thread.join()
    kept.add(invitation(), NOW)


@pytest.mark.parametrize("text", ["x", "[]", '{"invitations": [5], "unknown": 0}', '{"invitations": []}'])
def test_a_damaged_file_lets_nobody_in_and_is_said(kept, text, caplog):
    with open(kept.path, "w") as file:
        file.write(text)
    if text == "[]":
        assert not kept.are_there(NOW)
        return
    assert not kept.are_there(NOW) and "nobody is let in" in caplog.text
    with pytest.raises(BadConfig, match="damaged|can't be read"):
        kept.add(invitation(), NOW)


@pytest.mark.parametrize("text", ["x", "[[1]]", "[5]"])
def test_a_damaged_list_of_what_was_signed_is_said(kept, text):
    with open(kept.path + ".signed", "w") as file:
        file.write(text)
    with pytest.raises(BadConfig, match="damaged|can't be read"):
        kept.book()
