"""whereis.cgi: where it leads a browser, and where never."""

import pytest

from bdserver.audit import whereis
from bdserver.audit.config import AuditConfig
from bdserver.core.messages import Mismatch, Nobody, Place, Status
from bdserver.errors import Deadline, Forbidden, NobodyThere, TooBusy
from bdserver.net import dialling
from tests.unit.canned import Node, own, seen

from .wsgi import answer

URL = "http://10.0.0.2:8080/axis/Echo?wsdl"


def place(url, node="beta"):
    details = {"url": url, "node": node, "service": "Echo", "phase": 1, "asked": [{"node": node, "answer": "YES", "ms": 1.0}]}
    return Place("10.0.0.2", 8080, "axis", details)


@pytest.fixture
def node(monkeypatch):
    """The local node: alpha, which knows beta."""
    node = Node(WHEREIS=place(URL), STATUS=Status(own(), [seen("alpha"), seen("beta", 2)]))
    monkeypatch.setattr(dialling, "dial_local", lambda path, deadline: node.dial())
    return node


def look_up(path="/Echo", method="GET", **values):
    return answer(whereis.application(AuditConfig("/x/audit.conf", values)), path=path, method=method)


def test_a_browser_is_led_to_the_host_that_serves_it_now(node):
    said = look_up()
    assert said["status"] == "302 Found" and said["headers"]["Location"] == URL
    assert said["body"] == f"{URL}\n".encode() and said["headers"]["Cache-Control"] == "no-store"
    assert look_up(method="POST")["status"] == "307 Temporary Redirect", "a call's body goes along"
    head = look_up(method="HEAD")
    assert head["status"] == "302 Found" and head["body"] == b""


@pytest.mark.parametrize("path", ["", "/", "/a/b", "/..", "/a b", "/" + "x" * 101])
def test_what_names_no_service_is_not_asked_for(node, path):
    said = look_up(path)
    assert said["status"].startswith("400") and b"whereis.cgi/" in said["body"] and node.asked == []


NONE = {"url": "", "node": "", "service": "Echo", "phase": 3, "asked": []}


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Nobody(NONE), "404"),
        (Mismatch(NONE), "403"),
        (Forbidden("revoked"), "403"),
        (NobodyThere("nobody"), "503"),
        (TooBusy("busy"), "503"),
        (Deadline("over"), "504"),
    ],
)
def test_why_there_is_none_is_a_status_and_a_line(node, result, status):
    node.answers["WHEREIS"] = result
    said = look_up()
    assert said["status"].startswith(status) and said["body"].count(b"\n") == 1 and "Location" not in said["headers"]


def test_it_leads_to_no_host_of_a_node_that_is_not_alive(node):
    ghost = seen("ghost", address="evil.example:9001")
    for status in ("dead", "left", "unvisited"):
        node.answers |= {"WHEREIS": place("http://evil.example/login"), "STATUS": Status(own(), [ghost | {"status": status}])}
        said = look_up()
        assert said["status"].startswith("403") and b"evil.example" in said["body"] and "Location" not in said["headers"]
    brief = ["ghost", "evil.example:9001", "dead", [1, 1], True, 0.0]
    node.answers["STATUS"] = Status(own(), [brief])
    assert look_up()["status"].startswith("403")
    node.answers["STATUS"] = Status(own(), [[*brief[:2], "alive", *brief[3:]]])
    assert look_up()["status"].startswith("302")


def test_it_leads_to_a_host_outside_where_audit_conf_names_it(node):
    node.answers["WHEREIS"] = place("https://wiki.example.org/x")
    assert look_up()["status"].startswith("403")
    assert look_up(whereis_hosts=("wiki.example.org",))["headers"]["Location"] == "https://wiki.example.org/x"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "http://[x/",
        "http:///x",
        "//10.0.0.2/x",
        "file://10.0.0.2/etc",
        "http://10.0.0.2/é",
    ],
)
def test_it_leads_to_nothing_but_a_plain_url(node, url):
    node.answers["WHEREIS"] = place(url)
    said = look_up()
    assert said["status"].startswith("403") and b"names no URL that could be followed" in said["body"]


@pytest.mark.parametrize("url", ["http://10.0.0.2/a b", "http://10.0.0.2/\n", 'http://10.0.0.2/"'])
def test_a_node_that_names_what_is_no_url_gives_no_answer(node, url):
    node.answers["WHEREIS"] = place(url)
    assert look_up()["status"].startswith("502")


def test_the_policy_of_its_users_goes_along(node, tmp_path):
    path = tmp_path / "p.xml"
    path.write_text('<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:a="urn:a"><a:x/></wsp:Policy>')
    assert look_up(whereis_policy=str(path))["status"].startswith("302")
    assert node.asked[0] == ["WHEREIS", "Echo", path.read_text()]
