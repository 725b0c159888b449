"""The rule of what needs attention: each fact has its finding, and a node of which nothing is known but its name is well."""

import pytest

from bdserver.core import attention
from bdserver.core.attention import DISK_BYTES, DISK_BYTES_GRAVE, Disk, Facts, Finding, Severity, Unmet, findings
from bdserver.core.membership import ALIVE, DEAD, LEFT, SUSPECT

NOW = 1_700_000_000.0
DAY = 86400.0
WELL = Facts("me", "10.0.0.1:9001", NOW)
GRAVE, WARNING, NOTE = Severity
HINTS = ("10.0.0.2:9001", "10.0.0.3:9001")
ROOMY = Disk("/var", 100 << 30, 0.5, 0.9)

# facts -> severity, key, what the words tell
TABLE = [
    ({"namesakes": {"me": "at a and at b"}}, GRAVE, "rival", "two live nodes are named me: at a and at b"),
    ({"namesakes": {"web": "at a and at b"}}, WARNING, "rival", "two live nodes are named web: at a and at b"),
    ({"certificate_ends_at": NOW + 29.5 * DAY}, WARNING, "certificate-ends", "less than 30 days, on 2023-12-14 10:13 UTC"),
    ({"certificate_ends_at": NOW + 6.5 * DAY}, WARNING, "certificate-ends", "less than 7 days"),
    ({"certificate_ends_at": NOW + 0.5 * DAY}, GRAVE, "certificate-ends", "less than 1 day,"),
    ({"certificate_ends_at": NOW - DAY}, GRAVE, "certificate-ends", "less than 1 day,"),
    ({"certificate_ends_at": NOW + 9 * DAY, "certificate_seconds": 90 * DAY}, GRAVE, "certificate-ends", "me ends on 2023-11-23 22:13 UTC, and no signer has renewed"),
    ({"certificate_ends_at": NOW - 9, "certificate_seconds": 90 * DAY}, GRAVE, "certificate-ends", "me ended on 2023-11-14 22:13 UTC, and no signer"),
    ({"revocations": "revoked:3: no serial"}, GRAVE, "revocations", "revoked:3"),
    ({"revoked_at": ("a", "b", "c", "d")}, GRAVE, "revoked", "a, b, c and 1 more say that the certificate of me is revoked"),
    ({"generation": NOW + 2 * DAY}, GRAVE, "started-ahead", "this node started 2.0 days ahead of its clock"),
    ({"clock_off": 7.0}, WARNING, "clock", "7 s ahead of"),
    ({"clock_off": -90.0}, WARNING, "clock", "90 s behind"),
    ({"is_alone": True, "hints": HINTS}, GRAVE, "alone", "(10.0.0.2:9001, 10.0.0.3:9001) is met yet"),
    ({"refusals": {"b": "too new"}}, WARNING, "record-refused", "b refuses our record: too new"),
    ({"doubted": (("b",), NOW - 5)}, WARNING, "suspected", "suspected by b"),
    ({"load": 1.1}, WARNING, "overloaded", "overloaded: 110 % of its threshold"),
    ({"load": 1.001}, WARNING, "overloaded", "overloaded: 101 % of its threshold"),
    ({"hung": 31.0}, GRAVE, "hung", "the discoverer hangs for 31 s"),
    ({"lag": 0.8}, WARNING, "lag", "0.8 s late"),
    ({"is_short": True}, GRAVE, "shortage", "the discoverer lacks descriptors or memory"),
    ({"failing": ("the access log: a bug",)}, WARNING, "failing", "the access log: a bug"),
    ({"disks": (ROOMY._replace(bytes_left=DISK_BYTES_GRAVE - 1),)}, GRAVE, "disk", "the disk of /var is nearly full: 31 MiB"),
    ({"disks": (ROOMY._replace(bytes_left=DISK_BYTES - 1, share_left=0.01),)}, WARNING, "disk", "1023 MiB are left"),
    ({"disks": (ROOMY._replace(inodes_share_left=0.01),)}, WARNING, "inodes", "1.0 % of its inodes left"),
    ({"stale_files": ("conf:8: unknown key",)}, WARNING, "reload", "what was before SIGHUP is in force: conf:8: unknown key"),
    ({"kept_settings": ("port", "bind")}, NOTE, "restart", "these have other values than in force: port, bind"),
    ({"complaints": ("x.bdcert:1: bad",)}, WARNING, "complaint", "x.bdcert:1: bad"),
    ({"quarantine": ("the policy of b: in quarantine",)}, WARNING, "quarantine", "in quarantine"),
    ({"left_out": ("a", "b")}, WARNING, "left-out", "2 services are not told to the mesh"),
    ({"unhealthy": ("Echo",)}, WARNING, "unhealthy", "the service Echo is not well, and not offered"),
    ({"stale": ("Echo",)}, WARNING, "stale", "older than their originals: Echo"),
    ({"orphans": ("Echo",)}, WARNING, "orphan", "no original any more: Echo"),
    ({"rivals": ("Echo", "Pay")}, WARNING, "rivals", "has an original of the same name, which differs: Echo, Pay"),
    ({"short": ("Echo 1 of 2",)}, WARNING, "short", "fewer living holders than are wanted: Echo 1 of 2"),
    ({"publishers": "list:3: not a key"}, GRAVE, "publishers", "no copy is taken in or offered: list:3"),
    ({"untrusted": {"Echo": "nobody has"}}, WARNING, "untrusted", "copies here are not offered, since no publisher's signature counts: Echo (nobody has)"),
    ({"unsigned": {"Echo": "x"}, "for_others": ("Echo",)}, WARNING, "unsigned", "Echo is served here and never copied: x"),
    ({"unsigned": {"Echo": "nobody has"}}, NOTE, "unsigned", "Echo is served here and never copied: nobody has"),
    ({"unchecked": ("Echo",)}, NOTE, "unchecked", "nobody looks whether these services are well: Echo"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "severity", "key", "words"), TABLE)
def test_each_fact_has_its_finding_and_its_severity(facts, severity, key, words):
    [found] = findings(WELL._replace(**facts))
    assert (found.severity, found.key) == (severity, key) and words in found.words


@pytest.mark.parametrize(
    "facts",
    [
        {"certificate_ends_at": NOW + 31 * DAY},
        {"certificate_ends_at": NOW + 11 * DAY, "certificate_seconds": 90 * DAY},
        {"certificate_ends_at": NOW + 20, "certificate_seconds": 60.0},
        {"certificate_seconds": 60.0},
        {"generation": NOW + 0.5 * DAY},
        {"clock_off": -2.0},
        {"is_alone": True},
        {"hints": HINTS},
        {"is_alone": False, "hints": HINTS, "unmet": {HINTS[0]: ("nobody-there", "no answer")}},
        {"doubted": (("b",), NOW - 61)},
        {"doubted": (("b",), NOW + 5)},
        {"load": 1.0},
        {"hung": 10.0},
        {"lag": 0.5},
        {"disks": (ROOMY, ROOMY._replace(share_left=0.01), ROOMY._replace(bytes_left=DISK_BYTES_GRAVE))},
    ],
)
def test_this_side_of_each_limit_all_is_well(facts):
    assert findings(WELL._replace(**facts)) == []


def test_facts_that_nobody_has_found_out_are_no_findings():
    assert findings(WELL) == [] and attention.summary([]) == ""


@pytest.mark.parametrize(
    ("code", "text", "why"),
    [
        ("policy-mismatch", "POLICYMISMATCH", Unmet.POLICY),
        ("policy-unknown", "whatever", Unmet.POLICY),
        ("forbidden", "10.0.0.2:9001: the certificate of me (serial 5) is revoked here", Unmet.REVOKED),
        ("refused", "10.0.0.2:9001: its certificate (b) is of mesh y, not of our mesh x", Unmet.MESH),
        ("forbidden", "10.0.0.2:9001: its certificate (b) is signed by a CA that is not in our ca.crt", Unmet.MESH),
        ("forbidden", "b does not accept our certificate: it is signed by a CA that is not in the ca.crt there", Unmet.MESH),
        ("forbidden", "b does not accept our certificate: it has expired, or a clock is wrong", Unmet.CLOCK),
        ("forbidden", "10.0.0.2:9001: its certificate (b) expired on 2020-01-01 00:00 UTC", Unmet.CLOCK),
        ("forbidden", "10.0.0.2:9001 is in our black list", Unmet.BLACK_LIST),
        ("refused", "10.0.0.2:9001: its certificate (b) is for b.example, not for 10.0.0.2", Unmet.CERTIFICATE),
        ("refused", "10.0.0.2:9001 does not speak bd/1 over TLS 1.3", Unmet.CERTIFICATE),
        ("refused", "10.0.0.2:9001: Connection refused", Unmet.SILENCE),
        ("nobody-there", "10.0.0.2:9001: no answer", Unmet.SILENCE),
    ],
)
def test_why_a_node_was_not_met_is_told_by_what_was_said(code, text, why):
    assert attention.why_unmet(code, text) is why
    [found] = findings(WELL._replace(is_alone=True, hints=HINTS, unmet={HINTS[1]: (code, text)}))
    assert found.key == f"alone-{why}" and found.words.endswith(text) and found.remedy == attention.REMEDIES[why]


def test_of_several_reasons_the_most_telling_one_is_named():
    unmet = {HINTS[0]: ("nobody-there", "no answer"), HINTS[1]: ("policy-mismatch", "policies do not meet")}
    [found] = findings(WELL._replace(is_alone=True, hints=HINTS, unmet=unmet))
    assert found.key == "alone-policy"


def test_the_gravest_come_first_and_a_note_keeps_nobody_from_being_well():
    facts = WELL._replace(unchecked=("Echo",), load=1.5, lag=0.6, namesakes={"me": "at a and at b"})
    found = findings(facts)
    assert [each.key for each in found] == ["rival", "overloaded", "lag", "unchecked"]
    assert len(attention.lines(found)) == 3 and attention.summary(found).endswith("(and 2 more: bdctl status)")
    assert attention.summary(found[:1]) == found[0].line and attention.summary(found[3:]) == ""


def test_while_the_list_of_publishers_is_broken_that_alone_is_said():
    facts = WELL._replace(publishers="list:3: not a key", untrusted={"Echo": "x"}, unsigned={"Own": "x"})
    assert [each.key for each in findings(facts)] == ["publishers"]


def test_what_stays_until_it_is_mended_is_said_once_and_by_the_same_words():
    facts = WELL._replace(certificate_ends_at=NOW + 6 * DAY)
    assert findings(facts) == findings(facts._replace(now=NOW + 3600)) and findings(facts)[0].lasts
    assert not findings(WELL._replace(load=1.2))[0].lasts


def test_a_finding_travels_and_an_odd_one_is_a_warning():
    made = Finding(GRAVE, "rival", "two live nodes", "rename one")
    assert attention.from_json(attention.as_json(made)) == made and made.line == "two live nodes: rename one"
    odd = attention.from_json({"severity": "apocalyptic", "text": "x" * 5000, "key": 5})
    assert odd == Finding(WARNING, "", "x" * attention.WORDS_CHARACTERS_MAX)


@pytest.mark.parametrize(
    ("state", "failure", "load", "keys"),
    [
        (DEAD, "no answer", 0.0, ["dead"]),
        (SUSPECT, "", 1.5, ["suspect", "overloaded"]),
        (ALIVE, "the time is over", 1.0, ["silent"]),
        (ALIVE, "", 0.0, []),
        (LEFT, "", 2.0, []),
    ],
)
def test_what_others_see_of_a_node_that_does_not_speak_for_itself(state, failure, load, keys):
    assert [each.key for each in attention.of_another(state, failure, load)] == keys


def test_a_disagreement_names_who_says_what():
    found = attention.of_disagreement({"dead": ["a"], "alive": ["b", "c", "d", "e"]})
    assert found.words == "the nodes disagree on it: alive for b, c, d and 1 more; dead for a"
