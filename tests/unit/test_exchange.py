"""SYNCHRONIZE between two views: they end equal, and pay for the difference alone."""

import contextlib
import json
import string
from base64 import b64encode
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdserver.core import exchange, membership
from bdserver.core import view as view_module
from bdserver.core.fields import TEXT_MAX
from bdserver.core.membership import RECORDS_MAX, Record, Service, as_json, certificate_digest
from bdserver.core.policy import digest
from bdserver.core.view import View, bucket
from bdserver.core.wire import FRAME_BYTES_MAX, Decoder, encode, payload
from bdserver.errors import BadRequest, Quarantined, TooBusy
from tests.exchanges import synchronise
from tests.unit.seals import believe, certificate_of, prove, seal_own, sealed

NOW = 1_700_000_000.0


def a_view(name, count=0, rng=None):
    view = View(name)
    view.start(Record(name, f"{name}:1", (0, 0)), NOW)
    for i in range(count):
        version = (1, rng.randrange(4) if rng else 0)
        view.merge(Record(f"n{i}", f"n{i}:1", version, services={"Echo": Service("static", 1.0, "", True)}), NOW)
    return view


def synchronised(caller, callee, proving=believe):
    """A whole conversation; the exchanges that were said."""
    said = []

    def turn(say):
        theirs = exchange.checked(json.loads(json.dumps(say)))
        added = exchange.absorb(callee, theirs, NOW, caller.me, proving).answer if exchange.has_news(theirs) else {}
        answer = exchange.checked(json.loads(json.dumps(exchange.respond(callee, theirs) | added)))
        said.extend([say, answer])
        return answer

    synchronise(lambda: caller, lambda theirs: exchange.absorb(caller, theirs, NOW, callee.me, proving).answer, turn)
    return said


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 1000))
def test_two_views_end_equal(ours, theirs, seed):
    rng = Random(seed)
    a, b = a_view("a", ours, rng), a_view("b", theirs, rng)
    synchronised(a, b)
    assert a.records == b.records and a.digest() == b.digest()


@pytest.mark.parametrize("count", [10, 1000])
def test_equal_views_cost_the_same_few_bytes_whatever_their_size(count):
    a, b = a_view("a", count), a_view("b", count)
    synchronised(a, b)
    said = synchronised(a, b)
    assert len(said) == 2 and len(json.dumps(said)) < 120


def test_one_difference_among_a_thousand_costs_little():
    a, b = a_view("a", 1000), a_view("b", 1000)
    synchronised(a, b)
    a.describe(a.own._replace(draining=True), NOW)
    said = synchronised(a, b)
    assert a.digest() == b.digest()
    assert [len(each.get("records", [])) for each in said].count(1) == 1
    assert len(json.dumps(said)) < 4000


def test_a_large_difference_comes_in_pieces_within_the_budget(monkeypatch):
    """A newcomer takes in all of it in one conversation, a node that has much to tell does so in several."""
    monkeypatch.setattr(exchange, "RECORDS_BYTES_MAX", 10_000)
    a, b = a_view("a"), a_view("b", 300)
    for caller, callee, conversations in ((a, b, 1), (b, a_view("c"), 12)):
        rounds = 0
        while caller.digest() != callee.digest():
            said = synchronised(caller, callee)
            assert max(len(json.dumps(each.get("records", []))) for each in said) <= 10_000
            rounds += 1
            assert rounds < 20
        assert rounds <= conversations


def test_a_record_that_its_readers_crash_of_is_left_out_and_the_others_are_taken_in():
    view, told = a_view("a"), [as_json(sealed(Record(name, f"{name}:1", (1, 0)))) for name in ("b", "c")]

    @contextlib.contextmanager
    def guard(value):
        if '"b"' in value["said"]:
            raise Quarantined("a record that d told: in quarantine")
        yield

    said = exchange.absorb(view, {"records": told}, NOW, "d", lambda record, certificate: None, guard)
    assert said.refused == ["a record that d told: in quarantine"]
    assert "b" not in view.records


def certified(*records):
    """The certificates that go with them."""
    return {"certificates": {each.certificate: certificate_of(each.name) for each in records}}


def test_what_is_known_word_for_word_is_not_read_again_and_all_else_is_read_within_a_guard():
    extra = {"spare": {"name": "c"}}  # stands before the name
    told = [sealed(Record(name, f"{name}:1", (1, 0), extra=extra if name == "b" else {})) for name in ("b", "c", "d")]
    view, guarded = a_view("a"), []

    def absorbed(*values):
        guarded.clear()

        @contextlib.contextmanager
        def guard(value):
            guarded.append(json.loads(value["said"])["name"] if isinstance(value, dict) else value)
            yield

        before = dict(view.records)
        found = exchange.absorb(view, {"records": list(values), **certified(*told)}, NOW, "d", believe, guard)
        return found.answer["known"], found.names, sum(view.records[each] != before.get(each) for each in view.records)

    values = [as_json(each) for each in told]
    assert absorbed(*values) == (0, ["b", "c", "d"], 3) and guarded == ["b", "c", "d"]
    assert absorbed(*values) == (3, ["b", "c", "d"], 0) and guarded == ["b"], "its name is not where it seems"
    newer = as_json(sealed(told[1]._replace(version=(1, 1))))
    assert absorbed(values[1], newer) == (1, ["c", "c"], 1) and guarded == ["c"]
    suspected = values[2] | {"status": "suspect", "since": NOW, "accusers": ["b"]}
    assert absorbed(suspected) == (0, ["d"], 1) and guarded == ["d"], "that somebody else says"
    assert absorbed(suspected) == (1, ["d"], 0) and guarded == ["d"]
    assert absorbed(values[2]) == (1, ["d"], 0) and guarded == [], "the owner's words change nothing of that"
    for nonsense in (None, 5, {}, {"said": 5}, {"said": "x" * 300_000}, {"said": '{"name":"nobody"}'}):
        assert membership.restated(nonsense, view.records) == ""


@given(st.lists(st.tuples(st.sampled_from("bcd"), st.integers(0, 2), st.booleans(), st.booleans()), max_size=8))
def test_not_to_read_what_is_known_makes_no_difference(told):
    views = [a_view("a"), a_view("a")]
    for name, counter, is_old, is_suspect in told:
        record = sealed(Record(name, f"{name}:1", (1, counter), since=NOW if is_old else 0.0))
        value = as_json(record._replace(status="suspect", since=NOW, accusers=("c",)) if is_suspect else record)
        with pytest.MonkeyPatch.context() as patch:
            theirs = {"records": [value, value], **certified(record)}
            first = exchange.absorb(views[0], theirs, NOW, "d", believe)
            patch.setattr(membership, "restated", lambda value, known: "")
            assert first == exchange.absorb(views[1], theirs, NOW, "d", believe)
    assert views[0].records == views[1].records


def test_policies_that_nobody_has_or_that_are_too_long_are_not_kept():
    a, long = a_view("a"), "<Policy/>" + "x" * TEXT_MAX
    a.describe(a.own._replace(policy=digest(long)), NOW)
    told = {digest(each): each for each in ("<Policy/>", long)}
    exchange.absorb(a, {"policies": told}, NOW, "b", believe)
    assert a.policies == {} and a.unknown_policies() == [digest(long)]


def test_a_policy_travels_once():
    text = "<Policy/>"
    a, b = a_view("a"), a_view("b")
    a.describe(a.own._replace(policy=digest(text)), NOW)
    a.learn_policy(digest(text), text)
    said = synchronised(a, b)
    assert b.policies == {digest(text): text}
    assert sum("policies" in each for each in said) == 1
    a.describe(a.own._replace(load=1), NOW)
    assert not any("policies" in each for each in synchronised(a, b))


@pytest.mark.parametrize("count", [1, 20])
def test_texts_that_did_not_come_with_their_records_come_with_a_later_round(count):
    a, b = a_view("a"), a_view("b")
    texts = {digest(text): text for text in (f"<Policy n='{i}'/>" for i in range(count))}
    for number, each in enumerate(texts):
        for view in (a, b):
            view.merge(Record(f"n{number}", f"n{number}:1", (1, 0), policy=each), NOW)
    synchronised(a, b)
    assert a.digest() == b.digest() and len(a.unknown_policies()) == count, "nobody has them yet"
    for each, text in texts.items():
        b.learn_policy(each, text)
    synchronised(a, b)
    assert a.policies == texts and a.unknown_policies() == []


def test_a_policy_under_a_wrong_digest_is_not_learnt():
    view = a_view("a")
    exchange.absorb(view, {"policies": {"ab": "<Policy/>"}}, NOW, "b", believe)
    assert not view.policies


def test_a_broken_record_does_not_spoil_the_others():
    view = a_view("a")
    good = {"said": '{"name": "x", "address": "x:1", "version": [1, 0]}'}
    absorbed = exchange.absorb(view, {"records": [5, {"said": '{"name": "y"}'}, good]}, NOW, "b", believe)
    assert view.records["x"].address == "x:1" and absorbed.answer["known"] == 0
    assert absorbed.names == ["x"] and len(absorbed.refused) == 2


def test_a_gossiper_hears_how_much_was_known():
    view = a_view("a", 3)
    say = exchange.push(view, ["n0", "n1"])
    assert exchange.absorb(view, say, NOW, "b", believe).answer["known"] == 2


@pytest.mark.parametrize(
    "bad",
    [
        None, [], 5, {"digest": 5}, {"buckets": "x"}, {"buckets": [1]}, {"of": [32]}, {"of": [-1]}, {"of": ["1"]},
        {"versions": []}, {"versions": {"a": [1, 2]}}, {"versions": {"a": [1, 2, "x"]}}, {"records": {}}, {"wanted": [[]]},
        {"unknown": [1]}, {"policies": {"a": 1}}, {"known": "x"}, {"unmet": 5}, {"refused": 5}, {"refused": "x" * 301},
        {"certificates": []}, {"certificates": {"a": 1}}, {"certificates": {"a": "x" * 4097}},
        {"digest": "x" * 33}, {"stated": "x" * 33}, {"buckets": ["x" * 33]}, {"buckets": ["a"] * 33}, {"of": [1] * 33},
        {"policies": {"x" * 33: ""}}, {"certificates": {"x" * 33: "x"}}, {"unknown": ["x" * 33]}, {"unknown": ["x"] * 509},
        {"versions": {"a b": [1, 2, 3]}}, {"wanted": ["a/b"]}, {"unmet": [""]}, {"until": "x" * 101}, {"until": 5},
    ],
)  # fmt: skip
def test_an_exchange_of_a_wrong_shape_is_refused(bad):
    with pytest.raises(BadRequest, match="INVALID REQUEST"):
        exchange.checked(bad)


@pytest.mark.parametrize("field", ["versions", "wanted", "unmet"])
def test_names_have_room_by_their_bytes_however_few_they_are(field):
    """Of short names there may be thousands; of long ones no more than what travels of them has room."""
    most = exchange.VERSIONS_BYTES_MAX if field == "versions" else exchange.WANTED_BYTES_MAX
    for length, row in ((8, [1, 2, 3]), (100, [2**53, 2**53, 3])):
        size = length + 4 + len(str(row)) if field == "versions" else length + 3
        names = [f"{number:0{length}}" for number in range(most // size + 1)]
        one_more = dict.fromkeys(names, row) if field == "versions" else names
        with pytest.raises(BadRequest, match=field):
            exchange.checked({field: one_more})
        fitting = dict.fromkeys(names[:-1], row) if field == "versions" else names[:-1]
        assert exchange.checked({field: fitting}) and len(payload(fitting)) <= most
    with pytest.raises(BadRequest, match=field):
        exchange.checked({field: {"x" * 600_000: [1, 2, 3]} if field == "versions" else ["x" * 600_000]})


def test_a_conversation_that_does_not_end_by_itself_ends_all_the_same():
    view, said = a_view("a"), []

    def turn(say):
        said.append(say)
        return {"wanted": ["a"]}  # for ever

    synchronise(lambda: view, lambda theirs: {}, turn)
    assert len(said) == exchange.TURNS_MAX


# --- as much as there can be ------------------------------------------------------------------------------------------


def longest_name(rng):
    return "n" + "".join(rng.choices(string.ascii_letters + string.digits + "-_.", k=99))


def large_view(me, names, rng, of=lambda name: True, **fields):
    view = View(me)
    view.start(Record(me, f"{me}:1", (0, 0)), NOW)
    for name in names:
        if of(name):
            version = int(NOW) - rng.randrange(10**9), rng.randrange(2**53 - 10**15, 2**53)
            view.put(Record(name, "10.0.0.1:1", version, **fields))
    return view


def conversed(caller, callee, proving=believe):
    """A whole conversation in frames; the largest of them."""
    frames = []

    def travelled(said):
        decoder = Decoder()
        decoder.feed(encode(["SYNCHRONIZE", said]))
        frames.append(len(payload(said)))
        return exchange.checked(decoder.next_message()[1])

    def turn(say):
        theirs = travelled(say)
        added = exchange.absorb(callee, theirs, NOW, caller.me, proving).answer if exchange.has_news(theirs) else {}
        return travelled(exchange.respond(callee, theirs) | added)

    synchronise(lambda: caller, lambda theirs: exchange.absorb(caller, theirs, NOW, callee.me, proving).answer, turn)
    return max(frames)


@pytest.mark.long
@pytest.mark.parametrize("share", ["all the same", "half each", "other versions"])
def test_20_000_records_with_names_of_the_maximum_length_fit_into_frames_and_end_equal(share):
    rng = Random(share)
    names = [longest_name(rng) for _ in range(RECORDS_MAX - 2)]
    halves = {name: rng.random() < 0.5 for name in names}
    ours, theirs = (lambda name: halves[name]), (lambda name: not halves[name])
    if share != "half each":
        ours = theirs = lambda name: True
    a, b = large_view("a", names, Random(1), ours), large_view("b", names, Random(1 if share == "all the same" else 2), theirs)
    for _ in range(40):
        assert conversed(a, b) <= FRAME_BYTES_MAX and conversed(b, a) <= FRAME_BYTES_MAX
        if a.digest() == b.digest():
            break
    assert a.records.keys() == b.records.keys() and a.digest() == b.digest()


def test_all_buckets_are_compared_in_one_conversation_though_few_fit_into_a_frame(monkeypatch):
    monkeypatch.setattr(exchange, "VERSIONS_BYTES_MAX", 5000)  # of twenty times as much
    rng = Random(1)
    names = [longest_name(rng) for _ in range(500)]
    a, b = large_view("a", names, Random(1)), large_view("b", names, Random(1))
    last = max(names, key=bucket)
    b.put(b.records[last]._replace(load=3, version=(int(NOW), 0)))
    conversed(a, b)
    assert a.records[last].load == 3 and a.digest() == b.digest()


def test_a_bucket_that_is_larger_than_its_share_is_told_in_part(monkeypatch):
    monkeypatch.setattr(view_module, "bucket", lambda name: 7)  # as nobody's names are by chance
    monkeypatch.setattr(exchange, "VERSIONS_BYTES_MAX", 20_000)
    monkeypatch.setattr(exchange, "RECORDS_BYTES_MAX", 50_000)
    rng = Random(1)
    a, b = (large_view(me, [longest_name(rng) for _ in range(400)], rng) for me in "ab")
    say = exchange.follow_up(a, exchange.respond(b, exchange.opening(a)))
    assert say["of"] == [7] and 100 < len(say["versions"]) < 200
    assert conversed(a, b) < 100_000 and len(a.records) > 410 < len(b.records)


def test_a_frame_has_room_for_all_shares_at_once():
    rng = Random(1)
    names = [longest_name(rng) for _ in range(6000)]
    a, b = large_view("a", names[:3000], rng, web_dir="x" * 400), large_view("b", names[3000:], rng, web_dir="x" * 400)
    texts = ["".join(rng.choices('"\\' + string.printable, k=TEXT_MAX)) for _ in range(9)]
    for number, text in enumerate(texts):
        b.policies[digest(text)] = text
        b.put(Record(f"p{number}", "p:1", (1, 0), policy=digest(text)))
        a.put(Record(f"p{number}", "p:1", (1, 0), policy=digest(text)))
    say = exchange.follow_up(a, {"buckets": [], "wanted": list(a.records), "unmet": list(a.records), "unknown": []})
    say["unknown"] = [
        *a.unknown_policies()[: exchange.POLICIES_ASKED_MAX],
        *(f"{rng.getrandbits(128):032x}" for _ in range(exchange.CERTIFICATES_ASKED_MAX)),
    ]
    assert {"of", "versions", "digest", "records"} <= say.keys() and 600_000 < len(payload(say)) < FRAME_BYTES_MAX - 300_000
    answer = exchange.respond(b, exchange.checked(say))
    assert {"wanted", "unmet", "records", "policies", "buckets"} <= answer.keys()
    assert encode(answer | {"unknown": say["unknown"]}) and len(payload(answer)) < FRAME_BYTES_MAX - 30_000


def test_a_node_passes_on_what_it_is_told_and_all_around_what_another_says_of_itself():
    view = a_view("me", 3)
    assert exchange.to_pass_on(["n0", "n1"], {"until": "n9"}, "n1") == (["n0", "n1"], "n9")
    assert exchange.to_pass_on(["n0", "n1"], {}, "n1") == (["n1"], exchange.EVERYBODY)
    assert exchange.push(view, ["n0", "nobody"], "n9")["until"] == "n9" and "until" not in exchange.push(view, ["n0"])


# --- records that are signed ------------------------------------------------------------------------------------------


def signed_view(name, *others):
    """A view whose records, and those of the others, are signed and certified."""
    view = seal_own(a_view(name))
    for other in others:
        record = sealed(other if isinstance(other, Record) else Record(other, f"{other}:1", (1, 0)))
        view.merge(record, NOW)
        view.learn_certificate(record.certificate, certificate_of(record.name))
    return view


def told(listener, say, talker="b", prove=prove):
    return exchange.absorb(listener, exchange.checked(json.loads(json.dumps(say))), NOW, talker, prove)


def test_a_record_comes_with_its_certificate_or_not_at_all():
    a, b = signed_view("a"), signed_view("b", "n0")
    absorbed = told(a, exchange.push(b, ["n0"]))
    digest_ = b.records["n0"].certificate
    assert absorbed.answer == {"known": 0, "unknown": [digest_]} and absorbed.lacking == 1
    assert absorbed.names == [] and "n0" not in a.records and a.certificates.keys() == {a.own.certificate}
    again = exchange.follow_up(b, absorbed.answer)
    assert again["certificates"] == {digest_: certificate_of("n0")} and len(again["records"]) == 1
    absorbed = told(a, again)
    assert absorbed.answer == {"known": 0} and absorbed.names == ["n0"]
    assert a.records["n0"] == b.records["n0"] and a.certificates[digest_] == certificate_of("n0")


def test_the_certificate_of_another_node_of_our_name_is_kept_to_be_told_of():
    a, text = signed_view("a"), b64encode(b"another one").decode()
    digest_ = certificate_digest(text)
    rival = sealed(Record("a", "10.9.9.9:1", (a.generation + 5, 0)))._replace(certificate=digest_)
    say = {"records": [as_json(rival)], "certificates": {digest_: text}}
    assert told(a, say, prove=lambda record, certificate: None).names == ["a"]
    assert a.rival == ("10.9.9.9:1", NOW, digest_) and a.certificates[digest_] == text
    assert a.own.address != "10.9.9.9:1" and a.own.version > rival.version


@pytest.mark.parametrize(("age", "is_along"), [(0, True), (exchange.YOUNG_SECONDS - 1, True), (exchange.YOUNG_SECONDS, False)])
def test_of_a_node_that_has_just_started_the_certificate_goes_along(age, is_along):
    b = signed_view("b", Record("n0", "n0:1", (int(NOW), 0)), "n1")
    say = exchange.push(b, ["n0", "n1"], None, NOW + age)
    assert list(say.get("certificates", {})) == [b.records["n0"].certificate] * is_along
    assert "certificates" not in exchange.push(b, ["n0", "n1"])


def test_news_of_a_node_that_is_known_takes_one_message_and_no_certificate():
    a, b = signed_view("a", "n0"), signed_view("b", Record("n0", "n0:1", (1, 5)))
    say = exchange.push(b, ["n0"])
    assert "certificates" not in say and told(a, say).answer == {"known": 0} and a.records["n0"].version == (1, 5)


def test_telling_brings_what_the_listener_lacks_and_how_far_it_is_to_go():
    a, b, said = signed_view("a", "n1"), signed_view("b", "n0", "n1"), []
    telling = exchange.tell(lambda: b, ["n0", "n1"], NOW, "n9")
    said += [next(telling)]
    said += [telling.send(told(a, said[0]).answer)]
    with pytest.raises(StopIteration) as end:
        telling.send(told(a, said[1]).answer)
    assert end.value.value == {"known": 1} and "n0" in a.records
    assert [sorted(each) for each in said] == [["records", "until"], ["certificates", "records", "until"]]


@pytest.mark.parametrize("is_newcomer_calling", [True, False])
def test_a_newcomer_learns_all_with_its_certificates_in_one_conversation_of_few_turns(is_newcomer_calling):
    mesh, newcomer = signed_view("a", *(f"n{number}" for number in range(1000))), signed_view("b")
    said = synchronised(*((newcomer, mesh) if is_newcomer_calling else (mesh, newcomer)), prove)
    assert max(len(json.dumps(each)) for each in said) < exchange.RECORDS_BYTES_MAX * 1.3
    if is_newcomer_calling:
        assert len(newcomer.records) == 1002 == len(newcomer.certificates) and newcomer.digest() == mesh.digest()
        assert len(said) // 2 <= 7
    else:  # whoever has much to tell, and is not asked again and again, goes on in its next round
        assert len(newcomer.records) > 250
    assert mesh.records["b"] == newcomer.own


def test_what_is_known_is_not_proved_again_whoever_tells_it_and_with_whatever_signature():
    a, b = signed_view("a", "n0"), signed_view("b", "n0")
    b.accuse("n0", NOW)
    say, asked = exchange.push(b, ["n0"]), []
    say["records"][0]["signature"] = "ABCD"
    absorbed = told(a, say, prove=lambda *it: asked.append(it) or "no")
    assert not asked and absorbed.refused == [] and a.records["n0"].status == "suspect"
    assert a.records["n0"].signature == signed_view("x", "n0").records["n0"].signature
    assert told(a, say, prove=lambda *it: asked.append(it) or "no").answer["known"] == 1 and not asked


@pytest.mark.parametrize("name", ["n0", "a"])
def test_what_is_not_believed_is_left_out_and_why_is_told(name):
    """Also of our own name, whose version nobody but us may raise."""
    a = signed_view("a", "n0")
    before = dict(a.records)
    forged = sealed(Record(name, f"{name}:1", (int(NOW), 2**53), "dead", NOW))._replace(signature="AAAA")
    say = {"records": [as_json(forged)]}
    absorbed = told(a, say)
    assert absorbed.refused == [f"the record of {name}: its signature does not fit"] and a.records == before
    assert absorbed.answer == {"known": 0}
    say["certificates"] = {forged.certificate: "AAAA"}
    a.certificates.clear()
    assert told(a, say).refused == [f"the record of {name}: its certificate came under a wrong digest"]
    assert a.records == before and not a.certificates


def test_whoever_tells_its_own_record_hears_why_it_is_not_taken_in():
    a, b = signed_view("a"), signed_view("b")
    b.start(b.own, NOW + 2 * 86400 + 5)
    absorbed = told(a, exchange.push(seal_own(b), ["b"]))
    assert absorbed.answer == {"known": 0, "refused": "its version is 2.0 days ahead of our clock"}
    assert "b" not in a.records and "refused" not in told(a, exchange.push(b, ["b"]), "c").answer
    turns = exchange.turns(lambda: a, lambda theirs: told(a, theirs).answer)
    next(turns)
    assert "refused" in turns.send(exchange.push(b, ["b"])), "the other way round too"


def test_a_teller_that_has_told_too_much_is_heard_no_further():
    def spent(record, certificate):
        if record.name == "n2":
            raise TooBusy("enough")

    a, b = signed_view("a", "n0"), signed_view("b", *(f"n{number}" for number in range(4)))
    absorbed = told(a, exchange.push(b, ["n1", "n2", "n3"]) | {"certificates": b.certificates}, prove=spent)
    assert absorbed.names == ["n1"] and {"n0", "n1"} <= a.records.keys() and "n3" not in a.records


def test_what_is_passed_over_for_now_is_nobodys_fault_and_keeps_back_nothing_else():
    def restless(record, certificate):
        if record.name == "n2":
            raise exchange.Later
        return prove(record, certificate)

    a, b = signed_view("a", "n0"), signed_view("b", *(f"n{number}" for number in range(4)))
    absorbed = told(a, exchange.push(b, ["n1", "n2", "n3"]) | {"certificates": b.certificates}, prove=restless)
    assert absorbed.names == ["n1", "n3"] and not absorbed.refused and "n2" not in a.records


def test_one_message_asks_for_so_many_certificates_and_tells_so_many_records(monkeypatch):
    a, b = signed_view("a"), signed_view("b", *(f"n{number}" for number in range(30)))
    monkeypatch.setattr(exchange, "CERTIFICATES_ASKED_MAX", 7)
    monkeypatch.setattr(exchange, "RECORDS_TOLD_MAX", 20)
    say = exchange.push(b, [f"n{number}" for number in range(30)])
    assert len(say["records"]) == 20 and len(told(a, say).answer["unknown"]) == 7
    with pytest.raises(BadRequest):
        exchange.checked({"records": [1] * 21})


def test_a_certificate_that_nobody_uses_is_not_kept():
    a = signed_view("a")
    told(a, {"certificates": {certificate_digest(certificate_of("x")): certificate_of("x")}})
    assert a.certificates.keys() == {a.own.certificate}
