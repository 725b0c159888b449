"""How coverage is judged: by folder, by lines and by branches."""

import pytest

from tests.coverage_floor import Share, complaints, shares

LINES = {"covered_lines": 9, "num_statements": 10, "covered_branches": 1, "num_branches": 4, "percent_covered": 71.4}


def test_files_are_summed_by_folder():
    paths = ("bdserver/net/tls.py", "bdserver/net/client.py", "bdserver/core/gossip/ring.py", "bdserver/errors.py")
    report = {"files": {path: {"summary": dict(LINES)} for path in paths}}
    report["files"]["bdserver/net/tls.py"]["summary"] |= {"covered_lines": 40, "num_statements": 90}
    assert shares(report) == {".": Share(90, 25), "core": Share(90, 25), "net": Share(49, 25)}


def test_where_there_is_nothing_to_run_all_is_run():
    nothing = dict.fromkeys(LINES, 0)
    assert shares({"files": {"bdserver/net/__init__.py": {"summary": nothing}}}) == {"net": Share(100, 100)}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"net": Share(90, 80)}, []),
        ({"net": Share(89.99, 80)}, ["net fell below its floor: 89.99 % of its lines were run, and 90 % must be"]),
        ({"net": Share(90, 79)}, ["net fell below its floor: 79.00 % of its branches were run, and 80 % must be"]),
        ({"net": Share(90, 80), "new": Share(100, 100)}, ["new has no floor: give it one in coverage_floor.py"]),
        ({}, ["net has a floor, and nothing was measured of it"]),
    ],
)
def test_a_fall_below_a_floor_is_told(found, said):
    assert complaints(found, {"net": Share(90, 80)}) == said
