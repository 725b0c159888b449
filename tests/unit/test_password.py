"""admin_password: plain or hashed."""

import os

import pytest

from bdserver.errors import TooBusy
from bdserver.files import password
from bdserver.files.password import WRONG_SECONDS, hash_password, is_guessed, is_hash, password_matches


def test_a_hash_matches_its_password_and_no_other_and_is_salted():
    stored = hash_password("Grüße ~ 1")
    assert is_hash(stored) and "Gr" not in stored
    assert password_matches("Grüße ~ 1", stored)
    assert not password_matches("Grüße ~ 2", stored)
    assert not password_matches(stored, stored)
    assert hash_password("Grüße ~ 1") != stored


def test_a_plain_password_matches_itself_alone():
    assert password_matches("open sesame", "open sesame")
    assert not password_matches("open sesam", "open sesame")


def test_where_no_password_is_stored_nothing_matches():
    assert not password_matches("", "")
    assert not password_matches("a", "")


def test_half_a_character_from_the_wire_is_a_wrong_password():
    assert not password_matches("\ud800", "a")
    assert not password_matches("\ud800", hash_password("a"))


def test_the_remains_of_a_hash_match_nothing():
    whole = hash_password("a")
    head, salt, digest = whole.rsplit("$", 2)
    remains = [
        *("scrypt$", "scrypt$16384", whole[:-2], whole[:-1], whole + "00", whole + "$", whole.replace("scrypt$", "scrypt$$")),
        *(f"{head}${salt}$xyz", f"{head}$${digest}", whole.replace("$16384$", "$16385$"), whole.replace("$16384$", "$0$")),
        whole.replace("$16384$", f"${2**40}$"),  # a terabyte to check it
        whole.replace("$16384$", "$-2$"),
    ]
    for each in remains:
        assert not is_hash(each)
        assert not password_matches("a", each)


def test_a_hash_of_other_costs_still_matches(monkeypatch):
    monkeypatch.setattr(password, "COST", 2**10)
    stored = hash_password("a")
    monkeypatch.undo()
    assert password_matches("a", stored)


@pytest.mark.parametrize("text", ["", "plain", "scrypt", "$16384$8$1$00$00"])
def test_a_plain_text_is_no_hash(text):
    assert not is_hash(text)


# --- guesses ------------------------------------------------------------------------------------------------------


def test_a_wrong_one_is_followed_by_a_pause_in_which_none_is_compared_and_the_right_one_by_none(tmp_path, monkeypatch):
    stored, pauses = hash_password("secret"), []

    def pause(seconds):
        pauses.append(seconds)
        with monkeypatch.context() as patch:
            patch.setattr(password, "password_matches", lambda *_: pytest.fail("it was compared"))
            with pytest.raises(TooBusy):
                is_guessed("secret", stored, str(tmp_path))

    monkeypatch.setattr(password.time, "sleep", pause)
    assert not is_guessed("wrong", stored, str(tmp_path)) and pauses == [WRONG_SECONDS]
    assert is_guessed("secret", stored, str(tmp_path)) and pauses == [WRONG_SECONDS]


def test_one_process_compares_at_a_time(tmp_path, monkeypatch):
    """A forked one compares, until it is told to go on."""
    has_begun, begun = os.pipe()
    go_on, may_go_on = os.pipe()
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(password, "password_matches", lambda *_: os.write(begun, b"!") and os.read(go_on, 1) == b"!")
        os._exit(0 if is_guessed("a", "a", str(tmp_path)) else 1)
    assert os.read(has_begun, 1) == b"!"
    with pytest.raises(TooBusy):
        is_guessed("a", "a", str(tmp_path))
    os.write(may_go_on, b"!")
    assert os.waitpid(pid, 0)[1] == 0 and is_guessed("a", "a", str(tmp_path))
    for each in (has_begun, begun, go_on, may_go_on):
        os.close(each)
