"""When which node was last spoken with: told to other processes now and then, bounded by who is known."""

import os

import pytest

from bdserver.files.heard import CLOCKS_MAX, LATE_SECONDS, REFUSALS_MAX, WRITE_SECONDS, Heard, Report


def test_our_clock_is_off_when_most_others_say_so(tmp_path):
    heard = Heard(str(tmp_path / "heard"))
    assert heard.report().clock_off is None
    heard.note_clock("c", 499.0)
    assert heard.report().clock_off == 499.0 and heard.report().clocks == 1
    heard.note_clock("a", 0.3)
    assert heard.report().clock_off == 0.3 and heard.report().clocks == 2
    heard.note_clock("b", 500.0)
    assert heard.report().clock_off == 499.0
    assert heard.write({"a"}, 0.0, 1000.0) and Heard(heard.path).report().clock_off == 499.0
    for number in range(CLOCKS_MAX):
        heard.note_clock(f"n{number}", 0.1)
    assert heard.report().clock_off == 0.1, "those asked last tell"
    heard.begin()
    assert Heard(heard.path).report().clock_off is None


def test_what_was_said_of_another_certificate_than_ours_of_now_is_forgotten(tmp_path):
    heard = Heard(str(tmp_path / "heard"))
    heard.note("c", 1.0)
    heard.note_visit("h:1", "forbidden", "the certificate of a is revoked")
    heard.note_refusal("b", "its certificate has ended")
    heard.write({"b"}, 0.0, 1000.0)
    heard.forgive()
    heard.write({"b"}, 0.0, 1000.0 + WRITE_SECONDS)
    report = Heard(heard.path).report()
    assert report.unmet == {} and report.refusals == {}


@pytest.mark.parametrize(("said", "clocks"), [("-1e300", 0), ("1e300", CLOCKS_MAX), ("2", 2)])
def test_a_damaged_count_of_clocks_is_none_that_could_not_be_written_again(tmp_path, said, clocks):
    path = tmp_path / "heard"
    path.write_text(f'{{"heard": {{}}, "lag": 0.0, "clocks": {said}}}')
    heard = Heard(str(path))
    assert heard.report().clocks == clocks
    heard.tell(("something",))
    assert Heard(str(path)).report() == heard.report()


def test_another_process_reads_what_the_discoverer_wrote(tmp_path):
    path = str(tmp_path / "n.bdheard")
    writer, reader = Heard(path), Heard(path)
    assert reader.report().times == {}
    writer.note("beta", 100.04)
    writer.write({"beta"}, 0.0, 100.0)
    assert reader.report().times == {"beta": 100.0}
    writer.note("beta", 101.0)
    writer.write({"beta"}, 0.0, 101.0)
    assert reader.report().times == {"beta": 100.0}, "not yet: it was written a second ago"
    writer.write({"beta"}, 0.0, 100.0 + WRITE_SECONDS)
    assert reader.report().times == {"beta": 101.0}


def test_a_quiet_node_writes_nothing_and_forgotten_names_go(tmp_path):
    path = str(tmp_path / "n.bdheard")
    heard = Heard(path)
    heard.write(set(), 0.0, 100.0)
    assert not os.path.exists(path)
    heard.note("beta", 100.0)
    heard.note("gone", 100.0)
    heard.write({"beta"}, 0.0, 100.0)
    before = os.stat(path).st_mtime_ns
    heard.write({"beta"}, 0.0, 200.0)
    assert os.stat(path).st_mtime_ns == before and Heard(path).report().times == {"beta": 100.0}


def test_what_cannot_be_read_is_as_if_it_were_not_there(tmp_path):
    path = tmp_path / "n.bdheard"
    for content in (
        b"",
        b"[]",
        b'{"beta": 1.0}',
        b'{"heard": {"beta": "x"}, "lag": 0}',
        b'{"heard": {}, "lag": "x"}',
        b"\xff",
        b'{"be',
        b"[" * 100_000,
    ):
        path.write_bytes(content)
        assert Heard(str(path)).report().times == {}
    path.unlink()
    os.mkfifo(path)
    assert Heard(str(path)).report().times == {}
    heard = Heard(str(tmp_path / "nowhere" / "n.bdheard"))
    heard.note("beta", 1.0)
    heard.write({"beta"}, 0.0, 100.0)


def test_a_file_that_is_gone_or_broken_meanwhile_leaves_what_was_known(tmp_path):
    path = tmp_path / "n.bdheard"
    path.write_text('{"heard": {"beta": 5}, "lag": 0.25}')
    reader = Heard(str(path))
    assert reader.report() == Report({"beta": 5.0}, 0.25)
    path.write_text('{"beta')
    assert reader.report().times == {"beta": 5.0}
    path.unlink()
    assert reader.report().times == {"beta": 5.0}


def test_a_lag_is_told_though_nobody_was_heard(tmp_path):
    path = str(tmp_path / "n.bdheard")
    heard = Heard(path)
    assert not heard.write(set(), LATE_SECONDS, 100.0) and heard.write(set(), 0.75, 100.0)
    assert Heard(path).report() == Report({}, 0.75)
    assert not heard.write(set(), 0.9, 104.0), "not yet: whoever noted it keeps it"
    assert heard.write(set(), 0.0, 105.0) and Heard(path).report() == Report({}), "a node that is alone is in time again"
    assert not heard.write(set(), 0.0, 120.0)
    assert heard.write(set(), 0.75, 20.0), "the clock was put back"


def test_who_refuses_our_record_is_told_until_it_does_no_longer(tmp_path):
    path = str(tmp_path / "n.bdheard")
    heard = Heard(path)
    heard.note_refusal("beta", "")
    assert not heard.write(set(), 0.0, 100.0), "that is nothing new"
    heard.note_refusal("beta", "its version is 2.0 days ahead of our clock")
    heard.note_refusal("gamma", "it is not signed")
    assert heard.write(set(), 0.0, 100.0)
    assert Heard(path).report().refusals == {"beta": "its version is 2.0 days ahead of our clock", "gamma": "it is not signed"}
    heard.note_refusal("beta", "")
    heard.write(set(), 0.0, 100.0 + WRITE_SECONDS)
    assert Heard(path).report().refusals == {"gamma": "it is not signed"}
    started = Heard(path)
    started.begin()
    assert started.report() == Heard(path).report() == Report({}), "a start begins anew with them"
    for number in range(2 * REFUSALS_MAX):
        heard.note_refusal(f"n{number}", "no")
    heard.write(set(), 0.0, 100.0 + 2 * WRITE_SECONDS)
    assert len(Heard(path).report().refusals) == REFUSALS_MAX


def test_why_a_node_was_not_met_and_who_suspected_us_is_told_until_it_is_over(tmp_path):
    path = str(tmp_path / "n.bdheard")
    heard = Heard(path)
    heard.note_visit("beta", "", "")
    heard.note_doubters((), 100.0)
    assert not heard.write(set(), 0.0, 100.0), "that is nothing new"
    for number in range(2 * REFUSALS_MAX):
        heard.note_visit(f"10.0.0.{number}:9001", "policy-mismatch", "no")
    heard.note_visit("10.0.0.1:9001", "refused", "y" * 1000)
    heard.note_visit("10.0.0.0:9001", "", "")
    heard.note_doubters(("beta", "gamma"), 100.0)
    assert heard.write(set(), 0.0, 100.0)
    report = Heard(path).report()
    assert len(report.unmet) == REFUSALS_MAX - 1 and report.doubted == (("beta", "gamma"), 100.0)
    assert report.unmet["10.0.0.1:9001"] == ("refused", "y" * 300) and report.unmet["10.0.0.2:9001"] == (
        "policy-mismatch",
        "no",
    )
    heard.note_visit("10.0.0.2:9001", "policy-mismatch", "no")
    assert not heard.write(set(), 0.0, 200.0), "the same as before"
    started = Heard(path)
    started.begin()
    assert started.report() == Heard(path).report() == Report({})
