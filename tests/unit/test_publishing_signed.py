"""bdctl publish --sign and sign: the key stays here, what is signed is what lies here, and minisign can do it too."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from types import SimpleNamespace

import pytest

from bdserver.commands import bdctl, bdkeys
from bdserver.commands.ctl import publishing
from bdserver.core.messages import Ok, Stated
from bdserver.core.roles import ADMIN
from bdserver.files.minisign import SecretKey
from bdserver.files.publishers import Publishers, Signed, signed, statement
from tests.unit.canned import Node, let_in, outcome
from tests.unit.nodes import a_node

SHA256 = "0123456789abcdef" * 4


@pytest.fixture
def node(monkeypatch):
    node = Node()
    let_in(monkeypatch, node)
    return node


@pytest.fixture
def run(capsys):
    return lambda *arguments: outcome(bdctl.main, arguments, capsys)


@pytest.fixture
def key(tmp_path, capsys):
    """The path of a publisher's key, and the key."""
    assert bdkeys.main(["publisher", str(tmp_path / "keys")]) == 0
    capsys.readouterr()
    path = tmp_path / "keys" / "publisher.key"
    return str(path), SecretKey.of_file(path.read_bytes())


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "Echo"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def doubt(key, name, sha256, text):
    return Publishers("list", {key.public.name: (key.public,)}).doubt(name, sha256, text)


def test_what_is_published_is_signed_here_as_the_node_will_give_it(node, run, key, program):
    path, secret = key
    now = int(time.time())
    node.answers |= {"STATEMENT": Stated(now, "", ""), "PUBLISH": Ok("", ["a note"])}
    status, _, err = run(
        "publish", program, "--sign", path, "--weight", "5", "--health", "tcp", "--replicas", "2", "--name", "E"
    )
    assert status == 0 and err == "bdctl: a note\n"
    assert node.asked[0] == ["STATEMENT", "E"]
    described = node.asked[1][2]
    assert Signed.of_text(described["signature"]).counter == now
    assert not doubt(secret, "E", described["sha256"], described["signature"])
    assert b"weight=5\n" in node.packages[-1] and b"health=tcp\n" in node.packages[-1] and b"replicas=2\n" in node.packages[-1]
    assert secret.seed.hex() not in json.dumps(node.asked) and secret.seed not in node.packages[-1]


def test_a_real_node_finds_the_package_that_was_signed(tmp_path, monkeypatch, run, key, program):
    """What it unpacks and would pack again, with every wish, is what was signed: else it would refuse it."""
    inner = a_node(tmp_path)

    class Administered(contextlib.nullcontext):
        """A conversation with the node in memory."""

        def __enter__(self):
            return self

        def close(self):
            pass

        def ask(self, request, deadline, package=None):
            return inner.ask(*request, role=ADMIN, package=package)

    let_in(monkeypatch, SimpleNamespace(dial=lambda *options: Administered()))
    wishes = ["--weight", "2.5", "--health", "http", "--replicas", "2", "--copies", "meeting", "--url", "http://{host}:81/E"]
    status, _, err = run("publish", program, "--sign", key[0], *wishes)
    assert status == 0, err
    here = inner.services.get("Echo")
    assert here.signer == key[1].public.name and not doubt(key[1], "Echo", here.edition.digest, here.signature)
    assert run("publish", program, "--sign", key[0])[0] == 0
    here = inner.services.get("Echo")
    assert here.signer == key[1].public.name and (here.cost, here.health, here.replicas, here.copies) == (
        2.5,
        "http",
        2,
        "meeting",
    )
    assert here.url == "", "to where it leads is what a person has said now"


def test_a_node_that_lies_of_what_was_wished_for_has_nothing_signed_that_leads_elsewhere(node, run, key, program):
    lies = {
        "weight": "1\nurl=http://evil/",
        "health": "none\nurl=http://evil/",
        "replicas": 10**9,
        "copies": [],
        "url": "http://evil/",
    }
    node.answers |= {"STATEMENT": Stated(int(time.time()), "", "", lies), "PUBLISH": Ok("")}
    assert run("publish", program, "--sign", key[0])[0] == 0
    assert b"evil" not in node.packages[-1] and node.asked[-1][2]["url"] == ""
    assert {key: node.asked[-1][2][key] for key in lies} == publishing.WISHES


def test_what_is_taken_over_is_signed_too(node, run, key, program):
    node.answers |= {"STATEMENT": Stated(int(time.time()), "", "", {"replicas": 3}), "PUBLISH": Ok("")}
    assert run("publish", program, "--sign", key[0], "--take-over")[0] == 0
    assert node.asked[0] == ["STATEMENT", "Echo", True]
    assert node.asked[1][2]["take_over"] is True and node.asked[1][2]["replicas"] == 3 and b"replicas=3\n" in node.packages[-1]


def test_a_service_that_is_there_is_signed(node, run, key):
    now = int(time.time())
    node.answers |= {"STATEMENT": Stated(now, SHA256, ""), "SIGN": Ok("", ["a note"])}
    assert run("sign", "Echo", "--key", key[0]) == (
        0,
        f"Echo: edition {now}, signed by {key[1].public.name}\n",
        "bdctl: a note\n",
    )
    assert not doubt(key[1], "Echo", SHA256, node.asked[1][2])
    status, out, _ = run("--json", "sign", "Echo", "--key", key[0])
    assert status == 0 and json.loads(out) == {"service": "Echo", "counter": now, "signer": key[1].public.name}


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_minisign_signs_elsewhere_and_verifies_what_is_signed(node, run, key, tmp_path):
    now, path = int(time.time()), str(tmp_path / "statement")
    node.answers |= {"STATEMENT": Stated(now, SHA256, ""), "SIGN": Ok()}
    status, out, _ = run("sign", "Echo")
    assert (status, out) == (0, f"BDserver service Echo\nedition {now}\nsha256 {SHA256}\n")
    with open(path, "w") as file:
        file.write(out)
    minisign(tmp_path, "-S", "-s", key[0], "-m", path)
    assert run("sign", "Echo", "--signed", path)[0] == 0
    text = node.asked[-1][2]
    assert node.asked[-1][:2] == ["SIGN", "Echo"] and not doubt(key[1], "Echo", SHA256, text)
    node.answers["STATEMENT"] = Stated(now + 1, SHA256, text)
    assert run("sign", "Echo", "--export", str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out").read_bytes() == statement("Echo", now, SHA256)
    minisign(tmp_path, "-V", "-p", key[0].replace(".key", ".pub"), "-m", str(tmp_path / "out"))


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_a_bdcert_can_be_verified_without_us_as_the_manual_says(tmp_path, key):
    (tmp_path / "Echo.bdcert").write_text(f"weight=1\nsignature={signed(key[1], 'Echo', 7, SHA256).text}\n")
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "docs", "OPERATIONS.md")) as manual:
        lines = [line[4:] for line in manual if line.startswith("    ")]
    script = "".join(lines[next(n for n, line in enumerate(lines) if "IFS=' ' read -r counter" in line) :][:5])
    assert "minisign -V" in script
    script = script.replace("publisher.pub", key[0].replace(".key", ".pub")).replace("/var/lib/bdserver/services/", "")
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Signature and comment signature verified" in done.stdout, done


def minisign(folder, *arguments):
    done = subprocess.run(["minisign", *arguments], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sign", "Echo", "--key", "KEY", "--export", "x"], "are three things"),
        (["sign", "Echo", "--export", "x"], "nobody has signed"),
        (["sign", "Other"], "no file or folder of that name"),
        (["sign", "Far"], "is a time to come"),
        (["publish", "FILE", "--name", "Far", "--sign", "KEY"], "is a time to come"),
        (["sign", "Odd", "--export", "x"], "Odd: a signature without"),
        (["sign", "Echo", "--key", "/nowhere"], "No such file"),
        (["sign", "Echo", "--key", "OPEN"], "others can read this publisher's key: chmod 600"),
        (["sign", "Echo", "--key", "LOCKED"], "has a password, so minisign alone can sign with it (bdctl sign prints"),
        (["sign", "Echo", "--key", "PUBLIC"], "not a secret key of minisign's"),
        (["sign", "Echo", "--signed", "PUBLIC"], "No such file"),
        (["sign", "Echo", "--signed", "SAID"], "not a statement on Echo"),
        (["publish", "nowhere", "--url", "http://h/", "--sign", "KEY"], "there is nothing to sign"),
    ],
)
def test_what_can_not_be_signed_is_said_in_a_line(node, run, key, tmp_path, program, arguments, words):
    now = int(time.time())
    said = {
        "Echo": Stated(now, SHA256, ""),
        "Other": Stated(now, "", ""),
        "Far": Stated(now + 10**6, SHA256, ""),
        "Odd": Stated(now, SHA256, "7"),
    }
    node.answers["STATEMENT"] = said.__getitem__
    text = key[1].file.decode()
    files = {"KEY": key[0], "PUBLIC": key[0].replace(".key", ".pub"), "FILE": program}
    for name, content in (
        ("OPEN", text),
        ("LOCKED", text.replace("RWQAAEIy", "RWRTY0Iy")),
        ("SAID", "x"),
        ("SAID.minisig", "x"),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o644 if name == "OPEN" else 0o600)
        files[name] = str(tmp_path / name)
    os.chmod(files["PUBLIC"], 0o600)
    status, out, err = run(*(files.get(each, each) for each in arguments))
    assert status in (1, 2) and out == "" and err.startswith("bdctl: ") and err.count("\n") == 1 and words in err
    assert not [each for each in node.asked if each[0] in ("SIGN", "PUBLISH")]
