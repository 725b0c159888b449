"""What of bdctl needs no node: policies, passwords, the table of commands."""

import json
import subprocess
import sys

import pytest

from bdserver.commands import bdctl
from bdserver.files.password import password_matches

HEAD = '<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:a="urn:a">'
TAIL = "</wsp:Policy>"


@pytest.fixture
def write(tmp_path):
    def write_policy(name, inside):
        path = tmp_path / name
        path.write_text(HEAD + inside + TAIL)
        return str(path)

    return write_policy


def run(capsys, *arguments):
    status = bdctl.main(list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_policy_show_prints_the_originals_form(write, capsys):
    path = write("p.xml", "<wsp:ExactlyOne><wsp:All><a:x/><a:y/></wsp:All><a:z/></wsp:ExactlyOne>")
    assert run(capsys, "policy", "show", path) == (0, "(x /\\ y) V (z)\n", "")
    assert run(capsys, "policy", "show", write("n.xml", "<wsp:ExactlyOne/>")) == (0, "NULL\n", "")


@pytest.mark.parametrize("order", [["--json", "policy", "show", "{}"], ["policy", "show", "{}", "--json"]])
def test_policy_show_as_json(write, capsys, order):
    path = write("p.xml", '<a:x wsp:Ignorable="true"/>')
    _, out, _ = run(capsys, *[each.format(path) for each in order])
    assert json.loads(out) == {"alternatives": [[{"name": "{urn:a}x", "nested": None, "ignorable": True}]]}


def test_policy_compare_says_where_they_meet(write, capsys):
    a = write("a.xml", "<wsp:ExactlyOne><a:x/><a:y/></wsp:ExactlyOne>")
    status, out, _ = run(capsys, "policy", "compare", a, write("b.xml", "<a:y/>"))
    assert status == 0 and "(y)" in out
    status, out, _ = run(capsys, "policy", "compare", a, write("b.xml", "<a:y/>"), "--json")
    assert (status, json.loads(out)) == (0, {"compatible": True, "alternatives": 1})


def test_policy_compare_says_what_stands_alone(write, capsys):
    status, out, _ = run(capsys, "policy", "compare", write("a.xml", "<a:x/>"), write("b.xml", "<a:y/>"))
    assert status == 3 and "a.xml: {urn:a}x has no counterpart" in out and "b.xml: {urn:a}y has no counterpart" in out


def test_the_mode_decides_about_what_may_be_ignored(write, capsys):
    a, b = write("a.xml", '<a:x/><a:y wsp:Ignorable="true"/>'), write("b.xml", "<a:x/>")
    assert run(capsys, "policy", "compare", a, b, "--mode", "lax")[0] == 0
    assert run(capsys, "policy", "compare", a, b, "--mode", "strict")[0] == 3


def test_a_bad_document_is_exit_2_with_file_and_line(write, capsys):
    path = write("p.xml", "\n<a:x>")
    status, out, err = run(capsys, "policy", "show", path)
    assert (status, out) == (2, "") and err == f"bdctl: {path}:2: mismatched tag\n"
    assert run(capsys, "policy", "show", "/nowhere.xml") == (2, "", "bdctl: /nowhere.xml: No such file or directory\n")
    assert run(capsys, "policy", "compare", path)[0] == 2


def test_a_password_is_hashed_from_standard_input():
    program = "import sys; from bdserver.commands.bdctl import main; sys.exit(main(['password']))"
    done = subprocess.run([sys.executable, "-c", program], input="open sesame\n", capture_output=True, text=True)
    assert done.returncode == 0 and "open sesame" not in done.stdout
    assert password_matches("open sesame", done.stdout.strip()) and not password_matches("open", done.stdout.strip())


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["hint"], ["policy", "show"]])
def test_wrong_usage_is_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        bdctl.main(arguments)
    assert end.value.code == 2


def test_no_node_is_exit_4_and_one_line(capsys, tmp_path):
    status, out, err = run(capsys, "--socket", str(tmp_path / "none.sock"), "status")
    assert (status, out) == (4, "") and err.count("\n") == 1 and "is bdserverd running?" in err
