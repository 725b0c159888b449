"""bdwhereis: the answer alone on stdout, the exit status, and what stderr says. No node runs here."""

import json

import pytest

from bdserver import __version__, errors
from bdserver.commands import bdwhereis
from bdserver.core.messages import Mismatch, Nobody, Place
from tests.unit.canned import Node, let_in, outcome

DETAILS = {
    "url": "http://10.0.0.2:8080/axis/Echo?wsdl", "node": "beta", "service": "Echo", "phase": 1,
    "asked": [{"node": "alpha", "answer": "NO", "ms": 0.7}, {"node": "beta", "answer": "YES", "ms": 1.4}],
}  # fmt: skip
NONE = DETAILS | {"url": "", "node": ""}


@pytest.fixture
def node(monkeypatch):
    node = Node(WHEREIS=Place("10.0.0.2", 8080, "axis", DETAILS))
    let_in(monkeypatch, node)
    return node


@pytest.fixture
def run(capsys):
    return lambda *arguments: outcome(bdwhereis.main, arguments, capsys)


def test_the_url_alone(node, run):
    assert run("Echo") == (0, f"{DETAILS['url']}\n", "") and node.asked == [["WHEREIS", "Echo", None]]


def test_the_whole_answer_as_json(node, run):
    status, out, err = run("--json", "Echo")
    assert (status, json.loads(out), err) == (0, DETAILS, "")


def test_explain_tells_on_stderr_who_was_asked(node, run):
    told = "bdwhereis: alpha: NO in 0.7 ms\nbdwhereis: beta: YES in 1.4 ms\nbdwhereis: Echo: beta in phase 1\n"
    assert run("--explain", "Echo") == (0, f"{DETAILS['url']}\n", told)


def test_nobody_has_it_or_none_of_those_answers(node, run):
    node.answers["WHEREIS"] = Nobody(NONE | {"asked": []})
    assert run("Echo") == (1, "", "bdwhereis: Echo: nobody in the mesh has it\n")
    node.answers["WHEREIS"] = Nobody(NONE)
    status, out, err = run("--explain", "Echo")
    assert (status, out) == (1, "")
    assert err.splitlines()[-2:] == ["bdwhereis: Echo: nobody", "bdwhereis: Echo: the nodes that have it do not answer"]


def test_a_policy_goes_along_and_may_meet_nobodys(node, run, tmp_path):
    path = tmp_path / "p.xml"
    path.write_text('<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:a="urn:a"><a:x/></wsp:Policy>')
    node.answers["WHEREIS"] = Mismatch(NONE)
    assert run("--policy", str(path), "Echo") == (3, "", "bdwhereis: Echo: no holder's policy meets yours\n")
    assert node.asked == [["WHEREIS", "Echo", path.read_text()]]


def test_a_policy_that_is_none_is_not_sent(node, run, tmp_path):
    status, out, err = run("--policy", str(tmp_path / "none.xml"), "Echo")
    assert (status, out, node.asked) == (2, "", []) and err.startswith(f"bdwhereis: {tmp_path}/none.xml: ")


@pytest.mark.parametrize("kind", sorted(errors.BY_CODE.values(), key=lambda kind: kind.code))
def test_each_error_is_one_line_and_its_exit_status(node, run, kind):
    node.answers["WHEREIS"] = kind("this is why")
    status, out, err = run("Echo")
    assert (out, err) == ("", "bdwhereis: this is why\n")
    assert status == kind.exit


def test_a_config_that_may_not_be_read_is_one_line_without_a_number(run, tmp_path):
    status, out, err = run("--config", str(tmp_path / "none.conf"), "Echo")
    assert (status, out) == (2, "") and err == f"bdwhereis: {tmp_path}/none.conf: No such file or directory\n"


def test_what_is_no_service_s_name_is_not_asked_for(node, run):
    status, out, err = run("a b")
    assert (status, out, node.asked) == (2, "", [])
    assert (
        err
        == "bdwhereis: argument SERVICE: 'a b' is no service's name: 1 to 100 of letters, digits and ._- (bdwhereis --help tells more)\n"
    )


def test_a_policy_without_a_name_is_no_look_up_without_a_policy(node, run):
    status, out, err = run("--policy", "", "Echo")
    assert (status, out, node.asked) == (2, "", []) and "--policy: an empty text is no path" in err


def test_version_and_wrong_usage(node, run):
    assert run("--version") == (0, f"bdwhereis {__version__}\n", "")
    status, out, err = run()
    assert (status, out) == (2, "") and err.startswith("bdwhereis: ") and err.count("\n") == 1 and "SERVICE" in err
