"""How bddemo begins and ends; its story is told in tests/mesh/test_demo.py, with real daemons."""

import signal
from urllib.error import HTTPError, URLError

import dns.exception
import pytest

from bdserver.commands import bddemo
from bdserver.demo.ending import Ending
from bdserver.demo.story import PORT
from bdserver.errors import NobodyThere


class Story:
    """A story that goes as a test wants; `made`: ((port of its stage, seconds), whether it was cleaned up) of each."""

    made = []

    def __init__(self, stage, seconds):
        self.record = [(stage, seconds), False]
        self.made.append(self.record)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.record[1] = True

    def tell(self):
        self.happens()


@pytest.fixture
def story(monkeypatch):
    """Sets what happens in the story; returns the record of all that were begun."""
    before = {number: signal.getsignal(number) for number in Ending.NUMBERS}
    monkeypatch.setattr(bddemo, "Story", Story)
    monkeypatch.setattr(bddemo, "Stage", lambda port, ending: port)
    monkeypatch.setattr(Story, "made", [])

    def happens(what):
        monkeypatch.setattr(Story, "happens", staticmethod(what), raising=False)
        return Story.made

    yield happens
    for number, handler in before.items():
        signal.signal(number, handler)


GOODBYE = "Everything is ended and cleaned up. Goodbye.\n"


def test_a_story_that_ends_well(story, capsys):
    made = story(lambda: None)
    assert bddemo.main(["--seconds", "2.5", "--port", "8123"]) == 0 and made == [[(8123, 2.5), True]]
    assert capsys.readouterr() == (GOODBYE, "")
    assert bddemo.main([]) == 0 and made[1] == [(PORT, None), True]


@pytest.mark.parametrize("number", Ending.NUMBERS)
def test_each_way_to_end_it_leaves_nothing_behind(story, capsys, number):
    made = story(lambda: signal.raise_signal(number))
    assert bddemo.main([]) == 0 and made == [[(PORT, None), True]]
    assert capsys.readouterr() == (GOODBYE, "")


def test_an_interruption_comes_once_and_behind_what_is_done_whole(story):
    ending, done = Ending(), []
    ending.install()

    def step():
        with ending.held():
            signal.raise_signal(signal.SIGINT)
            done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["whole"]
    signal.raise_signal(signal.SIGTERM)  # while it is cleaned up: nothing


def test_nothing_is_interrupted_once_it_is_over(story):
    ending = Ending()
    ending.install()
    ending.over()
    with ending.held():
        signal.raise_signal(signal.SIGINT)


def test_what_did_not_happen_is_exit_1_and_one_line(story, capsys):
    def fails():
        raise AssertionError("not within 20 s: all nodes know the services")

    made = story(fails)
    assert bddemo.main([]) == 1 and made[0][1]
    assert capsys.readouterr() == ("", "bddemo: not within 20 s: all nodes know the services\n")


def test_what_the_host_refuses_is_one_line_too(story, capsys):
    def fails():
        raise OSError(28, "No space left on device", "/tmp")

    story(fails)
    assert bddemo.main([]) == 1
    assert capsys.readouterr().err == "bddemo: /tmp: No space left on device\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NobodyThere("alpha.sock: No such file (is bdserverd running?)"), "alpha.sock: No such file (is bdserverd running?)"),
        (HTTPError("http://127.0.0.1:1/Primes", 404, "Not Found", {}, None), "HTTP Error 404: Not Found"),
        (URLError("no route"), "<urlopen error no route>"),
        (dns.exception.Timeout(), "The DNS operation timed out."),
    ],
)
def test_whoever_does_not_answer_is_one_line_too(story, capsys, error, words):
    def fails():
        raise error

    made = story(fails)
    assert bddemo.main([]) == 1 and made[0][1]
    assert capsys.readouterr() == ("", f"bddemo: {words}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "soon"], "argument --seconds: 'soon' is no number"),
        (["--port", "x"], "argument --port: 'x' is no port from 1 to 65534, nor 0 for any"),
        (["--port", "65535"], "argument --port: '65535' is no port from 1 to 65534, nor 0 for any"),
        (["more"], "unrecognized arguments: more"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(story, capsys, arguments, words):
    made = story(lambda: None)
    with pytest.raises(SystemExit) as end:
        bddemo.main(arguments)
    assert end.value.code == 2 and made == []
    assert capsys.readouterr().err == f"bddemo: {words} (bddemo --help tells more)\n"


def test_a_port_and_the_version(capsys):
    assert [bddemo._parser().parse_args(["--port", port]).port for port in ("8461", "0")] == [8461, 0]
    with pytest.raises(SystemExit):
        bddemo.main(["--version"])
    assert capsys.readouterr().out.startswith("bddemo 1.")
