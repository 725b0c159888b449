"""Publishers: whose signature makes a package the service that it is said to be."""

import pytest

from bdserver.core.membership import AHEAD_MAX, COUNTER_MAX
from bdserver.errors import BadConfig
from bdserver.files import minisign, publishers
from bdserver.files.bdcert import SIGNATURE_CHARACTERS_MAX
from bdserver.files.minisign import RANDOM_BYTES, SecretKey
from bdserver.files.publishers import Publishers, Signed, counter_of, signed, statement

KEY, OTHER = SecretKey.of_random(bytes(range(RANDOM_BYTES))), SecretKey.of_random(bytes(RANDOM_BYTES))
SHA256 = "0123456789abcdef" * 4
DIGEST = SHA256[:32]
ECHO = signed(KEY, "Echo", 7, SHA256)


@pytest.fixture
def listed(tmp_path):
    def read(text):
        (tmp_path / "list").write_text(text)
        return publishers.read(str(tmp_path / "list"))

    return read


def test_the_statement_is_what_the_manual_says():
    assert statement("Echo", 7, SHA256) == f"BDserver service Echo\nedition 7\nsha256 {SHA256}\n".encode()


def test_a_signature_is_one_line_of_a_bdcert_and_read_back_the_same():
    assert Signed.of_text(ECHO.text) == ECHO and ECHO.text.startswith(f"7 {SHA256} RU")
    quiet = ECHO._replace(signature=minisign.sign(KEY, statement("Echo", 7, SHA256), ""))
    assert Signed.of_text(quiet.text) == quiet and quiet.text == quiet.text.strip()
    longest = signed(KEY, "n" * 100, COUNTER_MAX, SHA256)
    assert len(longest.text) <= SIGNATURE_CHARACTERS_MAX
    assert len(longest._replace(signature=longest.signature._replace(comment="x" * 300)).text) <= SIGNATURE_CHARACTERS_MAX


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "7",
        "-" + ECHO.text,
        "0" + ECHO.text,
        "٣" + ECHO.text,
        "9" * 5000 + " " + SHA256,
        str(COUNTER_MAX + 1) + ECHO.text[1:],
        ECHO.text.replace("ab", "AB"),
        ECHO.text.replace(SHA256, DIGEST),
        ECHO.text.replace(" ", "  "),
        ECHO.text.rpartition("=")[0],
        ECHO.text + "\n",
    ],
)
def test_what_is_no_signature_is_said_in_a_line(text):
    with pytest.raises(ValueError) as caught:
        Signed.of_text(text)
    assert "\n" not in str(caught.value) and counter_of(text, DIGEST) == 0


def test_what_minisign_signed_comes_in_two_files():
    said = statement("Echo", 7, SHA256)
    assert Signed.of_files("Echo", said, ECHO.signature.file) == ECHO
    for name, text in (("Ech", said), ("Echo", said[:-1]), ("Echo", said.replace(b"7", b"x")), ("Echo", b"")):
        with pytest.raises(ValueError):
            Signed.of_files(name, text, ECHO.signature.file)


def test_the_counter_of_a_signature_is_that_of_this_package_alone():
    assert counter_of(ECHO.text, DIGEST) == counter_of(ECHO.text, SHA256) == 7
    assert counter_of(ECHO.text, "f" + DIGEST[1:]) == counter_of(ECHO.text, "") == counter_of(ECHO.text, SHA256[:8]) == 0


def test_a_list_has_keys_of_minisigns_with_comments(listed):
    found = listed(f"# of us\n{KEY.public.line} # Ann\n\n{OTHER.public.file.decode()}")
    assert set(found.keys) == {KEY.public.name, OTHER.public.name} and found.are_asked_for and not found.complaint
    assert not publishers.read("").are_asked_for and publishers.read("").keys == {}
    nobody = listed("# nobody yet\n")
    assert nobody.are_asked_for and nobody.doubt("Echo", SHA256, ECHO.text)


@pytest.mark.parametrize("text", ["Ann\n", "RW" + "A" * 54, ECHO.signature.file.decode(), "\0"])
def test_a_line_that_is_no_key_is_named(listed, tmp_path, text):
    with pytest.raises(BadConfig, match=r"list:\d: "):
        listed(text)


def test_a_list_that_is_not_there_is_said(tmp_path):
    with pytest.raises(BadConfig, match="No such file"):
        publishers.read(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("name", "digest", "text", "said"),
    [
        ("Echo", SHA256, ECHO.text, ""),
        ("Echo", DIGEST, ECHO.text, ""),
        ("Echo", SHA256, "", "nobody has signed it"),
        ("Echo", SHA256, "7 x", "without a package's SHA-256"),
        ("Login", SHA256, ECHO.text, "has not signed this"),
        ("Echo", "f" * 64, ECHO.text, "another package"),
        ("Echo", "", ECHO.text, "another package"),
        ("Echo", SHA256, ECHO._replace(counter=8).text, "has not signed this"),
        ("Echo", "f" * 64, ECHO._replace(sha256="f" * 64).text, "has not signed this"),
        ("Echo", SHA256, signed(OTHER, "Echo", 7, SHA256).text, "none of our publishers'"),
        ("Echo", SHA256, signed(OTHER._replace(id=KEY.id), "Echo", 7, SHA256).text, "has not signed this"),
    ],
)
def test_a_signature_counts_for_its_service_package_counter_and_key(listed, name, digest, text, said):
    why = listed(KEY.public.line).doubt(name, digest, text)
    assert said in why and bool(why) == bool(said)


def test_two_keys_of_one_id_both_count(listed):
    twin = OTHER._replace(id=KEY.id)
    both = listed(f"{KEY.public.line}\n{twin.public.line}\n")
    assert not both.doubt("Echo", SHA256, ECHO.text) and not both.doubt("Echo", SHA256, signed(twin, "Echo", 7, SHA256).text)


def test_a_broken_list_shuts_out_everybody():
    shut = publishers.closed("/list", "/list:3: not a key")
    assert shut.are_asked_for and shut.complaint == "/list:3: not a key"
    assert shut.doubt("Echo", SHA256, ECHO.text) == "the list of publishers can't be read"


def test_without_a_list_nobody_is_asked_for():
    assert not Publishers().are_asked_for


def test_a_counter_of_a_time_to_come_would_shut_out_all_later_ones():
    assert publishers.is_ahead(int(1e9 + AHEAD_MAX + 1), 1e9) and not publishers.is_ahead(int(1e9), 1e9)
