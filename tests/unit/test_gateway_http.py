"""The gateway's HTTP: what each path answers, and what is refused."""

import io
import json
import threading

import pytest

from bdserver.core.messages import Mismatch, Nobody, Place, Status
from bdserver.errors import BadFrame, Deadline, NobodyThere, TooBusy
from bdserver.gateway import http
from bdserver.gateway.follower import Follower
from bdserver.gateway.http import Gateway, target
from bdserver.gateway.lookups import Lookups
from bdserver.net import dialling
from tests.unit.canned import Node, own, seen

from .wsgi import answer

URL = "http://10.0.0.2:8080/axis/Echo?wsdl"
POLICY = b'<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy"/>'


def place(url=URL):
    return Place("10.0.0.2", 8080, "axis", {"url": url, "node": "b", "service": "Echo", "phase": 1, "asked": []})


@pytest.fixture
def node(monkeypatch):
    node = Node(WHEREIS=place(), STATUS=Status(own() | {"settings": {"port": "1"}}, [seen("alpha"), seen("b", 2)]))
    monkeypatch.setattr(dialling, "dial_local", lambda path, deadline: node.dial(deadline))
    return node


@pytest.fixture
def counted():
    return []


@pytest.fixture
def refused():
    return []


@pytest.fixture
def follower(node):
    return Follower(lambda: "", lambda: Status(own(), [seen("alpha")]))


@pytest.fixture
def gateway(node, follower, counted, refused):
    def audit(environ, start_response):
        start_response("200 OK", "")
        return [b"the audit"]

    return Gateway(
        Lookups("/x.sock", 1, 5.0),
        follower,
        hosts=("web.example",),
        watchers_max=1,
        audit=audit,
        metrics=lambda: b"bd 1\n",
        count=lambda *each: counted.append(each),
        refused=refused.append,
        boot="abc",
    )


def post(gateway, path, body, **environ):
    environ = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))} | environ
    return answer(gateway, path=path, method="POST", **environ)


def told(said):
    return json.loads(said["body"])


def asked_of(node):
    return node.requests()[-1]


# -- going to a service


@pytest.mark.parametrize(
    ("path", "query", "url"),
    [
        ("/Echo", "", URL),
        ("/Echo", "policy=", "/409"),
        ("/Echo", "xsd", "http://10.0.0.2:8080/axis/Echo?xsd"),
        ("/Echo", "%70olicy2=&a=%zz\xfc\r\n", "http://10.0.0.2:8080/axis/Echo?%70olicy2=&a=%zz%FC%0D%0A"),
        ("/Echo/", "", "http://10.0.0.2:8080/axis/Echo/"),
        ("/Echo/a/b", "x=1&y=%26", "http://10.0.0.2:8080/axis/Echo/a/b?x=1&y=%26"),
        ("/Echo/\r\nSet-Cookie: x", "", "http://10.0.0.2:8080/axis/Echo/%0D%0ASet-Cookie:%20x"),
        ("/Echo/ü", "", "http://10.0.0.2:8080/axis/Echo/%FC"),
    ],
)
def test_a_name_leads_to_its_host_and_what_is_below_it_to_the_same_there(gateway, path, query, url):
    said = answer(gateway, query, path)
    if url == "/409":
        assert said["status"].startswith("409")
        return
    assert said["status"] == "307 Temporary Redirect" and said["headers"]["Location"] == url
    assert said["headers"]["BD-Node"] == "b" and said["headers"]["Cache-Control"] == "no-store"


def test_a_call_of_any_method_goes_along_and_head_has_no_body(gateway):
    assert answer(gateway, path="/Echo", method="PUT")["status"].startswith("307")
    said = answer(gateway, path="/Echo", method="HEAD")
    assert said["status"].startswith("307") and said["body"] == b"" and said["headers"]["Content-Length"] == str(len(URL) + 1)
    said = answer(gateway, path="/Echo", method="BREW")
    assert said["status"].startswith("405") and "DELETE" in said["headers"]["Allow"]


def test_a_url_with_a_query_of_its_own_keeps_it_unless_the_caller_has_one():
    assert target("http://h/a?x=1", "", "policy2=y") == "http://h/a?policy2=y"
    assert target("http://h/a?x=1", "/b", "") == "http://h/a/b"
    assert target("http://h/a/", "/b", "") == "http://h/a/b"


@pytest.mark.parametrize(
    ("sent", "path", "expected"),
    [
        ("/Echo/a/b%2Fc%25?x=%2F", "/Echo/a/b/c%", "/a/b%2Fc%25"),
        ("/Ech%6f/a%2fb", "/Echo/a/b", "/a%2fb"),
        ("/Echo/caf%C3%A9/\xc3\xa9 \r\n", "/Echo/caf\xc3\xa9/\xc3\xa9 \r\n", "/caf%C3%A9/%C3%A9%20%0D%0A"),
        ("/Echo%2Fa/b", "/Echo/a/b", "/a/b"),
        ("http://localhost/Echo/a%2Fb", "/Echo/a/b", "/a/b"),
        ("/Other/a%2Fb", "/Echo/a/b", "/a/b"),
        ("", "/Echo/50%/b", "/50%25/b"),
        ("/Echo", "/Echo", ""),
    ],
)
def test_what_is_below_a_name_goes_on_as_it_was_sent_where_that_is_known(gateway, node, sent, path, expected):
    node.answers["WHEREIS"] = place("http://h:1/axis/Echo?wsdl")
    said = answer(gateway, path=path, REQUEST_URI=sent)
    assert said["headers"]["Location"] == "http://h:1/axis/Echo" + (expected or "?wsdl")


@pytest.mark.parametrize("url", ["ftp://h/", "http:///x", "http://h/ x", "http://h/\r\nX: y", "http://h/\u00fc", "x"])
def test_what_no_client_can_follow_is_said_instead(gateway, node, url):
    with pytest.raises(BadFrame):
        target(url, "", "")
    node.answers["WHEREIS"] = place(url)
    assert answer(gateway, path="/Echo")["status"].startswith("502")


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Nobody(place().details), "404", "cant-find"),
        (Mismatch(place().details), "403", "policy-mismatch"),
        (NobodyThere("it is not there"), "503", "nobody-there"),
        (TooBusy("no room"), "503", "too-busy"),
        (Deadline("late"), "504", "deadline"),
    ],
)
def test_why_there_is_no_host_is_a_status_and_a_code(gateway, node, outcome, status, code):
    node.answers["WHEREIS"] = outcome
    for path in ("/Echo", "/v1/whereis/Echo"):
        said = answer(gateway, path=path)
        assert said["status"].startswith(status) and told(said)["code"] == code and "ETag" not in said["headers"]
        assert ("Retry-After" in said["headers"]) == (status == "503")


@pytest.mark.parametrize("path", ["/-x", "/a b", "/..", "/v1/whereis/-x", "/v1/whereis/a/b"])
def test_what_is_no_name_is_not_asked_for(gateway, node, path):
    assert answer(gateway, path=path)["status"].startswith("400") and node.requests() == []


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/none", "/v1/whereis/", "/metrics/x", "/v1/nodes/", "//x"])
def test_what_is_nowhere_is_not_found_and_no_service(gateway, node, path):
    assert answer(gateway, path=path)["status"][:3] in ("404", "400") and node.requests() == []


# -- /v1/


def test_whereis_services_nodes_and_status_are_the_documented_shapes(gateway):
    assert told(answer(gateway, path="/v1/whereis/Echo")) == place().details
    assert list(told(answer(gateway, path="/v1/services"))) == ["Echo"]
    assert [each["name"] for each in told(answer(gateway, path="/v1/nodes"))] == ["alpha", "b"]
    state = told(answer(gateway, path="/v1/status"))
    assert state["name"] == "alpha" and "settings" not in state, "an administrator's word is not for everybody"
    assert answer(gateway, path="/v1/status", method="POST")["headers"]["Allow"] == "GET, HEAD"


def test_who_has_an_answer_already_is_spared_it(gateway):
    first = answer(gateway, path="/v1/status")
    tag = first["headers"]["ETag"]
    for said in (tag, f'"x", W/{tag}', "*"):
        again = answer(gateway, path="/v1/status", HTTP_IF_NONE_MATCH=said)
        assert again["status"] == "304 Not Modified" and again["body"] == b"" and again["headers"]["ETag"] == tag
        assert again["headers"]["Cache-Control"] == "no-store" and "Content-Type" not in again["headers"]
    assert answer(gateway, path="/v1/status", HTTP_IF_NONE_MATCH='"x"')["status"] == "200 OK"
    head = answer(gateway, path="/v1/status", method="HEAD")
    assert head["headers"] == first["headers"] and head["body"] == b""


def test_a_policy_comes_with_the_look_up_or_is_named_by_its_digest(gateway, node):
    said = told(post(gateway, "/v1/whereis/Echo", POLICY))
    assert asked_of(node)[2] == POLICY.decode() and said["node"] == "b"
    kept = post(gateway, "/v1/policies", POLICY)
    assert kept["status"].startswith("201") and told(kept)["digest"] == said["policy"]
    for path in ("/Echo", "/v1/whereis/Echo"):
        node.asked.clear()
        answered = answer(gateway, f"policy={said['policy']}", path)
        assert asked_of(node)[2] == POLICY.decode() and answered["headers"].get("Location", URL) == URL, "it is not handed on"
    unknown = answer(gateway, "policy=abc", "/Echo")
    assert unknown["status"].startswith("409") and told(unknown)["code"] == "policy-unknown"


def test_without_a_policy_of_the_clients_own_the_gateways_counts(gateway, node):
    gateway.own_policy = "<own/>"
    answer(gateway, path="/Echo")
    assert asked_of(node)[2] == "<own/>"


@pytest.mark.parametrize("body", [b"", b"<", b"<a/>", b"\xff"])
def test_what_is_no_policy_is_said(gateway, body):
    assert post(gateway, "/v1/policies", body)["status"].startswith("400")


def test_a_policy_too_large_is_not_read(gateway):
    said = post(gateway, "/v1/policies", b"", CONTENT_LENGTH=str(http.TEXT_MAX + 1))
    assert said["status"].startswith("413")


def test_only_the_last_policies_are_kept(monkeypatch):
    monkeypatch.setattr(http, "POLICIES_MAX", 2)
    texts = http.PolicyTexts()
    digests = [texts.keep(POLICY + b" " * number)[0] for number in range(2)]
    texts.text(digests[0])
    texts.keep(POLICY + b" " * 9)
    assert texts.text(digests[0])
    with pytest.raises(http.Refusal):
        texts.text(digests[1])


def test_metrics_audit_and_what_is_counted(gateway, counted):
    said = answer(gateway, path="/metrics")
    assert said["body"] == b"bd 1\n" and said["headers"]["Content-Type"].startswith("text/plain; version=0.0.4")
    assert answer(gateway, path="/")["body"] == answer(gateway, path="")["body"] == b"the audit"
    answer(gateway, path="/Echo")
    assert counted == [("/metrics", "200"), ("/", "audit"), ("/", "audit"), ("/NAME", "307")]


def test_the_document_names_every_path(gateway):
    document = told(answer(gateway, path="/v1/openapi.json"))
    assert (
        document["openapi"].startswith("3.1")
        and {"/v1/whereis/{service}", "/{service}", "/metrics"} <= document["paths"].keys()
    )
    assert document["paths"]["/v1/whereis/{service}"].keys() == {"get", "head", "post"}


# -- browsers


@pytest.mark.parametrize(
    "host", ["localhost:9080", "127.0.0.1", "[::1]:9080", "10.0.0.1:80", "bd.localhost", "web.example", ""]
)
def test_the_gateway_is_called_by_names_of_this_host(gateway, host):
    assert answer(gateway, path="/v1/status", HTTP_HOST=host)["status"] == "200 OK"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9080", "localhost.evil.example", "[", "x" * 300])
def test_a_page_that_has_its_name_lead_here_reads_nothing(gateway, node, host):
    for path in ("/", "/Echo", "/v1/status"):
        assert answer(gateway, path=path, HTTP_HOST=host)["status"].startswith("421")
    assert node.requests(but=()) == []


def test_a_page_elsewhere_may_lead_here_and_not_load_from_here(gateway):
    foreign = {"HTTP_SEC_FETCH_SITE": "cross-site"}
    assert answer(gateway, path="/Echo", HTTP_SEC_FETCH_MODE="no-cors", **foreign)["status"].startswith("403")
    led = foreign | {"HTTP_SEC_FETCH_MODE": "navigate"}
    for dest, status in (("document", "307"), ("iframe", "403"), ("frame", "403"), ("object", "403"), ("embed", "403")):
        assert answer(gateway, path="/Echo", HTTP_SEC_FETCH_DEST=dest, **led)["status"].startswith(status)
    assert answer(gateway, path="/Echo", **led)["status"].startswith("307"), "of a browser that does not say where"


# -- watching


def begun(gateway, last=""):
    """The stream of a watcher."""
    headers = {}
    stream = gateway(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/v1/watch", "HTTP_LAST_EVENT_ID": last},
        lambda status, said: headers.update(said, status=status),
    )
    return headers, iter(stream)


def event(text):
    fields = dict(line.split(": ", 1) for line in text.decode().strip().splitlines())
    return fields.get("id"), fields["event"], json.loads(fields["data"])


def change(follower, **changes):
    follower._look = lambda: Status(own(), [seen("alpha", **changes)])
    follower.turn(1.0, 1.0)


def test_a_watcher_begins_with_the_nodes_and_hears_each_change_after(gateway, follower):
    follower.turn(0.0, 0.0)
    headers, stream = begun(gateway)
    assert headers["Content-Type"].startswith("text/event-stream") and next(stream) == b"retry: 1000\n\n"
    number, kind, state = event(next(stream))
    assert (number, kind, [node["name"] for node in state["nodes"]]) == ("abc-0", "state", ["alpha"])
    change(follower, draining=True)
    assert event(next(stream)) == ("abc-1", "change", {"at": 1.0, "node": "alpha", "kind": "draining", "change": "drains"})
    stream.close()


def test_who_comes_back_hears_what_was_missed_and_of_another_life_begins_anew(gateway, follower):
    follower.turn(0.0, 0.0)
    change(follower, draining=True)
    change(follower, draining=False)
    for last, kinds in (
        ("abc-1", ["change"]),
        ("abc-0", ["change", "change"]),
        ("def-1", ["state"]),
        ("abc-99", ["state"]),
        ("x", ["state"]),
    ):
        _, stream = begun(gateway, last)
        next(stream)
        assert [event(next(stream))[1] for _ in kinds] == kinds
        stream.close()


def test_watchers_are_bounded_and_one_that_goes_makes_room(gateway, follower, refused):
    follower.turn(0.0, 0.0)
    _, stream = begun(gateway)
    next(stream)
    assert answer(gateway, path="/v1/watch")["status"].startswith("503") and refused == ["watchers_max"]
    stream.close()
    _, stream = begun(gateway)
    next(stream)
    stream.close()
    assert answer(gateway, path="/v1/watch", method="HEAD")["headers"]["Content-Type"].startswith("text/event-stream")


def test_a_watcher_that_hangs_up_is_found_gone_before_it_is_written_to(gateway, follower, monkeypatch):
    monkeypatch.setattr(http, "LOOK_SECONDS", 0.001)
    follower.turn(0.0, 0.0)
    gone = iter([False, False, True])
    environ = {"PATH_INFO": "/v1/watch", "HTTP_LAST_EVENT_ID": "abc-0", "waitress.client_disconnected": lambda: next(gone)}
    assert list(gateway(environ, lambda status, said: None)) == [b"retry: 1000\n\n"]
    _, stream = begun(gateway)
    assert next(stream), "and there is room"
    stream.close()


def test_a_quiet_mesh_is_said_to_be_so_and_a_gateway_that_ends_ends_its_watchers(gateway, follower, monkeypatch):
    monkeypatch.setattr(http, "HEARTBEAT_SECONDS", 0.001)
    follower.turn(0.0, 0.0)
    _, stream = begun(gateway, "abc-0")
    next(stream)
    assert next(stream) == b": nothing new\n\n"
    gateway.stop.set()
    assert list(stream) == []


def test_a_watcher_of_a_node_that_never_answered_is_told_so(gateway):
    _, stream = begun(gateway)
    next(stream)
    number, kind, said = event(next(stream))
    assert (number, kind, said["code"]) == (None, "error", "nobody-there") and list(stream) == []


def test_without_room_for_watchers_nobody_watches(node, follower):
    gateway = Gateway(Lookups("/x.sock", 1, 5.0), follower, watchers_max=0)
    assert answer(gateway, path="/v1/watch")["status"].startswith("503")
    assert answer(gateway, path="/")["status"].startswith("404"), "and without an audit there is none"
    assert isinstance(gateway.stop, threading.Event)
