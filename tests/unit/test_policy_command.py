"""bdctl policy: WS-Policy documents in the original's form, and whether two of them meet."""

import json

import pytest

from bdserver.commands import bdctl
from tests.unit.canned import outcome

HEAD = '<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:a="urn:a">'
TAIL = "</wsp:Policy>"


@pytest.fixture
def write(tmp_path):
    def write_policy(name, inside):
        path = tmp_path / name
        path.write_text(HEAD + inside + TAIL)
        return str(path)

    return write_policy


@pytest.fixture
def run(capsys):
    return lambda *arguments: outcome(bdctl.main, ["policy", *arguments], capsys)


def test_show_prints_the_originals_form(write, run):
    path = write("p.xml", "<wsp:ExactlyOne><wsp:All><a:x/><a:y/></wsp:All><a:z/></wsp:ExactlyOne>")
    assert run("show", path) == (0, "(x /\\ y) V (z)\n", "")
    assert run("show", write("n.xml", "<wsp:ExactlyOne/>")) == (0, "NULL\n", "")


def test_show_as_json(write, run):
    _, out, _ = run("show", write("p.xml", '<a:x wsp:Ignorable="true"/>'), "--json")
    assert json.loads(out) == {"alternatives": [[{"name": "{urn:a}x", "nested": None, "ignorable": True}]]}


def test_compare_says_where_they_meet(write, run):
    a, b = write("a.xml", "<wsp:ExactlyOne><a:x/><a:y/></wsp:ExactlyOne>"), write("b.xml", "<a:y/>")
    assert run("compare", a, b) == (0, "compatible (lax): (y)\n", "")
    status, out, _ = run("compare", a, b, "--json")
    assert (status, json.loads(out)) == (0, {"compatible": True, "alternatives": 1})


def test_compare_says_what_stands_alone(write, run):
    a, b = write("a.xml", "<a:x/>"), write("b.xml", "<a:y/>")
    status, out, err = run("compare", a, b)
    assert (status, err) == (3, "")
    assert out.splitlines() == [
        "not compatible (lax)",
        f"  {a}: {{urn:a}}x has no counterpart",
        f"  {b}: {{urn:a}}y has no counterpart",
    ]
    status, out, _ = run("compare", a, b, "--json")
    assert (status, json.loads(out)) == (3, {"compatible": False, "alternatives": 0})


def test_of_two_that_meet_in_no_whole_alternative_nothing_stands_alone(write, run):
    a = write("a.xml", "<wsp:ExactlyOne><wsp:All><a:x/><a:y/></wsp:All><a:z/></wsp:ExactlyOne>")
    status, out, _ = run("compare", a, write("b.xml", "<wsp:ExactlyOne><a:x/><a:y/></wsp:ExactlyOne>"))
    assert status == 3 and "nothing has no counterpart" in out


def test_the_mode_decides_about_what_may_be_ignored(write, run):
    a, b = write("a.xml", '<a:x/><a:y wsp:Ignorable="true"/>'), write("b.xml", "<a:x/>")
    assert run("compare", a, b, "--mode", "lax")[0] == 0
    assert run("compare", a, b, "--mode", "strict")[0] == 3


def test_a_bad_document_is_exit_2_with_file_and_line(write, run):
    path = write("p.xml", "\n<a:x>")
    assert run("show", path) == (2, "", f"bdctl: {path}:2: mismatched tag\n")
    assert run("show", "/nowhere.xml") == (2, "", "bdctl: /nowhere.xml: No such file or directory\n")


@pytest.mark.parametrize("arguments", [["compare", "{}"], ["show", "{}", "{}"], ["compare", "{}", "{}", "{}"]])
def test_as_many_files_as_there_are_to_show_or_compare(write, run, arguments):
    path = write("p.xml", "<a:x/>")
    said = run(*(each.format(path) for each in arguments))
    assert said == (2, "", "bdctl: policy show FILE, or policy compare FILE FILE\n")
