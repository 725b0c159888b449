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
    RECORD_BYTES_MAX,
    SERVICES_MAX,
    STATIC,
    SUSPECT,
    VERSION_MAX,
    WITHDRAWN_MAX,
    Copies,
    Edition,
    Record,
    Service,
    ServiceType,
    Status,
    Withdrawal,
    as_json,
    certificate_digest,
    fitting,
    from_json,
    join,
    raised,
    service_url,
    standing,
    statement,
    travelling_bytes,
    untimely,
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


def with_fields(**fields):
    """A record in whose statement these stand, beside what must."""
    return {"said": json.dumps({"name": "a", "address": "10.0.0.1:1", "version": [1, 0]} | fields)}


def test_what_its_owner_said_is_passed_on_byte_for_byte_whatever_is_in_it():
    said = '{"version":[1,0],  "rack": [1, {"x": 2}],\n "name":"a", "status": "dead", "address":"10.0.0.1:1", "name": "a"}'
    value = {"said": said, "signature": "c2ln", "certificate": "ab"}
    record = from_json(value)
    assert as_json(record) == value and record.status is ALIVE and record.extra["rack"] == [1, {"x": 2}]
    told = as_json(record._replace(status=SUSPECT, since=NOW, accusers=("b",)))
    assert told == value | {"status": "suspect", "since": NOW, "accusers": ["b"]} and from_json(told).said == said


@pytest.mark.parametrize(
    "change",
    [
        {"name": 5}, {"name": "../x"}, {"address": "nowhere"}, {"address": 5}, {"version": [1]}, {"version": [1, -1]},
        {"version": [1.5, 1]}, {"version": "x"}, {"services": []}, {"version": None}, {"left": 1},
        {"services": {"..": ["static", 1, "", True]}}, {"services": {"a": ["odd", 1, "", True]}}, {"services": {"a": 1}},
        {"services": {"a": ["static", "1", "", True]}}, {"since": "x"}, {"load": True}, {"load": 1.0}, {"draining": 1},
        {"policy": 5}, {"policy": "x" * 33}, {"gossip_port": "1"}, {"services": {"a": []}}, {"services": {"a": ["static", True, ""]}},
        {"roots": 5}, {"roots": {"a": 1}}, {"roots": [5]}, {"roots": ["x" * 33]}, {"signer": True}, {"signer": ["x"]}, {"signer": None},
        {"unhealthy": "Echo"}, {"unhealthy": [5]}, {"unhealthy": ["../x"]}, {"address": "\n10.0.0.1:1"}, {"address": "10.0.0.1:1\u2028"},
        {"address": "10.0.0.1:01"}, {"address": "HOST:1"}, {"address": "host.:1"}, {"address": "[::ffff:10.0.0.1]:1"},
    ],
)  # fmt: skip
def test_a_broken_statement_is_a_bad_request_that_names_it(change):
    with pytest.raises(BadRequest, match="record"):
        from_json(with_fields(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"status": "undead"}, {"status": "left"}, {"status": 5}, {"accusers": ["../x"]}, {"accusers": 5}, {"since": "x"},
        {"since": -1}, {"since": 1e300}, {"since": True}, {"signature": 5}, {"signature": "x" * 101}, {"certificate": "x" * 33},
        {"certificate": None}, {"said": None}, {"said": ""}, {"said": "[]"}, {"said": "{}"}, {"said": "[" * 100_000},
        {"said": '{"name":"a","address":"a:1","version":[1,0],"x":1e999}'}, {"said": '{"name":"a\\ud800"}'}, {"said": "null"},
        {"said": '{"name":"a","address":"a:1","version":[1,0],"load":NaN}'}, {"said": "\ud800"},
        {"said": '{"name":"a","address":"a:1","version":[1,' + "9" * 30 + "]}"},
    ],
)  # fmt: skip
def test_what_others_may_not_say_beside_it_is_refused(change):
    with pytest.raises(BadRequest, match="record"):
        from_json(with_fields() | change)


def test_whoever_left_said_so_itself_and_others_words_beside_it_do_not_count():
    for beside in ({}, {"status": "dead", "since": NOW + 5}, {"status": "suspect", "accusers": ["b"]}):
        record = from_json(with_fields(left=True, since=NOW) | beside)
        assert (record.status, record.since, record.accusers) == (LEFT, NOW, ())


def in_service(field):
    def change(value):
        service = ["static", 1.0, "", True]
        service[field] = value
        return {"services": {"Echo": service}}

    return change


def in_more(key, form=lambda value: value):
    """In the object behind the four fields that each service has."""
    return lambda value: {"services": {"Echo": ["dynamic", 1.0, "", True, {key: form(value)}]}}


RANGES = [
    ("load", 20, 21, lambda value: {"load": value}),
    ("free_dynamic", 1_000_000, 1_000_001, lambda value: {"free_dynamic": value}),
    ("receiver_threshold", 1e12, 1.0001e12, lambda value: {"receiver_threshold": value}),
    ("web_port", 65535, 65536, lambda value: {"web_port": value}),
    ("gossip_port", 65535, 65536, lambda value: {"gossip_port": value}),
    ("generation", 2**53, 2**53 + 1, lambda value: {"version": [value, 0]}),
    ("counter", 2**53, 2**53 + 1, lambda value: {"version": [1, value]}),
    ("since", 2**53, 2**53 + 2, lambda value: {"since": value}),
    ("cost", 1e9, 1.0001e9, in_service(1)),
    ("edition", 2**53, 2**53 + 1, in_more("edition", lambda value: [value, "ab"])),
    ("replicas", 1000, 1001, in_more("replicas")),
    ("idle_since", 2**53, 2**53 + 1, in_more("idle_since")),
    ("withdrawn up to", 2**53, 2**53 + 1, lambda value: {"withdrawn": {"Echo": [value, 1]}}),
    ("withdrawn at", 2**53, 2**53 + 1, lambda value: {"withdrawn": {"Echo": [1, value]}}),
]


@pytest.mark.parametrize(("what", "most", "beyond", "change"), RANGES, ids=[row[0] for row in RANGES])
def test_every_number_has_a_range(what, most, beyond, change):
    for value in (0, most):
        assert from_json(with_fields(**change(value)))
    for value in (beyond, -1, 10**18, -(10**18), 10**19 - 1, "1", None, True, [1]):
        with pytest.raises(BadRequest, match="record"):
            from_json(with_fields(**change(value)))


TEXTS = [
    ("address", 300, lambda size: {"address": f"{'a' * 60}.{'a' * (size - 66)}:9001"[-size:]}),
    ("web_dir", 500, lambda size: {"web_dir": "x" * size}),
    ("service_url", 2000, lambda size: {"service_url": f"http://h/{'x' * (size - 9)}"}),
    ("url", 2000, lambda size: in_service(2)(f"http://h/{'x' * (size - 9)}")),
    ("digest", 32, lambda size: in_more("edition")([1, "x" * size])),
    ("signer", 32, lambda size: in_more("signer")("x" * size)),
    ("original", 100, lambda size: in_more("original")("x" * size)),
    ("after", 100, lambda size: in_more("after")("x" * size)),
]


@pytest.mark.parametrize("url", ["x", "http://", "//h/x", "http://a b/", "http://h/\n", "http://h/\x1b[31m", "http://h/<x>", "http://h:0/",
                                 "http://h:99999/", "http://[x/", "http://a;return 200;/", "http://{evil}/", 'http://h/"', "http://h/\\"])  # fmt: skip
def test_a_url_that_others_could_not_take_apart_is_no_record(url):
    for change in (in_service(2)(url), {"service_url": url}):
        with pytest.raises(BadRequest, match="the record of"):
            from_json(with_fields(**change))
    assert fitting(from_json(with_fields())._replace(services={"Odd": Service(STATIC, 1.0, url, True)}))[1] == ["Odd"]


def test_the_path_of_a_web_server_is_one_word():
    for path in ("a b", "\n", "\x1b[31m", '"', "<", "\\"):
        with pytest.raises(BadRequest, match="web_dir"):
            from_json(with_fields(web_dir=path))


@pytest.mark.parametrize(("what", "most", "change"), TEXTS, ids=[row[0] for row in TEXTS])
def test_every_text_has_a_length(what, most, change):
    if what != "address":  # a host's name ends before
        assert from_json(with_fields(**change(most)))
    with pytest.raises(BadRequest, match="record"):
        from_json(with_fields(**change(most + 1)))


@pytest.mark.parametrize(
    "change",
    [
        in_more("edition")(5), in_more("edition")([1]), in_more("edition")([1, "a", "b"]), in_more("edition")([1, 5]),
        in_more("edition")({"1": "a", "2": "b"}), in_more("original")("../x"), in_more("original")(5), in_more("after")("a b"),
        in_more("copies")("some"), in_more("copies")(5), in_more("copies")(["any"]), in_more("signer")(5),
        {"services": {"Echo": ["static", 1.0, "", True, 5]}}, {"services": {"Echo": ["static", 1.0, "", True, None]}},
        {"services": {"Echo": ["static", 1.0, "", True, [["replicas", 3]]]}},
        {"withdrawn": []}, {"withdrawn": None}, {"withdrawn": {"../x": [1, 1]}}, {"withdrawn": {"Echo": 5}},
        {"withdrawn": {"Echo": [1]}}, {"withdrawn": {"Echo": [1, 2, 3]}}, {"withdrawn": {"Echo": "12"}},
    ],
)  # fmt: skip
def test_what_is_said_of_editions_and_copies_has_a_shape(change):
    with pytest.raises(BadRequest, match="record"):
        from_json(with_fields(**change))


FULL = Service(DYNAMIC, 2.0, "http://h/u", True, Edition(7, "ab"), "a", "b", 3, Copies.MEETING, "key", 5, True)


def test_of_a_service_what_is_as_ever_is_not_said():
    def said(service):
        return json.loads(statement(Record("a", "10.0.0.1:1", (1, 0), services={"Echo": service})))["services"]["Echo"]

    assert said(Service(STATIC, 1.0, "", True)) == ["static", 1.0, "", True]
    assert said(Service(STATIC, 1.0, "", True, replicas=3)) == ["static", 1.0, "", True, {"replicas": 3}]
    more = {
        "edition": [7, "ab"],
        "original": "a",
        "after": "b",
        "replicas": 3,
        "copies": "meeting",
        "signer": "key",
        "idle_since": 5,
        "checked": True,
    }
    assert said(FULL) == ["dynamic", 2.0, "http://h/u", True, more]


def test_editions_and_withdrawals_survive_the_wire():
    record = Record("a", "10.0.0.1:1", (1, 0), services={"Echo": FULL}, withdrawn={"Old": Withdrawal(7, 8)})
    back = from_json(json.loads(json.dumps(as_json(record))))
    assert back == record and back.services["Echo"].copies is Copies.MEETING and back.withdrawn["Old"].counter == 7
    assert "withdrawn" not in statement(record._replace(withdrawn={}))
    later = from_json(with_fields(services={"Echo": ["static", 1, "", True, {"replicas": 2, "rack": 5}, "more"]}))
    assert later.services["Echo"].replicas == 2  # what a newer node says beside it does no harm


def test_so_many_withdrawals_are_remembered_and_not_one_more():
    def with_withdrawn(count):
        return with_fields(withdrawn={f"S{number}": [1, 1] for number in range(count)})

    assert len(from_json(with_withdrawn(WITHDRAWN_MAX)).withdrawn) == WITHDRAWN_MAX
    with pytest.raises(BadRequest, match="500 at most"):
        from_json(with_withdrawn(WITHDRAWN_MAX + 1))


def services(count, name="S{:037}", url=""):
    return {name.format(number): Service(STATIC, 1.0, url, True) for number in range(count)}


def test_a_thousand_services_have_room_and_not_one_more():
    record = Record("a", "10.0.0.1:1", (1, 0), services=services(SERVICES_MAX, url="http://10.0.0.1:8080/" + "x" * 79))
    assert fitting(record) == (record, []) and from_json(as_json(record)).services == record.services
    more = record._replace(services=services(SERVICES_MAX + 1))
    with pytest.raises(BadRequest, match="1000 at most"):
        from_json(as_json(more))
    assert fitting(more)[1] == [max(more.services)]


def test_a_record_is_limited_by_the_bytes_that_travel():
    for filler, each in (("x", 1), ("\x01", 7), ('"', 4), ("é", 7), ("\n", 3)):
        room = RECORD_BYTES_MAX - travelling_bytes(with_fields(x="")["said"])
        fits, beyond = (with_fields(x=filler * (room // each + more)) for more in (-10, 1))
        assert from_json(fits) and len(json.dumps(fits["said"])) <= RECORD_BYTES_MAX
        with pytest.raises(BadRequest, match="bytes, where 262144 are allowed"):
            from_json(beyond)


@pytest.mark.parametrize("url", ["http://h/" + "x" * 1900, "http://h/" + "'" * 1900, "http://h/" + "é" * 900])
def test_of_our_own_services_those_stay_at_home_that_have_no_room(url):
    record = Record("a", "10.0.0.1:1", (1, 0), services=services(900, url=url))
    fits, left_out = fitting(record)
    assert left_out and left_out == sorted(left_out) and set(left_out) == record.services.keys() - fits.services.keys()
    assert max(fits.services) < min(left_out) and len(fits.services) > 20
    assert from_json(as_json(fits)).services == fits.services


def test_a_thousand_copies_of_which_all_is_to_be_said_leave_some_at_home_and_what_is_said_is_taken():
    full = {f"S{number:037}": FULL._replace(url="http://h/" + "x" * 91) for number in range(SERVICES_MAX)}
    gone = {f"W{number:099}": Withdrawal(VERSION_MAX, VERSION_MAX) for number in range(WITHDRAWN_MAX)}
    for withdrawn in ({}, gone):
        fits, left_out = fitting(Record("a", "10.0.0.1:1", (VERSION_MAX, VERSION_MAX), services=full, withdrawn=withdrawn))
        back = from_json(as_json(fits))
        assert left_out == sorted(full)[len(fits.services) :] and back.services == fits.services and back.withdrawn == withdrawn
        assert len(fits.services) > (400 if withdrawn else 700)


def test_a_service_of_ours_that_nobody_would_take_costs_us_that_service_alone():
    many, lost = FULL._replace(replicas=1001), FULL._replace(original="../x")
    odd = {
        "dear": Service(STATIC, 2e9, "", True),
        "long": Service(STATIC, 1.0, "http://h/" + "x" * 2001, True),
        "lost": lost,
        "many": many,
    }
    fits, left_out = fitting(Record("a", "10.0.0.1:1", (1, 0), services=odd | services(2)))
    assert left_out == ["dear", "long", "lost", "many"] and from_json(as_json(fits)).services == services(2)


def test_times_of_up_to_a_day_ahead_are_of_our_time():
    record = Record("a", "10.0.0.1:1", (int(NOW) + 86400, 0), SUSPECT, NOW + 86400)
    assert untimely(record, NOW) is None
    assert untimely(record._replace(version=(int(NOW) + 2 * 86400, 0)), NOW) == "its version is 2.0 days ahead of our clock"
    assert untimely(record._replace(since=NOW + 3 * 86400), NOW) == "that it is suspect is dated 3.0 days ahead of our clock"


def test_whatever_version_comes_the_next_one_is_above_it_and_within_the_range():
    assert raised((5, 7)) == (5, 8) and raised((5, VERSION_MAX - 1)) == (5, VERSION_MAX)
    assert raised((5, VERSION_MAX)) == (6, 0)


def test_a_certificate_is_named_by_its_content_and_nonsense_is_not():
    assert (
        certificate_digest("AAAA") == certificate_digest("AAAA") != certificate_digest("AAAB")
        and certificate_digest("AA") == ""
    )


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
    assert '"status": "suspect"' in text and '[\\"dynamic\\",1.0,\\"\\",true]' in text
    back = from_json(json.loads(text))
    assert back.status is SUSPECT and back.services["Echo"].type is DYNAMIC


def test_what_records_share_can_not_be_changed():
    for shared in (Record("a", "10.0.0.1:1", (1, 0)).services, Record("b", "10.0.0.2:1", (1, 0)).extra):
        with pytest.raises(TypeError):
            shared["x"] = 1
