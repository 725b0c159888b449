"""The last look-ups of a node: newest first, bounded, and half a note is none."""

from bdserver.processes.lookups import KEPT, SLOT_BYTES, LookUps
from tests.unit.forks import in_a_child


def details(service="Echo", asked=(("a", "NO", 1.0), ("b", "YES", 2.0)), **more):
    rows = [dict(zip(("node", "answer", "ms"), row, strict=True)) for row in asked]
    return {"url": "http://x/", "node": "b", "service": service, "phase": 1, "asked": rows, **more}


def test_the_newest_come_first_and_the_oldest_go():
    kept = LookUps()
    assert kept.recent() == []
    for number in range(KEPT + 10):
        kept.note(float(number), "192.0.2.1", details("Echo" if number % 2 else "Maps"))
    assert [each["at"] for each in kept.recent()] == [float(number) for number in range(KEPT + 9, 9, -1)]
    assert {each["service"] for each in kept.recent("Maps")} == {"Maps"} and len(kept.recent("Maps")) == KEPT // 2
    assert kept.recent()[0] == {
        "at": KEPT + 9.0,
        "service": "Echo",
        "client": "192.0.2.1",
        "node": "b",
        "phase": 1,
        "why": "",
        "asked": [["a", "NO", 1.0], ["b", "YES", 2.0]],
    }


def test_the_same_details_are_of_their_own_time_and_client_and_reason():
    kept, same = LookUps(), details()
    for at, client, why in ((1.0, "x", ""), (2.0, "x", ""), (3.0, "y", ""), (4.0, "y", "because")):
        kept.note(at, client, same, why)
    kept.note(5.0, "y", details("Maps"), "because")
    told = [(each["at"], each["service"], each["client"], each["why"]) for each in kept.recent()]
    assert told == [
        (5.0, "Maps", "y", "because"),
        (4.0, "Echo", "y", "because"),
        (3.0, "Echo", "y", ""),
        (2.0, "Echo", "x", ""),
        (1.0, "Echo", "x", ""),
    ]


def test_a_child_notes_for_all():
    kept = LookUps()
    in_a_child(lambda: kept.note(7.0, "x", details()))
    assert [each["at"] for each in kept.recent()] == [7.0]


def test_whatever_names_are_long_it_fits_or_is_left_out():
    kept = LookUps()
    long = "\N{SNOWMAN}" * 100
    kept.note(
        1.0,
        long,
        details("x" * 100, [(f"{number:0100}", "deadline", 1.0) for number in range(50)], why="y" * 1000, node="n" * 100),
    )
    [said] = kept.recent()
    assert said["asked"] == [] and len(said["why"]) == 100
    kept.note(2.0, long, details("x" * 1000, why=long))
    assert len(kept.recent()) == 1


def test_nobody_and_no_phase_are_said_as_such():
    kept = LookUps()
    kept.note(1.0, "x", details(node=None, phase=None, why="because") | {"node": None, "phase": None})
    assert (kept.recent()[0]["node"], kept.recent()[0]["phase"], kept.recent()[0]["why"]) == ("", 0, "because")


def test_what_was_half_written_is_not_told():
    kept = LookUps()
    kept.note(1.0, "x", details())
    kept.note(2.0, "x", details())
    at = 8 + 2 * SLOT_BYTES + 20
    kept._memory[at : at + 3] = b"\xff\x00!"
    assert [each["at"] for each in kept.recent()] == [1.0]


def test_a_time_that_another_one_has_written_belongs_to_no_look_up():
    kept = LookUps()
    kept.note(1.0, "x", details())
    at = 8 + SLOT_BYTES + 8
    kept._memory[at : at + 8] = bytes(8)
    assert kept.recent() == []
