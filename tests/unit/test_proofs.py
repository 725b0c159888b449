"""What a record must show to be believed, and each reason for which it is not."""

import time
from base64 import b64decode, b64encode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bdserver.core import membership
from bdserver.core.membership import LEFT, SUSPECT, Record, certificate_digest
from bdserver.core.roles import Role
from bdserver.errors import BadRequest
from bdserver.net import keys, openssl
from bdserver.net import proofs as module
from bdserver.net.authority import Authority, general_names
from bdserver.net.chain import Chain
from bdserver.net.issuing import Issuer
from bdserver.net.proofs import Proofs
from tests.unit.certificates import Key, load_certificate, make_keys, save, uri

ADDRESS = "127.0.0.1:9001"


def nobody(identity):
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CAs of two meshes, and keys by them."""
    folder = tmp_path_factory.mktemp("keys")
    for name, mesh in (("ca", "prod"), ("other", "test")):
        Authority.make(f"{folder}/{name}", mesh)
    for name, role in (("me", "node"), ("alpha", "node"), ("beta", "node"), ("carla", "client"), ("root", "admin")):
        make_keys(folder, f"{folder}/ca", name, role=role)
    make_keys(f"{folder}/of-other", f"{folder}/other", "alpha")
    return folder


def credentials(folder, name):
    return keys.load(f"{folder}/{name}", name)


def proofs(folder, name="me", refusal=nobody, **keywords):
    return Proofs(credentials(folder, name), refusal, **keywords)


@pytest.fixture
def mine(folder):
    return proofs(folder)


def a_record(name="alpha", address=ADDRESS, **fields):
    return Record(name, address, (1, 7), services={"Echo": membership.Service("static", 1.0, "", True)}, **fields)


def told(folder, record, name="alpha"):
    """(record, certificate) as the node whose keys these are says it."""
    its = proofs(folder, name)
    return its.seal(record), its.certificate


def test_what_a_node_says_of_itself_is_believed_also_over_the_wire(folder, mine):
    record, certificate = told(folder, a_record())
    back = membership.from_json(membership.as_json(record))
    assert back == record and mine.doubt(back, certificate) is None
    assert record.certificate == certificate_digest(certificate)
    left, _ = told(folder, a_record(status=LEFT, since=5.0))
    assert mine.doubt(membership.from_json(membership.as_json(left)), certificate) is None
    suspect = record._replace(status=SUSPECT, since=9.0, accusers=("beta",))
    assert mine.doubt(suspect, certificate) is None, "that is others' word, and none of its owner's"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_of_what_a_certificate_says_no_bit_may_change_and_whatever_becomes_of_it_is_a_reason(folder, mine):
    record, certificate = told(folder, a_record())
    der = b64decode(certificate)
    signed = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    for at in range(len(der)):
        bent = b64encode(der[:at] + bytes([der[at] ^ 1 << at % 8]) + der[at + 1 :]).decode()
        why = mine.doubt(record._replace(certificate=certificate_digest(bent)), bent)
        assert why or signed in b64decode(bent), at  # some bits around what is signed have no meaning


def test_of_what_is_signed_no_character_may_change(folder, mine):
    record, certificate = told(folder, a_record())
    for number in range(0, len(record.said), 7):
        other = chr(ord(record.said[number]) ^ 1)
        changed = record.said[:number] + other + record.said[number + 1 :]
        assert mine.doubt(record._replace(said=changed), certificate) == "its signature does not fit"


@pytest.mark.parametrize("signature", ["AAAA", "not base64", "é", "=", b64encode(bytes(72)).decode()])
def test_a_signature_that_is_none(folder, mine, signature):
    record, certificate = told(folder, a_record())
    assert mine.doubt(record._replace(signature=signature), certificate) == "its signature does not fit"


def test_a_record_without_a_signature(folder, mine):
    record, certificate = told(folder, a_record())
    assert mine.doubt(membership.unsealed(record), certificate) == "it is not signed"


def test_a_signature_by_the_same_key_over_something_else_does_not_count(folder, mine):
    """Whatever a node's key may sign in another place: there it stands without our words before it."""
    record, certificate = told(folder, a_record())
    bare = b64encode(credentials(folder, "alpha").sign(record.said.encode())).decode()
    assert mine.doubt(record._replace(signature=bare), certificate) == "its signature does not fit"


@pytest.mark.parametrize(
    ("signer", "record", "why"),
    [
        ("beta", a_record(), "its certificate is that of beta"),
        ("carla", a_record("carla"), "its certificate is for the role client, not for the role node"),
        ("root", a_record("root"), "its certificate is for the role admin, not for the role node"),
        ("alpha", a_record(address="127.0.0.2:9001"), "its certificate is for 127.0.0.1, not for 127.0.0.2"),
        ("alpha", a_record(address="evil.example:9001"), "its certificate is for 127.0.0.1, not for evil.example"),
    ],
)
def test_a_certificate_that_is_good_for_something_else(folder, mine, signer, record, why):
    assert mine.doubt(*told(folder, record, signer)) == why


def test_an_address_is_judged_as_in_a_handshake(folder, mine):
    make_keys(folder, f"{folder}/ca", "six", "::1", "10.0.0.5", "NODE.example")
    for address in ("[::1]:9001", "[::1%eth0]:9001", "10.0.0.5:1", "node.example:1"):
        assert mine.doubt(*told(folder, a_record("six", address), "six")) is None
    for address in ("[::ffff:10.0.0.5]:1", "NODE.example:1"):
        with pytest.raises(BadRequest, match="not in its normal form"):
            told(folder, a_record("six", address), "six")


def test_the_certificate_of_another_meshs_ca(folder, mine):
    record, certificate = told(f"{folder}/of-other", a_record())
    assert mine.doubt(record, certificate) == "its certificate is signed by a CA that is not in our ca.crt"


def test_a_certificate_of_another_mesh_by_our_own_ca(folder, mine):
    key, its = Key.of(f"{folder}/ca/ca.key"), Key()
    issuer = load_certificate(f"{folder}/ca/ca.crt").subject
    assert "mesh test, not of our mesh prod" in doubt_of(
        mine, its, key.sign(its.key.public_key(), issuer, [uri("bd://test/node/alpha")])
    )
    odd = ec.generate_private_key(ec.SECP384R1())
    assert (
        doubt_of(mine, its, key.sign(odd.public_key(), issuer, [uri("bd://prod/node/alpha")]))
        == "its certificate is for another kind of key"
    )


def doubt_of(mine, key, certificate):
    text = b64encode(certificate.public_bytes(Encoding.DER)).decode()
    said = membership.statement(a_record())
    signature = b64encode(key.key.sign(module.PREFIX + said.encode(), ec.ECDSA(hashes.SHA256()))).decode()
    return mine.doubt(a_record()._replace(said=said, signature=signature, certificate=certificate_digest(text)), text)


@pytest.mark.parametrize("text", ["", "AAAA", "no base64", "MIIB" + "A" * 796])
def test_a_certificate_that_is_none(folder, mine, text):
    record, _ = told(folder, a_record())
    record = record._replace(certificate=certificate_digest(text))
    assert mine.doubt(record, text).startswith("its certificate cannot be read") and mine.doubt_certificate(record, text)


def test_dates_are_looked_at_each_time(folder):
    now = [time.time()]
    mine = proofs(folder, clock=lambda: now[0])
    record, certificate = told(folder, a_record())
    assert mine.doubt(record, certificate) is None
    now[0] += 101 * 86400
    assert mine.doubt(record, certificate).startswith("its certificate expired on ")
    now[0] -= 201 * 86400
    assert "is not valid before" in mine.doubt(record, certificate)
    assert mine.doubt_certificate(record, certificate) == mine.doubt(record, certificate)


def test_any_issuer_in_date_counts_and_none_that_is_not(folder, tmp_path):
    """A CA that was renewed with the same key: two certificates in ca.crt, each with its dates."""
    old = load_certificate(f"{folder}/ca/ca.crt")
    key = Key.of(f"{folder}/ca/ca.key")
    record, certificate = told(folder, a_record())
    now = [time.time()]
    mine = proofs(folder, clock=lambda: now[0])
    over, short = key.renewed(old, -30, -1), key.renewed(old, -30, 10)
    for authorities, days, why in (
        ([over, short], 0, None),
        ([over, short], 20, "the CA of its certificate is not in date"),
        ([over, short, old], 20, None),
        ([over], 0, "the CA of its certificate is not in date"),
    ):
        mine._credentials.authorities = authorities
        mine._worked.clear()
        now[0] = time.time() + days * 86400
        assert mine.doubt(record, certificate) == why


def test_whom_the_list_of_revoked_names_by_name_or_by_number(folder):
    asked, revoked = [], []

    def refusal(identity):
        asked.append((identity.name, identity.serial))
        return "it is revoked here" if revoked else None

    mine = proofs(folder, refusal=refusal)
    record, certificate = told(folder, a_record())
    assert mine.doubt(record, certificate) is None
    revoked.append(1)
    assert mine.doubt(record, certificate) == "it is revoked here"
    assert asked[0] == ("alpha", load_certificate(f"{folder}/alpha/alpha.crt").serial_number)


def test_a_certificate_is_worked_out_once_and_many_do_not_fill_memory(folder, mine, monkeypatch):
    record, certificate = told(folder, a_record())
    mine.doubt(record, certificate)
    with monkeypatch.context() as patch:
        patch.setattr(openssl, "refuse_other_issuer", None)
        assert mine.doubt(record, certificate) is None
    monkeypatch.setattr(module, "CERTIFICATES_KEPT_MAX", 3)
    for number in range(10):
        mine.doubt(record._replace(certificate=str(number)), "AAAA")
        assert mine.doubt(record, certificate) is None and len(mine._worked) <= 3


def test_our_own_record_is_signed_and_nothing_that_could_not_be_read_again(folder):
    mine = proofs(folder, "alpha")
    record = mine.seal(a_record())
    assert record.said == membership.statement(a_record()) and record.certificate == mine.digest
    assert b64decode(mine.certificate) == load_certificate(f"{folder}/alpha/alpha.crt").public_bytes(Encoding.DER)
    for fields in ({"load": 21}, {"version": (1, 2**53 + 1)}, {"web_dir": "x" * 501}, {"extra": {"x": "y" * (256 << 10)}}):
        with pytest.raises(BadRequest):
            mine.seal(a_record()._replace(**fields))


def test_with_a_new_certificate_for_the_same_key_both_count(folder, mine, tmp_path):
    """As a renewal makes it: the record says by which."""
    its, ca = Key.of(f"{folder}/alpha/alpha.key"), Key.of(f"{folder}/ca/ca.key")
    old = load_certificate(f"{folder}/alpha/alpha.crt")
    names = old.extensions.get_extension_for_class(module.x509.SubjectAlternativeName).value
    fresh = ca.sign(its.key.public_key(), load_certificate(f"{folder}/ca/ca.crt").subject, list(names))
    its.save(f"{tmp_path}/alpha.key")
    save(f"{tmp_path}/alpha.crt", fresh)
    save(f"{tmp_path}/ca.crt", load_certificate(f"{folder}/ca/ca.crt"))
    renewed = Proofs(keys.load(str(tmp_path), "alpha"), nobody)
    for each in (renewed, proofs(folder, "alpha")):
        assert mine.doubt(each.seal(a_record()), each.certificate) is None


def test_a_signer_is_to_be_in_date_as_well(folder):
    """One that was renewed with the same key: which of its certificates goes along decides."""
    ca, signer, its = Authority.load(f"{folder}/ca"), Key(), Key()
    short, long = (ca.sign_signer(signer.key.public_key(), "s", days) for days in (1, 100))
    hosts = general_names(["127.0.0.1"])
    certificate = Issuer(signer.key, long, "prod").holders(its.key.public_key(), "alpha", Role.NODE, hosts, 50)
    now = [time.time()]
    mine = proofs(folder, clock=lambda: now[0])
    for days, with_short in ((0, None), (2, "the signer of its certificate is not in date")):
        now[0] = time.time() + days * 86400
        for behind, why in ((short, with_short), (long, None)):
            text = b64encode(Chain(certificate, behind).der()).decode()
            record = a_record()._replace(certificate=certificate_digest(text))
            assert mine.doubt_certificate(record, text) == why
