"""Records, and how two of one node become one: a join, whatever the order of gossip."""

import json

import pytest
from hypothesis import given

from bdserver.core.membership import (
    ALIVE,
    DEAD,
    DYNAMIC,
    LEFT,
    RANK,
    STATIC,
    SUSPECT,
    Record,
    Service,
    ServiceType,
    Status,
    as_json,
    from_json,
    join,
    service_url,
    standing,
)
from bdserver.errors import BadRequest
from tests.unit.views import NOW, records


@given(records(), records())
def test_join_commutes(a, b):
    assert join(a, b) == join(b, a)


@given(records(), records(), records())
def test_join_is_associative(a, b, c):
    assert join(join(a, b), c) == join(a, join(b, c))


@given(records())
def test_join_with_oneself_changes_nothing(a):
    assert join(a, a) == a


@given(records(), records())
def test_the_version_never_falls(a, b):
    assert standing(join(a, b)) == max(standing(a), standing(b))


@given(records())
def test_a_record_survives_the_wire(record):
    assert from_json(json.loads(json.dumps(as_json(record)))) == record


def test_unknown_fields_are_kept_and_forwarded():
    value = as_json(Record("a", "10.0.0.1:1", (1, 0))) | {"rack": [1, {"x": 2}]}
    assert as_json(from_json(value))["rack"] == [1, {"x": 2}]


@pytest.mark.parametrize(
    "change",
    [
        {"name": 5}, {"name": "../x"}, {"address": "nowhere"}, {"address": 5}, {"version": [1]}, {"version": [1, -1]},
        {"version": [1.5, 1]}, {"version": [2**53 + 1, 0]}, {"version": "x"}, {"status": "undead"}, {"services": []},
        {"services": {"..": ["static", 1, "", True]}}, {"services": {"a": ["odd", 1, "", True]}}, {"services": {"a": 1}},
        {"services": {"a": ["static", "1", "", True]}}, {"since": "x"}, {"load": True}, {"draining": 1}, {"policy": 5},
        {"accusers": ["../x"]}, {"accusers": 5}, {"version": [int(NOW) + 86402, 0]},
        {"gossip_port": 65536}, {"gossip_port": "1"}, {"web_port": -1}, {"web_port": 65536},
    ],
)  # fmt: skip
def test_a_broken_record_is_a_bad_request_that_names_it(change):
    with pytest.raises(BadRequest, match="record"):
        from_json(as_json(Record("a", "10.0.0.1:1", (1, 0))) | change, NOW)


def test_a_generation_of_up_to_a_day_ahead_is_taken():
    assert from_json(as_json(Record("a", "10.0.0.1:1", (int(NOW) + 86400, 0))), NOW).version[0] == int(NOW) + 86400


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("", "http://10.0.0.1:8080/axis/Echo?wsdl"),
        ("https://{host}/{service}", "https://10.0.0.1/Echo"),
        ("http://{host.__class__}/{service!r}", "http://{host.__class__}/{service!r}"),
    ],
)
def test_the_url_of_a_service(template, url):
    assert service_url(Record("a", "10.0.0.1:1", (1, 0), web_port=8080, web_dir="/axis/"), "Echo", template) == url


def test_the_url_at_an_ipv6_address_and_without_a_web_dir():
    assert service_url(Record("a", "[::1]:1", (1, 0), web_port=80), "Echo") == "http://[::1]:80/Echo?wsdl"


def test_a_status_and_the_type_of_a_service_are_the_texts_that_travel():
    assert [ALIVE, SUSPECT, DEAD, LEFT] == list(Status) == ["alive", "suspect", "dead", "left"] == sorted(RANK, key=RANK.get)
    assert [STATIC, DYNAMIC] == list(ServiceType) == ["static", "dynamic"]
    record = Record("a", "10.0.0.1:1", (1, 0), SUSPECT, services={"Echo": Service(DYNAMIC, 1.0, "", True)})
    text = json.dumps(as_json(record))
    assert '"status": "suspect"' in text and '["dynamic", 1.0, "", true]' in text
    back = from_json(json.loads(text))
    assert back.status is SUSPECT and back.services["Echo"].type is DYNAMIC


def test_what_records_share_can_not_be_changed():
    for shared in (Record("a", "10.0.0.1:1", (1, 0)).services, Record("b", "10.0.0.2:1", (1, 0)).extra):
        with pytest.raises(TypeError):
            shared["x"] = 1
