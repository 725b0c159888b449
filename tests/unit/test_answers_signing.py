"""STATEMENT, SIGN and signed packages, of nodes in memory: what is signed is copied, and what is not stays where it is."""

import time

import pytest

from bdserver import errors
from bdserver.core.messages import DontHave, Found, No, NotGiven, Package, Yes
from bdserver.core.roles import ADMIN, NODE
from bdserver.files import publishers
from bdserver.files.publishers import Signed, signed
from bdserver.processes.answers import routing
from bdserver.processes.describing import update_own
from tests.unit.nodes import NOW, a_mesh, acquaint
from tests.unit.signed import KEY, SIGNER, STRANGER, a_list, a_signing_mesh, later, packed, publish, sign


def content(node, name="Echo"):
    with open(node.services.get(name).path, "rb") as file:
        return file.read()


def replicated(taker, giver, name="Echo"):
    """What a node that knows of it answers when it is to take a copy."""
    acquaint(taker, giver)
    return taker.ask("WILLYOUREPLICATE", name)


def tended(node):
    """The node looks after Echo, with as much time as its discoverer gives it."""
    with node.call_me(ADMIN) as talk:
        return talk.ask(["TEND", ["Echo"]], time.monotonic() + 60)


def refusals(node):
    return [event["why"] for event in node.journal.recent(9) if event["what"] == "refused"]


# --- an original --------------------------------------------------------------------------------------------------


def test_what_is_published_signed_has_the_edition_that_was_signed(tmp_path):
    (node,) = a_signing_mesh(tmp_path, "me")
    said = publish(tmp_path, node)
    here, sha256 = node.services.get("Echo"), packed(tmp_path)[0]
    assert not said.notes and here.edition == (NOW, sha256[:32]) and here.signer == SIGNER
    assert Signed.of_text(here.signature)[:2] == (NOW, sha256)
    own = node.cache.view().own.services["Echo"]
    assert (own.signer, own.replicable, own.edition) == (SIGNER, True, here.edition)
    assert node.ask("STATUS", role=ADMIN).nodes[0]["offers"]["Echo"]["signer"] == SIGNER
    assert node.ask("STATEMENT", "Echo", role=ADMIN) == (NOW + 1, sha256, here.signature, {"weight": 1.0, "health": "tcp"})


def test_wishes_are_part_of_what_is_signed(tmp_path):
    (node,) = a_signing_mesh(tmp_path, "me")
    with pytest.raises(errors.BadService, match="another package here than what was signed"):
        publish(tmp_path, node, weight=5)
    assert node.services.get("Echo") is None


@pytest.mark.parametrize(
    ("signature", "error", "words"),
    [
        ("nonsense", errors.BadRequest, "without the counter"),
        (signed(KEY, "Echo", 7, "f" * 64).text, errors.BadService, "another package"),
        (5, errors.BadRequest, "signature must be a text"),
    ],
)
def test_a_signature_that_does_not_fit_is_refused_before_anything_is_written(tmp_path, signature, error, words):
    (node,) = a_signing_mesh(tmp_path, "me")
    with pytest.raises(error, match=words):
        publish(tmp_path, node, key=None, signature=signature)
    assert node.services.all() == {} and node.scratch == []


@pytest.mark.parametrize(("key", "why"), [(None, "nobody has signed it"), (STRANGER, "none of our publishers'")])
def test_an_original_that_is_not_signed_is_served_and_never_copied(tmp_path, key, why):
    node, other = a_signing_mesh(tmp_path, "me", "other")
    [note] = publish(tmp_path, node, key=key).notes
    assert note.startswith("Echo is served here and never copied: ") and why in note
    assert isinstance(node.ask("WILLYOUEXECUTE", "Echo"), Yes)
    assert node.ask("GIVESERVICE", "Echo") == No() and replicated(other, node) == NotGiven()
    own = node.cache.view().own.services["Echo"]
    assert not own.replicable and own.signer == ""
    found = node.ask("FIND", "Echo", [], 3)
    assert isinstance(found, Found) and found.file is None and found.described["url"]


def test_what_is_signed_later_is_a_new_edition_and_goes_out(tmp_path):
    node, other = a_signing_mesh(tmp_path, "me", "other")
    publish(tmp_path, node, key=None)
    before = node.services.get("Echo").edition
    assert not sign(node).notes
    here = node.services.get("Echo")
    assert here.edition.digest == before.digest and here.edition.counter > before.counter
    assert node.journal.recent(1)[0]["signer"] == SIGNER
    assert isinstance(replicated(other, node), Yes)
    assert other.services.get("Echo").signature == here.signature


def test_only_an_original_that_lies_here_can_be_signed(tmp_path):
    node, other = a_signing_mesh(tmp_path, "me", "other")
    publish(tmp_path, node)
    replicated(other, node)
    text = node.services.get("Echo").signature
    for command in (("STATEMENT", "Echo"), ("SIGN", "Echo", text)):
        with pytest.raises(errors.BadService, match="its original is at me: sign it there"):
            other.ask(*command, role=ADMIN)
    assert other.ask("STATEMENT", "Echo", True, role=ADMIN).counter > node.services.get("Echo").edition.counter
    node.offer("Elsewhere", None, url="http://h/")
    for name in ("Elsewhere", "Nothing"):
        assert node.ask("STATEMENT", name, role=ADMIN)[:3] == (NOW, "", "")
        with pytest.raises(errors.CantFind, match="no file or folder"):
            node.ask("SIGN", name, text, role=ADMIN)
    for command in (("STATEMENT", "Echo"), ("SIGN", "Echo", text)):
        with pytest.raises(errors.Forbidden):
            node.ask(*command, role=NODE)


def test_what_has_changed_since_it_was_stated_is_not_signed(tmp_path):
    (node,) = a_signing_mesh(tmp_path, "me")
    publish(tmp_path, node, key=None)
    said = node.ask("STATEMENT", "Echo", role=ADMIN)
    publish(tmp_path, node, b"v2", key=None)
    with pytest.raises(errors.BadService, match="changed since"):
        node.ask("SIGN", "Echo", signed(KEY, "Echo", said.counter, said.sha256).text, role=ADMIN)


def test_the_same_published_once_more_stays_signed_and_what_differs_does_not(tmp_path):
    (node,) = a_signing_mesh(tmp_path, "me")
    publish(tmp_path, node)
    before = node.services.get("Echo")
    assert not publish(tmp_path, node, key=None).notes
    assert (before.edition, before.signature) == (node.services.get("Echo").edition, node.services.get("Echo").signature)
    [note] = publish(tmp_path, node, b"v2", key=None).notes
    assert "nobody has signed it" in note and node.services.get("Echo").signature == node.services.get("Echo").signer == ""


def test_what_was_changed_by_hand_is_signed_no_longer(tmp_path):
    (node,) = a_signing_mesh(tmp_path, "me")
    publish(tmp_path, node)
    with open(node.services.get("Echo").path, "wb") as file:
        file.write(b"changed")
    tended(node)
    here = node.services.get("Echo")
    assert here.signature == here.signer == "" and not node.cache.view().own.services["Echo"].replicable


# --- copies -------------------------------------------------------------------------------------------------------


def test_a_copy_of_a_copy_is_signed_too(tmp_path):
    one, two, three = a_signing_mesh(tmp_path, "one", "two", "three")
    publish(tmp_path, one)
    assert isinstance(replicated(two, one), Yes)
    acquaint(one, two, three)
    one.network.trouble[one.address] = errors.NobodyThere("dead")
    assert isinstance(three.ask("WILLYOUREPLICATE", "Echo"), Yes)
    there = three.services.get("Echo")
    assert (there.signer, there.original) == (SIGNER, "one") and there.signature == one.services.get("Echo").signature
    assert isinstance(three.ask("WILLYOUEXECUTE", "Echo"), Yes)
    given = three.ask("GIVESERVICE", "Echo")
    assert isinstance(given, Package) and given.described["signature"] == there.signature


def test_where_nobody_is_asked_for_a_signature_is_passed_on_unread(tmp_path):
    one, two = a_mesh(tmp_path, "one", "two")
    publish(tmp_path, one, key=STRANGER)
    assert isinstance(replicated(two, one), Yes)
    assert two.services.get("Echo").signer == two.cache.view().own.services["Echo"].signer == STRANGER.public.name


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        ("", "nobody has signed it"),
        ("7", "without a package's SHA-256"),
        (7, "is not the one that was signed"),
        (signed(KEY, "Echo", 7, "f" * 64).text, "is not the one that was signed"),
        ("STRANGER", "none of our publishers'"),
        ("OTHER NAME", "has not signed this"),
        ("RAISED", "has not signed this"),
        ("SAME ID", "has not signed this"),
        ("FAR AHEAD", "is a time to come"),
    ],
)
def test_a_package_that_no_publisher_signed_is_not_installed(tmp_path, monkeypatch, signature, why):
    one, two = a_signing_mesh(tmp_path, "one", "two")
    publish(tmp_path, one)
    real = one.services.get("Echo")
    sha256 = Signed.of_text(real.signature).sha256
    forged = {
        "STRANGER": signed(STRANGER, "Echo", int(NOW), sha256),
        "OTHER NAME": signed(KEY, "Login", int(NOW), sha256),
        "RAISED": Signed.of_text(real.signature)._replace(counter=int(NOW) + 5),
        "SAME ID": signed(STRANGER._replace(id=KEY.id), "Echo", int(NOW), sha256),
        "FAR AHEAD": signed(KEY, "Echo", int(NOW) + 10**6, sha256),
    }
    text = forged[signature].text if signature in forged else signature
    monkeypatch.setattr(one.services, "get", lambda name: real._replace(signature=text))
    assert replicated(two, one) == NotGiven()
    assert two.services.all() == {} and [each for each in two.scratch if each != ".lock"] == []
    assert [each for each in refusals(two) if why in each], refusals(two)
    assert replicated(two, one) == NotGiven() and len(refusals(two)) == 1


def test_an_older_edition_does_not_come_back(tmp_path):
    """Somebody has kept it, and what once was good about it: the original is gone, and it says that it has it."""
    one, two, liar = a_signing_mesh(tmp_path, "one", "two", "liar")
    publish(tmp_path, one)
    replicated(liar, one)
    later(one, two, liar)
    publish(tmp_path, one, b"v2")
    replicated(two, one)
    assert content(two) == b"v2"
    two.services.withdraw("Echo")
    update_own(two)
    with two.cache.locked() as view:
        view.forget("one")
    assert replicated(two, liar) == NotGiven() and two.services.all() == {}
    assert "no older one comes back" in refusals(two)[0]
    with pytest.raises(errors.BadPackage, match="no older one comes back"):
        publish(tmp_path, two, b"v1", counter=int(NOW))


def test_two_that_come_at_once_do_not_bring_the_older_one_in(tmp_path, monkeypatch):
    """Between the look at the signature and the installation another process took in a newer one."""
    one, two = a_signing_mesh(tmp_path, "one", "two")
    publish(tmp_path, one)
    checks = iter([lambda: None, lambda: two.files.seen.raise_to("Echo", int(NOW) + 9)])
    check = two.trust.check

    def meanwhile(*arguments):
        next(checks)()
        return check(*arguments)

    monkeypatch.setattr(two.trust, "check", meanwhile)
    with pytest.raises(errors.BadPackage, match="no older one comes back"):
        replicated(two, one)
    assert two.services.all() == {} and [each for each in two.scratch if each != ".lock"] == []


def test_a_copy_without_a_signature_is_not_offered_until_its_original_is_signed(tmp_path):
    one, two = a_mesh(tmp_path, "one", "two")
    publish(tmp_path, one, key=None)
    assert isinstance(replicated(two, one), Yes)
    two.rules = two.rules._replace(publishers=publishers.read(a_list(tmp_path)))
    update_own(two)
    assert "Echo" not in two.cache.view().own.services
    assert two.ask("WILLYOUEXECUTE", "Echo") == two.ask("YOUWILLEXECUTE", "Echo") == DontHave()
    assert two.ask("GIVESERVICE", "Echo") == No() and replicated(two, one) == NotGiven()
    assert two.ask("FIND", "Echo", ["one"], 3) == (["one", "two"],)
    later(one, two)
    sign(one)
    two.knows(one)
    assert not tended(two).notes
    assert two.services.get("Echo").signer == SIGNER and isinstance(two.ask("WILLYOUEXECUTE", "Echo"), Yes)


def test_a_look_up_does_not_describe_us_anew_for_a_copy_that_is_not_offered(tmp_path, monkeypatch):
    one, two = a_mesh(tmp_path, "one", "two")
    publish(tmp_path, one, key=None)
    replicated(two, one)
    two.rules = two.rules._replace(publishers=publishers.read(a_list(tmp_path)))
    update_own(two)
    monkeypatch.setattr(routing, "update_own", lambda node: pytest.fail("in a look-up"))
    assert two.ask("WHEREIS", "Echo", None).details["node"] == "one"


def test_an_adopted_copy_and_one_that_comes_back_stay_signed(tmp_path):
    one, two, three = a_signing_mesh(tmp_path, "one", "two", "three")
    publish(tmp_path, one)
    replicated(two, one)
    with two.cache.locked() as view:
        view.forget("one")
    two.ask("ADOPT", "Echo", role=ADMIN)
    two.ask("WITHDRAW", "Echo", role=ADMIN)
    two.ask("RESTORE", "Echo", role=ADMIN)
    assert two.services.get("Echo").edition.counter > one.services.get("Echo").edition.counter
    with three.cache.locked() as view:
        view.forget("one")
    assert isinstance(replicated(three, two), Yes) and three.services.get("Echo").signer == SIGNER
