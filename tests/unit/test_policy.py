"""WS-Policy: the Recommendation's own examples as tables, its laws as properties, a slow evaluator as twin, and strangers' input."""

import itertools
import json
import resource
import subprocess
import sys
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdserver.core import policy
from bdserver.core.policy import Policy, can_talk, intersect, parse, show
from bdserver.errors import BadPolicy, TooLarge

OLD, NEW = policy.NAMESPACES
MODES = ("lax", "strict")
HEAD = f'<wsp:Policy xmlns:wsp="{NEW}" xmlns:a="urn:a" xmlns:sp="urn:sp" xmlns:b="urn:b">'
TAIL = "</wsp:Policy>"
UTILITY = 'xmlns:wsu="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"'


def doc(inside):
    return HEAD + inside + TAIL


def shown(inside):
    return show(parse(doc(inside)))


# --- normal form (section 4.3) ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "form"),
    [
        ("", "()"),  # one alternative that asks for nothing
        ("<wsp:ExactlyOne/>", "NULL"),  # no alternative: nobody can meet it
        ("<wsp:All/>", "()"),
        ("<wsp:ExactlyOne><wsp:All/></wsp:ExactlyOne>", "()"),
        ("<a:x/>", "(x)"),
        ("<a:x/><a:y/>", "(x /\\ y)"),
        ("<wsp:ExactlyOne><a:x/><a:y/></wsp:ExactlyOne>", "(x) V (y)"),
        ("<wsp:All><a:x/><wsp:ExactlyOne><a:y/><a:z/></wsp:ExactlyOne></wsp:All>", "(x /\\ y) V (x /\\ z)"),
        ("<wsp:All><a:x/><wsp:ExactlyOne/></wsp:All>", "NULL"),
        ('<a:x wsp:Optional="true"/>', "() V (x)"),
        ('<a:x wsp:Optional="1"/><a:y/>', "(x /\\ y) V (y)"),
        ('<a:x wsp:Optional="false"/>', "(x)"),
        ('<a:x wsp:Ignorable="true"/>', "(x?)"),
        # the Recommendation's distributive examples
        ("<wsp:ExactlyOne><wsp:ExactlyOne><a:x/></wsp:ExactlyOne><a:y/></wsp:ExactlyOne>", "(x) V (y)"),
        ("<wsp:All><wsp:All><a:x/><a:y/></wsp:All><a:z/></wsp:All>", "(x /\\ y /\\ z)"),
        ("<wsp:Policy><a:x/></wsp:Policy>", "(x)"),
        # nested policies are distributed over the assertion (section 4.3.2)
        ("<a:x><wsp:Policy/></a:x>", "(x[])"),
        ("<a:x><wsp:Policy><a:y/></wsp:Policy></a:x>", "(x[y])"),
        ("<a:x><wsp:Policy><wsp:ExactlyOne><a:y/><a:z/></wsp:ExactlyOne></wsp:Policy></a:x>", "(x[y]) V (x[z])"),
        ("<a:x><wsp:Policy><wsp:ExactlyOne/></wsp:Policy></a:x>", "NULL"),
        ("<wsp:ExactlyOne><a:x/><a:x/></wsp:ExactlyOne>", "(x)"),
        ("<!-- a word --><a:x/>\n  <?target data?>", "(x)"),
    ],
)
def test_the_normal_form(inside, form):
    assert shown(inside) == form


SECURITY = """<wsp:ExactlyOne><wsp:All><sp:SignedParts/></wsp:All><wsp:All><sp:EncryptedParts/></wsp:All></wsp:ExactlyOne>"""


def test_the_recommendations_first_example():
    assert shown(SECURITY) == "(EncryptedParts) V (SignedParts)"


def test_references_within_the_document():
    inside = f'<wsp:ExactlyOne><wsp:PolicyReference URI="#p"/><wsp:Policy {UTILITY} wsu:Id="p"><a:x/></wsp:Policy><a:y/></wsp:ExactlyOne>'
    assert shown(inside) == "(x) V (y)"
    assert shown('<wsp:PolicyReference URI="#q"/><wsp:Policy xml:id="q"><a:x/></wsp:Policy>') == "(x)"
    assert shown('<wsp:PolicyReference URI="urn:r"/><wsp:Policy Name="urn:r"><a:x/></wsp:Policy>') == "(x)"


def test_both_namespaces_say_the_same():
    old = parse(doc("<a:x><wsp:Policy><a:y/></wsp:Policy></a:x>").replace(NEW, OLD))
    assert old == parse(doc("<a:x><wsp:Policy><a:y/></wsp:Policy></a:x>")) and can_talk(old, old)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_utf_8_and_utf_16_are_read(encoding):
    text = doc("<a:grün/>")
    data = text.encode(encoding)
    assert show(parse(data)) == "(grün)"
    assert parse(policy.text_of(data)) == parse(data)


# --- intersection (section 4.5) -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "strict", "lax"),
    [
        ("", "", "()", "()"),
        ("<a:x/>", "", "NULL", "NULL"),
        ("<a:x/>", "<a:x/>", "(x)", "(x)"),
        ("<a:x/>", "<b:x/>", "NULL", "NULL"),  # by QName, not by local name
        ("<wsp:ExactlyOne/>", "<wsp:ExactlyOne/>", "NULL", "NULL"),
        ("<wsp:ExactlyOne/>", "", "NULL", "NULL"),
        ("<a:x/><a:y/>", "<a:x/>", "NULL", "NULL"),
        ('<a:x/><a:y wsp:Ignorable="true"/>', "<a:x/>", "NULL", "(x /\\ y?)"),
        ('<a:x/><a:y wsp:Optional="true"/>', "<a:x/>", "(x)", "(x)"),
        ("<wsp:ExactlyOne><a:x/><a:y/></wsp:ExactlyOne>", "<wsp:ExactlyOne><a:y/><a:z/></wsp:ExactlyOne>", "(y)", "(y)"),
        ("<a:x><wsp:Policy><a:y/></wsp:Policy></a:x>", "<a:x/>", "NULL", "NULL"),
        ("<a:x><wsp:Policy/></a:x>", "<a:x/>", "NULL", "NULL"),
        ("<a:x><wsp:Policy><a:y/></wsp:Policy></a:x>", "<a:x><wsp:Policy><a:y/></wsp:Policy></a:x>", "(x[y])", "(x[y])"),
        ("<a:x><wsp:Policy><a:y/></wsp:Policy></a:x>", "<a:x><wsp:Policy><a:z/></wsp:Policy></a:x>", "NULL", "NULL"),
        ('<a:x p="1"/>', '<a:x p="2"/>', "(x /\\ x)", "(x /\\ x)"),  # parameters are no business of ours, both are kept
    ],
)
def test_intersection(a, b, strict, lax):
    for one, other in ((a, b), (b, a)):
        assert show(intersect(parse(doc(one)), parse(doc(other)), "strict")) == strict
        assert show(intersect(parse(doc(one)), parse(doc(other)), "lax")) == lax


def test_no_policy_talks_to_everyone_and_no_alternative_to_nobody():
    nobody = parse(doc("<wsp:ExactlyOne/>"))
    nothing = parse(doc(""))
    assert can_talk(None, nobody) and can_talk(None, None) and can_talk(nothing, None)
    assert not can_talk(nobody, nobody) and can_talk(nothing, nothing) and not can_talk(nothing, parse(doc("<a:x/>")))


def test_what_stands_alone_is_named():
    a, b = parse(doc("<a:x/><a:y/>")), parse(doc("<a:x/><a:z/>"))
    assert policy.alone(a, b) == ["{urn:a}y"] and policy.alone(b, a) == ["{urn:a}z"]


def test_the_json_form():
    parsed = parse(doc('<a:x wsp:Ignorable="true"><wsp:Policy><a:y/></wsp:Policy></a:x>'))
    y = {"name": "{urn:a}y", "nested": None, "ignorable": False}
    assert policy.as_json(parsed) == {"alternatives": [[{"name": "{urn:a}x", "nested": [[y]], "ignorable": True}]]}
    assert json.dumps(policy.as_json(parsed))


# --- laws, and a slow obvious twin --------------------------------------------------------------------------------

LEAVES = st.builds(
    lambda name, flag: f"<a:{name}{flag}/>",
    st.sampled_from("xyz"),
    st.sampled_from(["", "", ' wsp:Optional="true"', ' wsp:Ignorable="1"']),
)


def _operators(below):
    inside = st.lists(below, max_size=3).map("".join)
    return st.one_of(
        inside.map(lambda text: f"<wsp:All>{text}</wsp:All>"),
        inside.map(lambda text: f"<wsp:ExactlyOne>{text}</wsp:ExactlyOne>"),
        inside.map(lambda text: f"<a:n><wsp:Policy>{text}</wsp:Policy></a:n>"),
    )


INSIDES = st.recursive(LEAVES, _operators, max_leaves=6)


@st.composite
def policies(draw):
    try:
        return parse(doc(draw(INSIDES)))
    except TooLarge:
        return parse(doc("<a:x/>"))


def twin_compatible(x, y, mode):
    """The text of section 4.5, word for word: the slow obvious way."""

    def pair(p, q):
        if p.name != q.name or (p.nested is None) != (q.nested is None):
            return False
        return p.nested is None or twin_compatible(p.nested, q.nested, mode)

    def counts(assertion):
        return mode == "strict" or not assertion.ignorable

    return all(any(pair(p, q) for q in y) for p in x if counts(p)) and all(any(pair(p, q) for p in x) for q in y if counts(q))


@given(policies(), policies(), st.sampled_from(MODES))
def test_intersection_agrees_with_the_cross_product_written_out(a, b, mode):
    pairs = [(x, y) for x, y in itertools.product(a.alternatives, b.alternatives) if twin_compatible(x, y, mode)]
    assert intersect(a, b, mode) == Policy(tuple(sorted({*x, *y})) for x, y in pairs)
    assert can_talk(a, b, mode) == bool(pairs)


@given(policies(), policies(), st.sampled_from(MODES))
def test_intersection_commutes(a, b, mode):
    assert intersect(a, b, mode) == intersect(b, a, mode)


@given(policies(), st.sampled_from(MODES))
def test_a_policy_meets_itself_if_it_has_an_alternative(a, mode):
    both = intersect(a, a, mode)
    assert set(a.alternatives) <= set(both.alternatives)
    assert bool(both.alternatives) == bool(a.alternatives)


def written(alternative):
    def one(assertion):
        flag = ' wsp:Ignorable="true"' if assertion.ignorable else ""
        nested = "" if assertion.nested is None else f"<wsp:Policy><wsp:All>{written(assertion.nested)}</wsp:All></wsp:Policy>"
        return f"<a:{assertion.name.rpartition('}')[2]}{flag}>{nested}</a:{assertion.name.rpartition('}')[2]}>"

    return "".join(map(one, alternative))


@given(policies())
def test_the_normal_form_is_stable(a):
    inside = "".join(f"<wsp:All>{written(alternative)}</wsp:All>" for alternative in a.alternatives)
    assert parse(doc(f"<wsp:ExactlyOne>{inside}</wsp:ExactlyOne>")) == a


# --- strangers' input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "policy:1: no element found"),
        ("<a/>", "wsp:Policy is wanted"),
        (doc("\n<a:x>"), "policy:2: mismatched tag"),
        (doc("words"), "text in a wsp:Policy"),
        (doc("<wsp:Odd/>"), "wsp:Odd has no place"),
        (doc('<wsp:PolicyReference URI="#x"/>'), "which is not in this document"),
        (doc('<wsp:PolicyReference URI="http://127.0.0.1/p.xml"/>'), "which is not in this document"),
        (doc('<wsp:PolicyReference URI="#x"><a:x/></wsp:PolicyReference>'), "must be empty"),
        (doc('<a:x wsp:Optional="maybe"/>'), "neither true nor false"),
        (doc("<a:x><wsp:Policy/><wsp:Policy/></a:x>"), "two nested policies"),
        (doc('<wsp:Policy xml:id="p"/><wsp:Policy xml:id="p"/>'), "a second policy with the name 'p'"),
        (doc('<wsp:Policy xml:id="p"><wsp:PolicyReference URI="#p"/></wsp:Policy>'), "refers to itself"),
        ('<!DOCTYPE x [<!ENTITY e "x">]>' + doc("&e;"), "must not have a DOCTYPE"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd">' + doc(""), "must not have a DOCTYPE"),
        (doc("&undefined;"), "undefined entity"),
        (b'<?xml version="1.0" encoding="iso-8859-1"?>' + doc("").encode(), "UTF-8 or UTF-16"),
        (b"\xff\xff\x00", "policy:1"),
    ],
)  # fmt: skip
def test_a_bad_document_is_one_line_with_its_place(text, reason):
    with pytest.raises(BadPolicy) as refusal:
        parse(text)
    assert reason in str(refusal.value) and "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


def choices(count, per_choice=2):
    one = "<wsp:ExactlyOne>{}</wsp:ExactlyOne>"
    return "".join(one.format("".join(f"<a:c{i}-{j}/>" for j in range(per_choice))) for i in range(count))


@pytest.mark.parametrize(
    ("fine", "too_large"),
    [
        (choices(6), choices(7)),  # 64 and 128 alternatives
        ("".join(f"<a:x{i}/>" for i in range(32)), "".join(f"<a:x{i}/>" for i in range(33))),
        ("<wsp:All>" * 31 + "</wsp:All>" * 31, "<wsp:All>" * 32 + "</wsp:All>" * 32),
        ("<!--" + " " * (65536 - 7 - len(doc(""))) + "-->", "<!--" + " " * (65536 - 6 - len(doc(""))) + "-->"),
    ],
    ids=["alternatives", "assertions", "depth", "bytes"],
)
def test_each_budget_from_both_sides(fine, too_large):
    parse(doc(fine))
    with pytest.raises(TooLarge):
        parse(doc(too_large))


def test_the_steps_of_an_intersection_are_counted(monkeypatch):
    many = parse(doc(choices(6)))
    other = parse(doc(choices(6) + "<a:more/>"))
    assert not can_talk(many, other)
    monkeypatch.setattr(policy, "STEPS_MAX", 100)
    with pytest.raises(TooLarge, match="steps"):
        intersect(many, other)


HOSTILE = {
    "2^60 alternatives": doc(choices(60)),
    "2^60 alternatives, optional": doc("".join(f'<a:x{i} wsp:Optional="true"/>' for i in range(60))),
    "2^60 alternatives by references": doc(
        "".join(
            f'<wsp:Policy xml:id="p{i}"><wsp:ExactlyOne><wsp:PolicyReference URI="#p{i + 1}"/>'
            f'<wsp:All><wsp:PolicyReference URI="#p{i + 1}"/><a:x{i}/></wsp:All></wsp:ExactlyOne></wsp:Policy>'
            for i in range(60)
        )
        + '<wsp:Policy xml:id="p60"/>'
    ),
    "a long chain of references": doc(
        "".join(f'<wsp:Policy xml:id="p{i}"><wsp:PolicyReference URI="#p{i + 1}"/></wsp:Policy>' for i in range(700)) + '<wsp:Policy xml:id="p700"/>'
    ),
    "nesting 200,000 deep": HEAD + "<wsp:All>" * 200_000,
    "nesting that fits the text": HEAD + "<x>" * 20_000,
    "a million attributes": "<x " + " ".join(f'a{i}="1"' for i in range(1_000_000)) + "/>",
    "attributes that fit the text": HEAD + "<x " + " ".join(f'a{i}="1"' for i in range(6000)) + "/>",
    "a circle": doc('<wsp:Policy xml:id="a"><wsp:PolicyReference URI="#b"/></wsp:Policy><wsp:Policy xml:id="b"><wsp:PolicyReference URI="#a"/></wsp:Policy>'),
    "a billion laughs": '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(f'<!ENTITY a{i} "{"&a;" * 10}">' for i in range(9)) + "]><x>&a8;</x>",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_costs_little_time_and_memory(name, tmp_path):
    path = tmp_path / "policy.xml"
    path.write_text(HOSTILE[name])
    program = (
        "import sys; from bdserver.core import policy; from bdserver.errors import BDError\n"
        "try: policy.parse(open(sys.argv[1], 'rb').read())\n"
        "except BDError as error: print(error.code)"
    )

    def limited():
        resource.setrlimit(resource.RLIMIT_CPU, (2, 2))  # 0.5 s is the budget, and this host is shared
        resource.setrlimit(resource.RLIMIT_DATA, (100 << 20, 100 << 20))

    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, preexec_fn=limited)
    assert done.stdout.strip() in ("too-large", "bad-policy"), done
    started = time.process_time()
    with pytest.raises((BadPolicy, TooLarge)):
        parse(HOSTILE[name])
    assert time.process_time() - started < 0.5  # of processor time, which other processes' noise does not touch


@settings(max_examples=3 * settings.default.max_examples)
@given(INSIDES, st.randoms(use_true_random=False))
def test_a_mutated_document_is_a_policy_or_a_documented_error(inside, rng):
    data = bytearray(doc(inside), "utf-8")
    for _ in range(rng.randrange(1, 6)):
        where = rng.randrange(len(data))
        change = rng.randrange(4)
        if change == 0:
            data[where] = rng.randrange(256)
        elif change == 1:
            del data[where : where + rng.randrange(1, 20)]
        elif change == 2:
            data[where:where] = data[rng.randrange(len(data)) :][:30]
        else:
            data[where:where] = rng.choice([b"<!DOCTYPE", b"&#0;", b"\0", b"</", b"<![CDATA[", b"\xed\xa0\x80", b'="'])
        if not data:
            break
    try:
        parsed = parse(bytes(data))
    except (BadPolicy, TooLarge) as error:
        assert "\n" not in str(error)
    else:
        assert show(parsed) and can_talk(parsed, parsed) == bool(parsed.alternatives)


def test_a_thousand_nodes_of_twenty_policies_cost_twenty_intersections(monkeypatch):
    twenty = [parse(doc(f"<a:zone{i}/>")) for i in range(20)]
    client, compared = parse(doc("<a:zone7/>")), []
    monkeypatch.setattr(policy, "_compatible_pairs", lambda a, b, mode: compared.append((a, b)) or iter(()))
    policy._met.clear()
    rng = Random(1)
    for _ in range(1000):
        can_talk(client, rng.choice(twenty))
    policy._met.clear()
    assert len(compared) <= 20


def test_of_strangers_policies_digests_are_remembered_and_so_many_of_them(monkeypatch):
    monkeypatch.setattr(policy, "REMEMBERED_PAIRS_MAX", 5)
    policy._met.clear()
    ours = parse(doc("<a:X/>"))
    for number in range(12):
        assert not can_talk(parse(doc(f"<a:y{number}/>")), ours)
        assert len(policy._met) <= 5
    assert all(isinstance(text, str) for pair in policy._met for text in pair)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-8", "utf-8-sig"])
def test_a_document_travels_as_the_text_that_it_is_whatever_its_bytes(encoding):
    assert policy.text_of(doc("<a:X/>").encode(encoding)) == doc("<a:X/>")


def test_one_alternative_more_than_the_limit_is_too_large_also_where_they_are_listed(monkeypatch):
    monkeypatch.setattr(policy, "ALTERNATIVES_MAX", 3)
    listed = [f"<a:X{number}/>" for number in range(4)]
    assert len(parse(doc(f"<wsp:ExactlyOne>{''.join(listed[:3])}</wsp:ExactlyOne>")).alternatives) == 3
    with pytest.raises(TooLarge, match="more than 3 alternatives"):
        parse(doc(f"<wsp:ExactlyOne>{''.join(listed)}</wsp:ExactlyOne>"))


def test_assertions_with_other_parameters_below_them_are_other_assertions():
    with_one, with_other = (parse(doc(f"<a:X><b:Y z='{value}'/></a:X>")) for value in (1, 2))
    assert with_one != with_other and repr(with_one) == f"Policy({show(with_one)})"


def test_a_normal_form_takes_only_so_many_steps(monkeypatch):
    monkeypatch.setattr(policy, "STEPS_MAX", 20)
    with pytest.raises(TooLarge, match="normal form takes more than 20 steps"):
        parse(doc(choices(5)))


def test_an_assertion_shows_its_name():
    (alternative,) = parse(doc("<a:signed/>")).alternatives
    assert ["signed" in repr(assertion) for assertion in alternative] == [True]


def test_no_policy_is_shown_as_such():
    assert show(None) == "no policy"


def test_an_encoding_that_nobody_knows_is_a_bad_policy_in_one_line():
    with pytest.raises(BadPolicy) as caught:
        parse(b"<?xml version='1.0' encoding='klingon'?>" + doc("").encode())
    assert str(caught.value).startswith("policy:1: ") and "\n" not in str(caught.value)


# --- work is counted while it is done ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inside",
    [
        "<wsp:ExactlyOne>" + "".join(f"<a:x{n}/>" for n in range(64)) + "</wsp:ExactlyOne>" + "<wsp:All/>" * 4000,
        f'<wsp:Policy wsu:Id="w" {UTILITY}><wsp:ExactlyOne>' + "".join(f"<a:x{n}/>" for n in range(60))
        + "</wsp:ExactlyOne></wsp:Policy>" + '<wsp:PolicyReference URI="#w"/>' * 1500,
        "<wsp:ExactlyOne>" + "<wsp:All/>" * 4000 + "</wsp:ExactlyOne>",
        '<wsp:Policy wsu:Id="l" ' + UTILITY + ">" + "".join(f"<a:long{n}/>" for n in range(30)) + "</wsp:Policy>"
        + "<wsp:ExactlyOne>" + "".join(f'<a:y{n}><wsp:Policy><wsp:PolicyReference URI="#l"/></wsp:Policy></a:y{n}>' for n in range(60))
        + "</wsp:ExactlyOne>" + "<wsp:All/>" * 4000,
    ],
    ids=["empty ones beside 64", "one referred to 1,500 times", "4,000 empty ones", "nested by reference, and empty ones"],
)  # fmt: skip
def test_a_document_that_asks_for_much_work_gets_little_of_it(inside):
    started = time.process_time()
    try:
        parse(doc(inside))
    except TooLarge:
        pass
    assert time.process_time() - started < 3.0  # each took 3 to 34 s of a core; now a tenth of one


def test_what_is_nested_by_reference_counts_each_time():
    level = "".join(f"<a:z{n}/>" for n in range(20))
    parts = [f'<wsp:Policy wsu:Id="p0" {UTILITY}>{level}</wsp:Policy>']
    for depth in range(1, 12):
        inner = "".join(
            f'<a:q{depth}x{n}><wsp:Policy><wsp:PolicyReference URI="#p{depth - 1}"/></wsp:Policy></a:q{depth}x{n}>'
            for n in range(8)
        )
        parts.append(f'<wsp:Policy wsu:Id="p{depth}" {UTILITY}>{inner}</wsp:Policy>')
    with pytest.raises(TooLarge, match="holds more than 10000 others"):
        parse(doc('<wsp:PolicyReference URI="#p11"/><wsp:ExactlyOne><wsp:All/>' + "".join(parts) + "</wsp:ExactlyOne>"))
