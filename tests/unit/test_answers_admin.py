"""HINT, FORGET, PUBLISH, WITHDRAW, GRAVEYARD, RESTORE, DRAIN, LEAVE, KILL, of a node in memory."""

import hashlib
import io
import os
import signal
import subprocess
import tempfile

import pytest

from bdserver import errors
from bdserver.core.messages import REQUESTS, Goodbye, Graveyard, Ok, Withdrawn
from bdserver.core.nudges import Look
from bdserver.core.roles import ADMIN, CLIENT, NODE
from bdserver.files import package, password
from bdserver.files.bdcert import Service
from bdserver.files.password import hash_password
from bdserver.processes.answers import admin, signing
from bdserver.processes.node import Life
from tests.unit.nodes import NOW, a_mesh, a_node, acquaint


def administered(node, *request, **options):
    return node.ask(*request, role=ADMIN, **options)


def packed(tmp_path, name="Echo", content=b"print(1)", extra=()):
    """({"bytes", "sha256"}, the package, at its beginning)."""
    (tmp_path / name).write_bytes(content)
    out = io.BytesIO()
    length, sha256 = package.pack(Service(name, "static", 1.0, "", "none", str(tmp_path / name), 0.0, extra), out)
    out.seek(0)
    return {"bytes": length, "sha256": sha256}, out


# --- the mesh -----------------------------------------------------------------------------------------------------


def test_a_hint_is_kept_in_canonical_form_for_the_discoverer(tmp_path):
    node = a_node(tmp_path)
    assert administered(node, "HINT", "EXAMPLE.org:0901") == Ok()
    assert node.cache.view().hints == {"example.org:901"} and node.nudged() == [Look()]
    with pytest.raises(errors.BadRequest, match="no HOST:PORT"):
        administered(node, "HINT", "nonsense:x")


def test_a_node_is_forgotten_by_name_by_address_and_before_it_was_visited(tmp_path):
    node, _other, third = a_mesh(tmp_path, "me", "other", "third")
    administered(node, "HINT", "h:1")
    for who in ("other", third.address, "h:1"):
        assert administered(node, "FORGET", who) == Ok()
    assert list(node.cache.view().records) == ["me"] and node.cache.view().hints == set()
    for who in ("other", "me", node.address):
        with pytest.raises(errors.CantFind, match="no such node is known here, or it is this one"):
            administered(node, "FORGET", who)


# --- services -----------------------------------------------------------------------------------------------------


def test_a_package_is_published(tmp_path):
    node = a_node(tmp_path)
    described, file = packed(tmp_path)
    said = administered(node, "PUBLISH", "Echo", described | {"weight": 2, "health": "tcp"}, package=file)
    assert said == Ok("http://10.0.0.1:8080/axis/Echo?wsdl")
    here = node.services.get("Echo")
    assert (here.type, here.cost, here.health) == ("static", 2.0, "tcp")
    assert "Echo" in node.cache.view().own.services and node.scratch == [".lock"]
    event = {"at": NOW, "what": "published", "service": "Echo", "asker": "caller", "edition": here.edition.digest}
    assert node.journal.recent(1) == [event]


def test_a_url_is_published_without_a_package(tmp_path):
    node = a_node(tmp_path)
    said = administered(node, "PUBLISH", "Echo", {"bytes": 0, "sha256": "", "url": "http://{host}/e"})
    assert said == Ok("http://10.0.0.1/e", [admin.UNCHECKED]) and node.services.get("Echo").path is None


def test_what_is_published_anew_keeps_what_was_wished_for_unless_something_else_is(tmp_path):
    node = a_node(tmp_path)
    wished = {"weight": 2, "health": "tcp", "replicas": 3, "copies": "meeting", "url": "http://{host}/{service}"}
    described, file = packed(tmp_path)
    administered(node, "PUBLISH", "Echo", described | wished, package=file)
    for changes in ({}, {"replicas": 0, "health": "none", "weight": 1.0, "copies": "any"}):
        described, file = packed(tmp_path, content=b"v2")
        administered(node, "PUBLISH", "Echo", described | changes, package=file)
        here = node.services.get("Echo")
        assert signing.kept(here) == wished | changes
    administered(node, "PUBLISH", "Echo", {"bytes": 0, "sha256": "", "url": "http://h/x"})
    described, file = packed(tmp_path)
    administered(node, "PUBLISH", "Echo", described, package=file)
    assert node.services.get("Echo").url == "", "where it was before it came here says nothing of it"


def test_living_holders_that_could_never_be_are_not_wished_for(tmp_path):
    node = a_node(tmp_path)
    described, file = packed(tmp_path)
    with pytest.raises(errors.BadService, match="replicas=3 can't be had, since copies=none keeps it here"):
        administered(node, "PUBLISH", "Echo", described | {"replicas": 3, "copies": "none"}, package=file)
    with pytest.raises(errors.BadService, match="replicas=3 can't be had, since only a file or folder is copied"):
        administered(node, "PUBLISH", "Echo", {"bytes": 0, "sha256": "", "url": "http://h/x", "replicas": 3})
    assert node.services.all() == {}


def test_what_is_published_anew_keeps_keys_that_nobody_knows(tmp_path):
    node = a_node(tmp_path).offer("Echo", b"v1", rack="7", owner="ann")
    described, file = packed(tmp_path, content=b"v2", extra=(("owner", "bob"), ("x", "")))
    administered(node, "PUBLISH", "Echo", described, package=file)
    assert node.services.get("Echo").extra == (("rack", "7"), ("owner", "bob"), ("x", ""))
    administered(node, "PUBLISH", "Echo", {"bytes": 0, "sha256": "", "url": "http://h/x"})
    assert node.services.get("Echo").extra == ()


@pytest.mark.parametrize(
    ("described", "error", "words"),
    [
        ({}, errors.BadRequest, "declared by its bytes and sha256"),
        ({"bytes": True, "sha256": ""}, errors.BadRequest, "declared"),
        ({"bytes": -1, "sha256": ""}, errors.BadRequest, "declared"),
        ({"bytes": 1, "sha256": 5}, errors.BadRequest, "declared"),
        ({"bytes": 1001, "sha256": ""}, errors.TooLarge, "over package_bytes_max=1000"),
        ({"bytes": 0, "sha256": ""}, errors.BadRequest, "needs a file or a url"),
        ({"bytes": 0, "sha256": "", "url": 5}, errors.BadRequest, "url must be a text"),
        ({"bytes": 0, "sha256": "", "url": "u", "weight": "1"}, errors.BadRequest, "weight must be a number"),
        ({"bytes": 0, "sha256": "", "url": "u", "weight": True}, errors.BadRequest, "weight must be a number"),
        ({"bytes": 0, "sha256": "", "url": "u", "health": None}, errors.BadRequest, "health must be a text"),
        ({"bytes": 0, "sha256": "", "url": "u", "weight": -1}, errors.BadService, "a weight is"),
    ],
)
def test_what_can_not_be_published_is_said_before_anything_is_written(tmp_path, described, error, words):
    node = a_node(tmp_path, package_bytes_max=1000)
    with pytest.raises(error, match=words):
        administered(node, "PUBLISH", "Echo", described)
    assert node.services.all() == {} and [each for each in node.scratch if each != ".lock"] == []


def test_a_package_that_is_not_what_was_declared_is_not_published(tmp_path):
    node = a_node(tmp_path)
    described, file = packed(tmp_path)
    described["sha256"] = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(errors.BadPackage, match="SHA-256"):
        administered(node, "PUBLISH", "Echo", described, package=file)
    assert node.services.all() == {} and node.scratch == []


def test_who_publishes_what_another_node_has_differently_is_told_where_and_which(tmp_path):
    node, other = a_mesh(tmp_path, "me", "other")
    for each, content in ((other, b"theirs"), (node, b"ours")):
        described, file = packed(tmp_path, content=content)
        said = administered(each, "PUBLISH", "Echo", described, package=file)
        acquaint(node, other)
    theirs, ours = (each.services.get("Echo").edition.digest for each in (other, node))
    words = f"Echo has another original, which differs, at other (edition {theirs[:8]}), since "
    [note] = [each for each in said.notes if each.startswith(words)]
    assert note.endswith(f"(here: edition {ours[:8]}): copies follow the one that they came from")


def test_a_full_disk_is_told_as_what_it_is(tmp_path, monkeypatch):
    node = a_node(tmp_path)
    described, file = packed(tmp_path)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: open("/dev/full", "r+b", buffering=0))
    with node.call_me(ADMIN) as talk, pytest.raises(OSError, match="No space left on device"):
        talk.ask(["PUBLISH", "Echo", described], package=file)  # child makes NoSpace of it
    assert node.services.all() == {} and node.scratch == []


def test_a_service_is_withdrawn_buried_and_restored(tmp_path):
    node = a_node(tmp_path).offer("Echo")
    node.ask("WILLYOUEXECUTE", "Echo")
    assert administered(node, "WITHDRAW", "Echo") == Withdrawn([], [])
    assert "Echo" not in node.cache.view().own.services and node.hitlog.runs("Echo", NOW) == []
    assert administered(node, "GRAVEYARD") == Graveyard(["Echo"])
    assert administered(node, "RESTORE", "Echo") == Ok() and "Echo" in node.cache.view().own.services
    assert [each["what"] for each in node.journal.recent(9)] == ["restored", "withdrawn"]
    for request in (["WITHDRAW", "Nothing"], ["RESTORE", "Nothing"]):
        with pytest.raises(errors.CantFind):
            administered(node, *request)
    with pytest.raises(errors.CantFind, match="not in the graveyard"):
        administered(node, "RESTORE", "Echo")


def test_what_was_withdrawn_is_offered_again_when_it_is_published_by_its_url(tmp_path):
    node, by_url = a_node(tmp_path).offer("Echo"), {"bytes": 0, "sha256": "", "url": "http://u/x"}
    administered(node, "WITHDRAW", "Echo")
    for _ in range(2):
        administered(node, "PUBLISH", "Echo", by_url)
        assert node.cache.view().own.services["Echo"].url == "http://u/x"
        administered(node, "WITHDRAW", "Echo")
        assert "Echo" not in node.cache.view().own.services


def test_a_draining_node_says_so_until_it_is_told_otherwise(tmp_path):
    node = a_node(tmp_path)
    for on in (True, False):
        assert administered(node, "DRAIN", on) == Ok()
        assert node.cache.view().own.draining is on and node.nudged() == [Look()]


# --- the end ------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener():
    """The pid of a process that waits to be ended, in place of a listener."""
    with subprocess.Popen(["sleep", "60"]) as process:  # by exec: an earlier test may have left a handler
        yield process.pid
        process.kill()


@pytest.mark.parametrize(("request_", "number"), [(["LEAVE"], signal.SIGTERM), (["KILL"], signal.SIGQUIT)])
def test_an_administrator_ends_the_node_after_the_answer(tmp_path, listener, request_, number):
    node = a_node(tmp_path)
    node.life = Life(listener, NOW)
    assert administered(node, *request_) == (Goodbye() if request_ == ["KILL"] else Ok())
    assert os.WTERMSIG(os.waitpid(listener, 0)[1]) == number


@pytest.mark.parametrize("role", [CLIENT, NODE])
def test_others_kill_by_the_password_alone(tmp_path, listener, role, monkeypatch):
    pauses = []
    monkeypatch.setattr(password.time, "sleep", pauses.append)
    node = a_node(tmp_path, admin_password=hash_password("secret"))
    node.life = Life(listener, NOW)
    for words in ([], ["wrong"], [""]):
        with pytest.raises(errors.Forbidden, match=f"the caller's role is {role}"):
            node.ask("KILL", *words, role=role)
    assert pauses == [password.WRONG_SECONDS]  # of one that was given
    assert node.ask("KILL", "secret", role=role) == Goodbye()
    assert os.WTERMSIG(os.waitpid(listener, 0)[1]) == signal.SIGQUIT


def test_without_a_password_set_none_is_right(tmp_path):
    with pytest.raises(errors.Forbidden):
        a_node(tmp_path).ask("KILL", "", role=CLIENT)


@pytest.mark.parametrize("command", [name for name, row in REQUESTS.items() if row.roles == (ADMIN,)])
@pytest.mark.parametrize("role", [CLIENT, NODE])
def test_nobody_else_administers(tmp_path, command, role):
    with pytest.raises(errors.Forbidden, match=f"{command} needs the role admin"):
        a_node(tmp_path).ask(command, role=role)
