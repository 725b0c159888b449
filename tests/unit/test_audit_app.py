"""The audit as an application: forms, wrong queries, and errors as plain text."""

import json

import pytest

from bdserver.audit import app, page
from bdserver.errors import BadFrame, BadRequest, Deadline, Forbidden, NobodyThere

from . import crawls
from .crawls import needs_graphviz
from .wsgi import answer


@pytest.mark.parametrize(
    ("form", "kind", "start"),
    [
        ("html", "text/html; charset=utf-8", b"<!DOCTYPE html>"),
        ("json", "application/json", b"{"),
        ("dot", "text/vnd.graphviz; charset=utf-8", b"digraph"),
        pytest.param("png", "image/png", b"\x89PNG", marks=needs_graphviz),
        pytest.param("svg", "image/svg+xml", b"<?xml", marks=needs_graphviz),
        ("weight.png", "image/png", b"\x89PNG"),
        ("prometheus", "text/plain; version=0.0.4; charset=utf-8", b"# HELP"),
    ],
)
def test_each_form_has_its_type_and_says_when_it_was_taken(form, kind, start):
    said = answer(app.application(lambda about: crawls.mesh(3)), f"format={form}&theme=dark&refresh=5")
    assert said["status"] == "200 OK" and said["headers"]["Content-Type"] == kind
    assert said["body"].lstrip().startswith(start) and int(said["headers"]["Content-Length"]) == len(said["body"])
    assert said["headers"]["Cache-Control"] == "no-store" and said["headers"]["X-Taken-At"].startswith("20")
    assert answer(app.application(lambda about: crawls.mesh(3)), f"format={form}", method="HEAD")["body"] == b""


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("format=exe", "format"),
        ("theme=pink", "theme"),
        ("view=top", "view"),
        ("refresh=0.1", "refresh"),
        ("refresh=-1", "refresh"),
        ("refresh=²", "refresh"),
        ("refresh=99999", "refresh"),
        ("service=../x", "service"),
        ("service=Echo&format=png", "service"),
        ("node=../x", "node"),
        ("node=a&format=dot", "node"),
        ("node=a&service=Echo", "service or node"),
        ("state=tired", "state"),
        ("find=" + "x" * 101, "find"),
    ],
)
def test_a_wrong_query_is_one_clear_line(query, word):
    said = answer(app.application(lambda about: pytest.fail("nothing is asked for a bad query")), query)
    assert said["status"].startswith("400") and said["body"].startswith(word.encode()) and said["body"].count(b"\n") == 1


def test_one_service_as_a_page_and_as_json():
    taking = app.application(lambda about: crawls.troubled())
    said = answer(taking, "service=Search&refresh=5")
    assert said["status"] == "200 OK" and b"The service Search" in said["body"] and said["headers"]["Refresh"] == "5"
    assert said["headers"]["Content-Security-Policy"] == page.content_security_policy()
    value = json.loads(answer(taking, "service=Search&format=json")["body"])
    service = value["service"]
    assert value["format"] == 1 and service["name"] == "Search" and service["living"] == len(service["holders"])
    assert value["offers"].keys() == set(service["holders"]) and "n003" in value["dead"]
    assert all(offer["stale"] is False and offer["edition"] == [0, ""] for offer in value["offers"].values())
    whole = json.loads(answer(taking, "format=json")["body"])
    assert [each for each in whole["services"] if each["name"] == "Search"] == [service]
    nothing = answer(taking, "service=Nothing")
    assert nothing["status"].startswith("404") and nothing["body"] == b"Nothing: no node has a service of this name\n"


def test_one_node_as_a_page_and_as_json():
    taking = app.application(lambda about: crawls.troubled())
    assert b"The node n002" in answer(taking, "node=n002")["body"]
    value = json.loads(answer(taking, "node=n002&format=json")["body"])
    assert value["format"] == 1 and value["node"]["name"] == "n002" and value["node"]["is_overloaded"]
    assert value["seen"].keys() == {"n000", "n001", "n005"} and value["seen"]["n000"]["status"] == "alive"
    assert answer(taking, "node=nobody")["status"].startswith("404")


def test_what_changes_of_a_page_comes_alone_and_what_is_wished_for_is_shown():
    taking = app.application(lambda about: crawls.troubled(), watch="v1/watch")
    part = answer(taking, "format=part&find=n002&state=overloaded&zone=&offers=")
    assert part["headers"]["Content-Security-Policy"] == page.content_security_policy()
    assert part["body"].strip().startswith(b'<div id="live"') and b"1 of 8 nodes" in part["body"]
    assert b'data-watch="v1/watch"' in answer(taking)["body"]


def test_both_views_of_the_topology_can_be_had():
    taking = app.application(lambda about: crawls.mesh(3))
    both = [answer(taking, f"format=dot&view={view}")["body"] for view in ("services", "hosts")]
    assert both[0] != both[1] and both[0] == answer(taking, "format=dot")["body"], "services is what the original draws"


def test_only_reading_and_only_this_page():
    taking = app.application(lambda about: crawls.mesh(1))
    assert answer(taking, method="POST")["status"].startswith("400")
    assert answer(taking, path="/etc/passwd")["status"].startswith("400")


@pytest.mark.parametrize(
    ("error", "status"), [(NobodyThere, "503"), (Deadline, "504"), (Forbidden, "403"), (BadFrame, "502"), (BadRequest, "400")]
)
def test_why_there_is_no_page_is_plain_text(error, status):
    def take(about):
        raise error("because\N{BELL}")

    said = answer(app.application(take), "refresh=5")
    assert said["status"].startswith(status) and b"because" in said["body"]
    assert said["headers"]["Content-Type"].startswith("text/plain") and said["headers"]["Refresh"] == "5"
