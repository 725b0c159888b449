"""The journal: whole lines, newest first, bounded, and never in the way of the deed."""

import json
import multiprocessing
import os

from bdserver.files import journal
from bdserver.files.journal import Journal


def test_newest_first_and_no_more_than_asked(tmp_path):
    mine = Journal(str(tmp_path / "n.bdjournal"))
    assert mine.recent(5) == []
    for number in range(7):
        mine.note("gave", f"S{number}", 100.0 + number, taker="beta")
    assert [event["service"] for event in mine.recent(3)] == ["S6", "S5", "S4"]
    assert mine.recent(1) == [{"at": 106.0, "what": "gave", "service": "S6", "taker": "beta"}]
    assert len(mine.recent(100)) == 7


def test_two_files_bound_it_and_the_newest_are_always_there(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FILE_BYTES_MAX", 2000)
    mine = Journal(str(tmp_path / "n.bdjournal"))
    for number in range(500):
        mine.note("replicated", f"S{number}", float(number))
        assert mine.recent(1)[0]["service"] == f"S{number}"
    assert sum(os.path.getsize(tmp_path / name) for name in os.listdir(tmp_path)) < 2 * 2100
    assert [event["service"] for event in mine.recent(10)] == [f"S{number}" for number in range(499, 489, -1)]


def test_what_is_no_event_is_passed_over(tmp_path):
    path = tmp_path / "n.bdjournal"
    mine = Journal(str(path))
    mine.note("gave", "S", 1.0)
    with open(path, "ab") as file:
        file.write(b'\xff\xfe\n[]\n{"at": 1}\n\n{"at": 2, "what": "gave", "ser')
    assert [event["at"] for event in mine.recent(10)] == [1.0]


def _write(path, who):
    mine = Journal(path)
    for number in range(300):
        mine.note("gave", f"{who}-{number}", float(number))


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = str(tmp_path / "n.bdjournal")
    writers = [multiprocessing.Process(target=_write, args=(path, who)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    events = [json.loads(line) for line in open(path, "rb") if line.strip()]  # an empty one is possible, and harmless
    assert len(events) == 900 == len({event["service"] for event in events})


def test_half_a_line_that_a_full_disk_left_does_not_swallow_the_next_event(tmp_path):
    mine = Journal(str(tmp_path / "n.bdjournal"))
    (tmp_path / "n.bdjournal").write_bytes(b'{"at": 1, "what": "gave", "ser')
    mine.note("gave", "S", 2.0)
    assert [event["at"] for event in mine.recent(10)] == [2.0]


def test_a_short_write_is_finished(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
    mine = Journal(str(tmp_path / "n.bdjournal"))
    mine.note("gave", "S", 2.0, taker="beta")
    assert mine.recent(10) == [{"at": 2.0, "what": "gave", "service": "S", "taker": "beta"}]


def test_a_disk_that_takes_half_an_event_is_said(tmp_path, monkeypatch, caplog):
    real, full = os.write, os.open("/dev/full", os.O_WRONLY)
    halves = iter((lambda descriptor, data: real(descriptor, data[:10]), lambda _, data: real(full, data)))
    monkeypatch.setattr(os, "write", lambda descriptor, data: next(halves)(descriptor, data))
    Journal(str(tmp_path / "n.bdjournal")).note("gave", "S", 2.0)
    os.close(full)
    assert "No space left on device" in caplog.text


def test_a_pipe_of_its_name_keeps_nobody_waiting(tmp_path, caplog):
    os.mkfifo(tmp_path / "n.bdjournal")
    mine = Journal(str(tmp_path / "n.bdjournal"))
    mine.note("gave", "S", 1.0)
    assert mine.recent(5) == [] and "not a regular file" in caplog.text


def test_a_journal_that_cannot_be_written_costs_the_entry_only(tmp_path, caplog):
    mine = Journal(str(tmp_path / "nowhere" / "n.bdjournal"))
    mine.note("gave", "S", 1.0)
    assert mine.recent(5) == [] and "nowhere" in caplog.text


def test_what_is_tried_again_and_again_is_told_once(tmp_path):
    mine = Journal(str(tmp_path / "n.bdjournal"))
    for at in range(3):
        mine.note_once("refused", "S", float(at), taker="a", why="no room")
    mine.note_once("refused", "S", 3.0, taker="b", why="no room")
    mine.note("gave", "S", 4.0)
    assert [each["at"] for each in mine.recent(9)] == [4.0, 3.0, 0.0]
    for at in range(journal.REPEATS_LOOKED_AT):
        mine.note("gave", "S", 5.0 + at)
    mine.note_once("refused", "S", 99.0, taker="a", why="no room")
    assert mine.recent(1)[0]["at"] == 99.0, "what has long been pushed out is told again"
