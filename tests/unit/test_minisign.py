"""minisign's files: Debian's program reads what we make and we what it makes; what is damaged is none of them."""

import shutil
import subprocess

import pytest

from bdserver.files import minisign
from bdserver.files.minisign import COMMENT_CHARACTERS_MAX, RANDOM_BYTES, PublicKey, SecretKey, Signature, is_good, sign

KEY, OTHER = SecretKey.of_random(bytes(range(RANDOM_BYTES))), SecretKey.of_random(bytes(RANDOM_BYTES))
MESSAGE = b"BDserver service Echo\nedition 7\n"
SIGNED = sign(KEY, MESSAGE, "what is said of it")
needs_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")


def run(folder, *arguments):
    return subprocess.run(["minisign", *arguments], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ours.key").write_bytes(KEY.file)
    (tmp_path / "ours.pub").write_bytes(KEY.public.file)
    (tmp_path / "x").write_bytes(MESSAGE)
    return tmp_path


@needs_minisign
def test_what_we_sign_minisign_verifies_and_what_was_changed_it_does_not(folder):
    (folder / "x.minisig").write_bytes(SIGNED.file)
    assert "what is said of it" in run(folder, "-V", "-p", "ours.pub", "-m", "x").stdout
    assert run(folder, "-V", "-P", KEY.public.line, "-m", "x").returncode == 0
    (folder / "x").write_bytes(MESSAGE + b" ")
    assert run(folder, "-V", "-p", "ours.pub", "-m", "x").returncode != 0


@needs_minisign
@pytest.mark.parametrize("how", [[], ["-l"], ["-t", "a comment"], ["-t", ""]])
def test_what_minisign_signs_with_our_key_is_good(folder, how):
    done = run(folder, "-S", "-s", "ours.key", "-m", "x", *how)
    assert done.returncode == 0, done.stderr
    found = Signature.of_file((folder / "x.minisig").read_bytes())
    assert found.signer == KEY.public.name and found.is_of_hash == (how != ["-l"])
    assert is_good(KEY.public, found, MESSAGE) and not is_good(KEY.public, found, MESSAGE + b" ")
    assert Signature.of_texts(*found.texts) == found


@needs_minisign
def test_a_key_of_minisigns_signs_here(folder):
    assert run(folder, "-G", "-W", "-p", "its.pub", "-s", "its.key").returncode == 0
    key, public = SecretKey.of_file((folder / "its.key").read_bytes()), PublicKey.of_file((folder / "its.pub").read_bytes())
    assert key.public == public
    assert public.name.lstrip("0") in (folder / "its.pub").read_text()  # minisign leaves out zeros in front
    (folder / "x.minisig").write_bytes(sign(key, MESSAGE, "").file)
    assert run(folder, "-V", "-p", "its.pub", "-m", "x").returncode == 0


def test_files_are_read_as_they_are_written():
    assert SecretKey.of_file(KEY.file) == KEY
    assert PublicKey.of_file(KEY.public.file) == PublicKey.of_file(KEY.public.line.encode()) == KEY.public
    assert Signature.of_file(SIGNED.file) == Signature.of_file(SIGNED.file.replace(b"\n", b"\r\n")) == SIGNED
    assert KEY.public.name == SIGNED.signer == "0706050403020100"


@pytest.mark.parametrize(
    "changed",
    [
        SIGNED._replace(signature=OTHER.seed * 2),
        SIGNED._replace(proof=SIGNED.signature),
        SIGNED._replace(comment="something else is said of it"),
        SIGNED._replace(id=OTHER.id),
        SIGNED._replace(is_of_hash=False),
        sign(OTHER, MESSAGE, "")._replace(id=KEY.id),
    ],
)
def test_a_signature_of_another_text_comment_or_key_is_not_good(changed):
    assert not is_good(KEY.public, changed, MESSAGE)


def test_a_key_that_is_no_point_of_the_curve_has_signed_nothing():
    assert not is_good(PublicKey(KEY.id, b"\xff" * 32), SIGNED, MESSAGE)


def _line(data, number, change):
    lines = data.decode().split("\n")
    lines[number] = change(lines[number])
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("read", "data", "said"),
    [
        (SecretKey.of_file, b"", "not a secret key"),
        (SecretKey.of_file, b"\xff\n", "not a secret key"),
        (SecretKey.of_file, KEY.public.file, "not a secret key"),
        (SecretKey.of_file, _line(KEY.file, 1, lambda line: "RWRTY0Iy" + line[8:]), "has a password"),
        (SecretKey.of_file, _line(KEY.file, 1, lambda line: "AA" + line[2:]), "another algorithm"),
        (SecretKey.of_file, _line(KEY.file, 1, lambda line: line[:90] + "AAAA" + line[94:]), "not of one pair"),
        (PublicKey.of_file, KEY.file, "not a public key"),
        (PublicKey.of_line, "AA" + KEY.public.line[2:], "another algorithm"),
        (PublicKey.of_line, KEY.public.line + "\n", "not a public key"),
        (PublicKey.of_line, "RWä", "not a public key"),
        (Signature.of_file, b"", "not a signature"),
        (Signature.of_file, SIGNED.file + b"\n", "not a signature"),
        (Signature.of_file, bytes(minisign.FILE_BYTES_MAX + 1), "not a signature"),
        (Signature.of_file, _line(SIGNED.file, 2, lambda line: "un" + line), "not a signature"),
        (Signature.of_file, _line(SIGNED.file, 1, lambda line: "AA" + line[2:]), "another algorithm"),
        (Signature.of_file, _line(SIGNED.file, 2, lambda line: line + " "), "trusted comment"),
        (Signature.of_file, _line(SIGNED.file, 2, lambda line: line + "ä"), "trusted comment"),
        (Signature.of_file, _line(SIGNED.file, 2, lambda line: line + "x" * COMMENT_CHARACTERS_MAX), "trusted comment"),
        (Signature.of_file, _line(SIGNED.file, 3, lambda line: line[:-4]), "not a signature"),
    ],
)
def test_what_is_no_such_file_is_said_in_a_line(read, data, said):
    with pytest.raises(ValueError, match=said) as caught:
        read(data)
    assert "\n" not in str(caught.value)
