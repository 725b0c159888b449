"""Whatever a crash leaves of a file, what its module promises is kept: each state that the disk may be in is started from."""

import contextlib
import errno
import io
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from functools import partial
from unittest import mock

import pytest

from bdserver.core.membership import DYNAMIC, STATIC, Record
from bdserver.core.roles import NODE
from bdserver.core.weight import HIT
from bdserver.errors import BadService
from bdserver.files import cache, durable, journal, package, services
from bdserver.files.bdcert import Service
from bdserver.files.cache import Cache
from bdserver.files.heard import Heard
from bdserver.files.hitlog import HitLog
from bdserver.files.journal import Journal
from bdserver.files.services import Services
from bdserver.net import authority, keyfiles, keys
from bdserver.net.authority import Authority, general_names, make_request
from tests.unit.changes import install, publish
from tests.unit.crashes import Broken, Change, Killed, Recording, states, sweep, sweep_killed

NOW = 1_700_000_000.0
# States of each call: in a check before a commit, and when there is time.
FEW, MANY = 12, 1500


@pytest.fixture
def folder():
    """Where changes are recorded, and what they leave is made: in memory if that can be, since it is a hundred thousand files."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(prefix="crashes.", dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield path


# --- the cache ----------------------------------------------------------------------------------------------------


def cache_in(root):
    return Cache(f"{root}/me.bdcache", "me")


def started(mine, told=lambda what: None, now=NOW):
    with mine.locked() as view:
        view.start(Record("me", "10.0.0.9:1", (0, 0)), now)
    told(("generation", mine.view().generation))


def hinted(mine, told, *hints):
    for hint in hints:
        with mine.locked() as view:
            view.hint(hint)
        told(("hint", hint))


def a_cache(root):
    mine = cache_in(root)
    started(mine)
    hinted(mine, lambda what: None, "before:1")


def a_cache_with_half_a_line(root):
    a_cache(root)
    with open(f"{root}/me.bdcache", "ab") as file:
        file.write(b'12345678 {"save":')


def a_damaged_cache(root):
    with open(f"{root}/me.bdcache", "ab") as file:
        file.write(b"garbage\n" * 9)


def first_start(root, told):
    started(cache_in(root), told)


def saves(root, told):
    mine = cache_in(root)
    started(mine, told)
    hinted(mine, told, "a:1", "b:1")


def long_saves(root, told):
    mine = cache_in(root)
    for count in (1, 2):
        with mine.locked() as view:
            for number in range(8):
                view.hint(f"{'long' * 60}{number}.{count}:1")
        told(("hint", f"{'long' * 60}7.{count}:1"))


def saves_of_others(root, told):
    """What others say of themselves is not synced; what this node says between and behind it is."""
    mine = cache_in(root)
    for counter in range(3):
        with mine.locked() as view:
            view.merge(Record("other", "10.0.0.8:1", (1, counter), extra={"x": "x" * 600}), NOW)
    hinted(mine, told, "a:1")
    with mine.locked() as view:
        view.merge(Record("other", "10.0.0.8:1", (1, 9), extra={"x": "y" * 600}), NOW)


def saves_anew(root, told):
    with mock.patch.object(cache, "CHANGES_BYTES_MIN", -(1 << 20)):
        saves(root, told)


def what_the_cache_promises(root, told, is_killed):
    mine = cache_in(root)
    mine.sweep()
    generation, hints = mine.view().generation, mine.view().hints
    said = [what for kind, what in told if kind == "generation"]
    assert generation >= max(said, default=0), "the generation went back"
    assert {what for kind, what in told if kind == "hint"} <= hints, "a hint that was taken is gone"
    started(mine, now=NOW - 80_000)  # the clock of this host fell back
    assert mine.view().generation > max([generation, *said]) and hints <= mine.view().hints
    assert cache_in(root).view().records == mine.view().records, "what is known now is on the disk"


def the_cache_had(root, told, is_killed):
    what_the_cache_promises(root, (("hint", "before:1"), ("generation", int(NOW)), *told), is_killed)


CACHE = {
    "first start": Change(lambda root: None, first_start, what_the_cache_promises),
    "start and saves": Change(a_cache, saves, the_cache_had),
    "saves of many blocks": Change(a_cache, long_saves, the_cache_had),
    "a save behind half a line": Change(a_cache_with_half_a_line, saves, the_cache_had),
    "saves of what others said": Change(a_cache, saves_of_others, the_cache_had),
    "saves that write it anew": Change(a_cache, saves_anew, the_cache_had),
    "a damaged one set aside": Change(a_damaged_cache, saves, what_the_cache_promises),
}


# --- heard --------------------------------------------------------------------------------------------------------


def heard(root, name, now):
    mine = Heard(f"{root}/me.bdheard")
    mine.report()
    mine.note(name, now)
    mine.write({"a", "b"}, 0.0, now)


def what_heard_promises(root, told, is_killed):
    times = Heard(f"{root}/me.bdheard").report().times
    assert times in ({}, {"a": 100.0}, {"a": 100.0, "b": 200.0}) and (times or not is_killed)
    heard(root, "a", 300.0)
    assert Heard(f"{root}/me.bdheard").report().times["a"] == 300.0


HEARD = {"heard": Change(lambda root: heard(root, "a", 100.0), lambda root, told: heard(root, "b", 200.0), what_heard_promises)}


# --- the journal --------------------------------------------------------------------------------------------------


def noted(root, first, last, told=lambda what: None):
    mine = Journal(f"{root}/me.bdjournal")
    for number in range(first, last):
        mine.note("published", f"S{number}", NOW + number, asker="x" * (number % 3) * 200)
        told(f"S{number}")


def noted_small(root, told):
    with mock.patch.object(journal, "FILE_BYTES_MAX", 1000):
        noted(root, 4, 8, told)


def what_the_journal_promises(root, told, is_killed):
    mine = Journal(f"{root}/me.bdjournal")
    found = mine.recent(99)
    names = [event["service"] for event in found]
    assert all(event["at"] == NOW + int(event["service"][1:]) and event["what"] == "published" for event in found)
    assert len(set(names)) == len(names)
    if is_killed:
        assert names == sorted(names, reverse=True) and set(told) <= set(names)
    noted(root, 9, 10)
    assert [event["service"] for event in mine.recent(99)] == ["S9", *names]


def the_journal_had(root, told, is_killed):
    assert {f"S{number}" for number in range(4)} <= {event["service"] for event in Journal(f"{root}/me.bdjournal").recent(99)}
    what_the_journal_promises(root, told, is_killed)


JOURNAL = {
    "first events": Change(lambda root: None, lambda root, told: noted(root, 0, 3, told), what_the_journal_promises),
    "events": Change(lambda root: noted(root, 0, 4), lambda root, told: noted(root, 4, 7, told), the_journal_had),
    "a full one": Change(lambda root: noted(root, 0, 4), noted_small, the_journal_had),
}


# --- hit logs -----------------------------------------------------------------------------------------------------


def hit(root, first, last, told=lambda what: None):
    mine = HitLog(root)
    for number in range(first, last):
        mine.append("a", HIT, "10.0.0.1", NOW + number)
        told(NOW + number)
    mine.close()


def hits(root):
    return sum((Counter({at: count}) for _, at, count in HitLog(root).runs("a", NOW + 9)), Counter())


def many_hits(root, told):
    mine = HitLog(root)
    mine.extend("a", [("10.0.0.1", NOW + each % 10) for each in range(30)])
    mine.close()
    for each in range(30):
        told(NOW + each % 10)


def an_old_log(root):
    HitLog(root).extend("a", [("10.0.0.1", NOW - 900)] * 12)
    hit(root, 0, 3)


def trimmed(root, told):
    for number in range(3):
        told(NOW + number)
    HitLog(root).trim("a", NOW + 9, 100)
    hit(root, 3, 5, told)


def what_a_hit_log_promises(root, told, is_killed, most):
    found = hits(root)
    assert found <= most, "a hit that never was"
    assert not is_killed or Counter(told) <= found, "a hit that was logged is gone"
    hit(root, 9, 10)
    # Of the last line nothing but its end may have been missing.
    later, one = hits(root), Counter([NOW + 9])
    assert found + one <= later <= most + one, "the next hit is lost, or more than that"
    HitLog(root).trim("a", NOW + 9, 0)
    assert hits(root) == later


ONCE = Counter(NOW + each for each in range(5))
HIT_LOG = {
    "first hits": Change(
        lambda root: None, lambda root, told: hit(root, 0, 3, told), partial(what_a_hit_log_promises, most=ONCE)
    ),
    "hits": Change(
        lambda root: hit(root, 0, 2), lambda root, told: hit(root, 2, 5, told), partial(what_a_hit_log_promises, most=ONCE)
    ),
    "many hits in one write": Change(
        lambda root: None, many_hits, partial(what_a_hit_log_promises, most=Counter({NOW + each: 3 for each in range(10)}))
    ),
    "a trim": Change(an_old_log, trimmed, partial(what_a_hit_log_promises, most=ONCE)),
}


# --- services -----------------------------------------------------------------------------------------------------

# Two lives of one service: its files, and what its .bdcert says. A file of several blocks, and a folder in a folder.
OLD, NEW = 7.0, 3.0
CONTENT = {
    (OLD, "file"): {"": b"old" * 300},
    (NEW, "file"): {"": b"new" * 300},
    (OLD, "folder"): {"/index": b"old", "/sub/page": b"old" * 300, "/sub/empty": b""},
    (NEW, "folder"): {"/index": b"new", "/sub/page": b"new" * 300, "/sub/empty": b""},
}
KINDS = ("file", "folder", "url")
URL = "http://{host}/a"


def services_in(root):
    return Services(f"{root}/services", f"{root}/graveyard", f"{root}/graveyard/.incoming")


def a_tree(path, content):
    for name, data in content.items():
        os.makedirs(os.path.dirname(path + name), exist_ok=True)
        with open(path + name, "wb") as file:
            file.write(data)


PACKED = {}  # (age, kind) -> (bytes, digest)


def packed(tmp, age, kind):
    """A package of that life, as it comes from another node."""
    a_tree(f"{tmp}/a", CONTENT[age, kind])
    stream = io.BytesIO()
    _, digest = package.pack(Service("a", STATIC, age, URL, "none", f"{tmp}/a", 0.0, (("note", "x" * 600),)), stream)
    return stream.getvalue(), digest


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory):
    for age, kind in CONTENT:
        PACKED[age, kind] = packed(tmp_path_factory.mktemp("package"), age, kind)


def unpacked(root, age, kind):
    data, digest = PACKED[age, kind]
    return package.unpack(io.BytesIO(data), digest, "a", f"{root}/graveyard/.incoming", 1 << 20, 99)


def no_services(root):
    os.mkdir(f"{root}/services")
    os.mkdir(f"{root}/graveyard")


def published(root, told, age, kind):
    """As PUBLISH does it, of a package or a URL."""
    source = None if kind == "url" else f"{unpacked(root, age, kind)}/a"
    publish(services_in(root), source, "a", age, URL)
    told(("live", age, kind))


def offered(root, age, kind):
    no_services(root)
    published(root, lambda what: None, age, kind)


def installed(root, told, age, kind):
    install(services_in(root), unpacked(root, age, kind), "a", NOW)
    told(("live", age, kind))


def with_replica(root, age, kind):
    no_services(root)
    installed(root, lambda what: None, age, kind)


def withdrawn(root, told):
    services_in(root).withdraw("a")
    told(("buried", OLD))


def retired(root, told):
    services_in(root).retire("a")
    told(("buried", OLD))


def with_replica_and_another_retired(root):
    with_replica(root, OLD, "file")
    for suffix, data in (("", b"old"), (".bdcert", b"type=dynamic\n")):
        with open(f"{root}/graveyard/B{suffix}", "wb") as file:
            file.write(data)


def retired_beyond_their_number(root, told):
    with mock.patch.object(services, "RETIRED_MAX", 1):
        services_in(root).retire("a")
    told(("buried", OLD))


def what_a_full_graveyard_promises(root, told, is_killed):
    names = {name for name in os.listdir(f"{root}/graveyard") if name.startswith("B")}
    assert names in ({"B", "B.bdcert"}, {"B"}, set()) and ("B.bdcert" not in names or not told)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{root}/graveyard/B.bdcert")
    what_the_folder_promises(root, told, is_killed, "file", None)


def buried(root, kind):
    offered(root, OLD, kind)
    withdrawn(root, lambda what: None)


def restored(root, told, kind):
    services_in(root).restore("a")
    told(("live", OLD, kind))


def over_the_buried(root, kind):
    """An older one is in the graveyard already."""
    offered(root, 5.0, "url")
    services_in(root).withdraw("a")
    published(root, lambda what: None, OLD, kind)


def content_of(path):
    found = {}
    for at, _, names in os.walk(path):
        found.update((os.path.join(at, name).removeprefix(path), open(os.path.join(at, name), "rb").read()) for name in names)
    return found if os.path.isdir(path) else {"": open(path, "rb").read()}


def whole(service):
    """(age of the .bdcert, age of the content, kind) of a service; an AssertionError when it is half of one."""
    if service.path is None:
        return service.cost, service.cost, "url"
    ages = [key for key, content in CONTENT.items() if content == content_of(service.path)]
    assert ages, f"half a service: {service}"
    (age, kind), *_ = ages
    assert service.type == DYNAMIC or service.url == URL
    for at, folders, names in os.walk(service.path):
        assert all(os.stat(os.path.join(at, each)).st_mode & 0o777 == 0o755 for each in folders)
        assert all(os.stat(os.path.join(at, each)).st_mode & 0o777 == 0o644 for each in names)
    return service.cost, age, kind


def restored_in(root):
    """What an administrator does, who reads what is said."""
    try:
        services_in(root).restore("a")
    except BadService as error:
        path = str(error).removesuffix(" is in the way, and is not offered: remove it first")
        assert path == f"{root}/services/a"
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        services_in(root).restore("a")


def what_the_folder_promises(root, told, is_killed, old, new):
    """`old`, `new`: the kinds (file, folder, url) of what was offered before and is to be offered, or None."""
    mine = services_in(root)
    live = mine.get("a")
    if told and told[-1][0] == "live":
        _, age, kind = told[-1]
        assert live is not None, f"what was published is gone: {mine.complaints}"
        assert whole(live) == (age, age, kind)
    if told and told[-1][0] == "buried":
        assert live is None, "what was withdrawn is live again"
        assert mine.buried() == ["a"], "what was withdrawn is gone"
    if live is not None:
        cert, content, kind = whole(live)
        assert kind in (old, new), "half of a file was taken for a service that has none"
        # In the middle of publishing over another one, the new service stands under the old .bdcert, and not the reverse.
        assert cert == content or (cert, content) == (OLD, NEW)
    elif old is not None:
        restored_in(root)  # nothing is lost
        live = services_in(root).get("a")
        # The new one, or its file, when that had come before the process was killed, and is published again.
        assert live is not None and whole(live) in ((OLD, OLD, old), (OLD, NEW, new), (NEW, NEW, new))
    if new is not None:
        published(root, lambda what: None, NEW, new)
        assert whole(services_in(root).get("a")) == (NEW, NEW, new), "a second try does not succeed"


def _services():
    yield from (
        (
            f"publish a {kind}",
            Change(no_services, partial(published, age=NEW, kind=kind), partial(what_the_folder_promises, old=None, new=kind)),
        )
        for kind in KINDS
    )
    yield from (
        (
            f"install a {kind}",
            Change(no_services, partial(installed, age=NEW, kind=kind), partial(what_the_folder_promises, old=None, new=kind)),
        )
        for kind in ("file", "folder")
    )
    yield from (
        (
            f"publish a {new} over a {old}",
            Change(
                partial(offered, age=OLD, kind=old),
                partial(published, age=NEW, kind=new),
                partial(what_the_folder_promises, old=old, new=new),
            ),
        )
        for old in KINDS
        for new in KINDS
    )
    yield from (
        (
            f"withdraw a {kind}",
            Change(partial(offered, age=OLD, kind=kind), withdrawn, partial(what_the_folder_promises, old=kind, new=None)),
        )
        for kind in KINDS
    )
    yield from (
        (
            f"withdraw a {kind} over another one in the graveyard",
            Change(partial(over_the_buried, kind=kind), withdrawn, partial(what_the_folder_promises, old=kind, new=None)),
        )
        for kind in ("file", "folder")
    )
    yield from (
        (
            f"retire a {kind}",
            Change(partial(with_replica, age=OLD, kind=kind), retired, partial(what_the_folder_promises, old=kind, new=None)),
        )
        for kind in ("file", "folder")
    )
    yield from (
        (
            f"renew a copy, a {old}, by a {new}",
            Change(
                partial(with_replica, age=OLD, kind=old),
                partial(another_edition, kind=new),
                partial(what_a_copy_promises, old=old, new=new),
            ),
        )
        for old in ("file", "folder")
        for new in ("file", "folder")
    )
    yield from (
        (
            f"restore a {kind}",
            Change(
                partial(buried, kind=kind), partial(restored, kind=kind), partial(what_the_folder_promises, old=kind, new=None)
            ),
        )
        for kind in KINDS
    )


def another_edition(root, told, kind):
    """Another edition of a copy, as it comes from another node."""
    installed(root, told, NEW, kind)


def what_a_copy_promises(root, told, is_killed, old, new):
    """It is offered all the while; its content may be ahead of its .bdcert."""
    live = services_in(root).get("a")
    assert live is not None, "a copy was away while it was renewed"
    cert, content, kind = whole(live)
    assert (cert, content) in ((OLD, OLD), (OLD, NEW), (NEW, NEW)) and kind == (old if content == OLD else new)
    assert not told or (cert, content) == (NEW, NEW)
    installed(root, lambda what: None, NEW, new)
    assert whole(services_in(root).get("a")) == (NEW, NEW, new), "a second try does not succeed"


def elsewhere(do):
    """The same change where services, graveyard and scratch lie on file systems of their own."""

    def across(call):
        def refuse(source, target, *flags, **keywords):
            if os.path.dirname(source) != os.path.dirname(target):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            return call(source, target, *flags, **keywords)

        return refuse

    def done(root, told):
        calls = (os, "rename"), (os, "link"), (durable, "_renameat2")
        with contextlib.ExitStack() as patched:
            for module, name in calls:
                patched.enter_context(mock.patch.object(module, name, across(getattr(module, name))))
            do(root, told)

    return done


SERVICES = dict(_services())
SERVICES["retire a file beyond their number"] = Change(
    with_replica_and_another_retired, retired_beyond_their_number, what_a_full_graveyard_promises
)
SERVICES |= {
    f"{name}, elsewhere": SERVICES[name]._replace(do=elsewhere(SERVICES[name].do))
    for name in ("publish a file", "publish a folder over a file", "withdraw a folder", "restore a file")
}


# --- keys ---------------------------------------------------------------------------------------------------------


def a_ca(root):
    Authority.make(f"{root}/ca", "prod")


def made_ca(root, told):
    a_ca(root)
    told("ca")


def issued(root, told=lambda what: None):
    Authority.load(f"{root}/ca").issue(f"{root}/keys/web1", "web1", NODE, general_names(["10.0.0.5"]))
    told("keys")


def requested(root, told=lambda what: None):
    make_request(root, "web1", general_names(["10.0.0.5"]))
    told("request")


def signed(root, told):
    Authority.load(f"{root}/ca").sign_request(f"{root}/web1.csr", NODE)
    told("signed")


def rolled(root, told):
    old = Authority.load(f"{root}/ca").certificate
    name = Authority.load(f"{root}/ca").roll()
    told(("rolled", name, old))


def a_ca_with_a_node(root):
    a_ca(root)
    issued(root)


def a_ca_that_was_rolled(root):
    a_ca_with_a_node(root)
    Authority.load(f"{root}/ca").roll()


def renewed(root, told):
    made = Authority.load(f"{root}/ca").renew(f"{root}/keys/web1/web1.crt")
    told(("renewed", made))


def what_files_of_keys_promise(root, told, is_killed):
    """Each private key is its owner's alone; each file is whole."""
    for at, _, names in os.walk(root):
        for name in names:
            path = os.path.join(at, name)
            if ".key" in name:
                assert os.stat(path).st_mode & 0o077 == 0
            if name.endswith(".key"):
                keys.load_key(path)
            if name.endswith(".crt"):
                assert keys.load_chain(path) if name != "ca.crt" else keys.load_authorities(path)


def a_ca_is(root, told, is_killed):
    what_files_of_keys_promise(root, told, is_killed)
    if told or os.path.exists(f"{root}/ca/ca.key"):
        Authority.load(f"{root}/ca")
    else:
        with contextlib.suppress(FileNotFoundError):  # a certificate without its key, as the complaint of `init` says
            os.unlink(f"{root}/ca/ca.crt")
        a_ca(root)


def keys_are(root, told, is_killed):
    what_files_of_keys_promise(root, told, is_killed)
    if told or os.path.exists(f"{root}/keys/web1/web1.crt"):
        keys.load(f"{root}/keys/web1", "web1")
    else:
        with contextlib.suppress(FileNotFoundError):  # a key without a certificate, as the complaint of `issue` says
            os.unlink(f"{root}/keys/web1/web1.key")
        issued(root)
        keys.load(f"{root}/keys/web1", "web1")


def a_request_is(root, told, is_killed):
    what_files_of_keys_promise(root, told, is_killed)
    if told:
        assert keys.load_key(f"{root}/web1.key").public_key() == authority.read_request(f"{root}/web1.csr").public_key


def a_signed_one_is(root, told, is_killed):
    what_files_of_keys_promise(root, told, is_killed)
    if told:
        keys.load_chain(f"{root}/web1.crt")
    signed(root, lambda what: None)


def the_ca_signs_and_the_node_runs(root, told, is_killed):
    what_files_of_keys_promise(root, told, is_killed)
    ca = Authority.load(f"{root}/ca")
    keys.load(f"{root}/keys/web1", "web1")
    for each in told:
        if each[0] == "rolled":
            assert ca.certificate != each[2] and keys.load_key(f"{root}/ca/{each[1]}")
        else:
            assert keys.load_chain(f"{root}/keys/web1/web1.crt").certificate == each[1]
    ca.renew(f"{root}/keys/web1/web1.crt")
    keys.load(f"{root}/keys/web1", "web1")
    ca.roll()
    Authority.load(f"{root}/ca").renew(f"{root}/keys/web1/web1.crt")
    keys.load(f"{root}/keys/web1", "web1")


KEYS = {
    "init": Change(lambda root: None, made_ca, a_ca_is),
    "issue": Change(a_ca, issued, keys_are),
    "request": Change(lambda root: None, requested, a_request_is),
    "sign": Change(lambda root: (a_ca(root), requested(root)), signed, a_signed_one_is),
    "roll": Change(a_ca_with_a_node, rolled, the_ca_signs_and_the_node_runs),
    "renew": Change(a_ca_with_a_node, renewed, the_ca_signs_and_the_node_runs),
    "renew behind a roll": Change(a_ca_that_was_rolled, renewed, the_ca_signs_and_the_node_runs),
}


# --- starting from each -------------------------------------------------------------------------------------------

CHANGES = {
    f"{what}: {name}": change
    for what, changes in (
        ("cache", CACHE), ("heard", HEARD), ("journal", JOURNAL), ("hit log", HIT_LOG), ("services", SERVICES), ("keys", KEYS),
    )
    for name, change in changes.items()
}  # fmt: skip


# What the next process does when one was killed, before the power is cut.
AGAIN = {
    **{f"cache: {name}": saves for name in CACHE},
    **{f"journal: {name}": lambda root, told: noted(root, 8, 9, told) for name in JOURNAL},
    **{f"services: publish a {kind}": partial(published, age=NEW, kind=kind) for kind in KINDS},
    **{f"services: publish a {new} over a {old}": partial(published, age=NEW, kind=new) for old in KINDS for new in KINDS},
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_a_crash_leaves_keeps_the_promise(folder, name):
    assert sweep(CHANGES[name], folder, random.randrange(1 << 32), FEW) > 1


@pytest.mark.long
@pytest.mark.parametrize("name", CHANGES)
def test_of_many_states_that_a_crash_may_leave_each_keeps_the_promise(folder, name):
    print(f"{name}: {sweep(CHANGES[name], folder, random.randrange(1 << 32), MANY)} states")


@pytest.mark.long
@pytest.mark.parametrize("name", AGAIN)
def test_a_power_cut_while_another_process_goes_on_for_a_killed_one_breaks_no_promise(folder, name):
    count = sweep_killed(CHANGES[name], AGAIN[name], folder, random.randrange(1 << 32), FEW)
    print(f"{name}, behind one that was killed: {count} states")


# --- the proof can fail -------------------------------------------------------------------------------------------


def in_place(path, chunks, **_):
    with open(path, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return durable.stamp(path)


def created_in_place(path, data, mode):
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def certificate_put_first(self, public_key, *arguments):
    """Signs as ever, and leaves what it signed where it belongs before anything else is done."""
    made = real_sign(self, public_key, *arguments)
    path = os.path.join(os.path.dirname(self.folder), "keys", "web1", "web1.crt")
    if os.path.exists(path):
        keyfiles.write(path, keyfiles.pem([made]))
    return made


real_sign = Authority.sign
real_replace, real_sync = durable.replace, Recording.sync
# A fault, and how it is planted.
FAULTS = {
    "no sync before a rename": (durable, "replace", lambda *args, **kw: real_replace(*args, **kw, is_synced=False)),
    "no sync of a folder": (durable, "sync", lambda path: None),
    "written in place": (durable, "replace", in_place),
    "no sync of data": (Recording, "sync", lambda self, name, to: None if name == "fdatasync" else real_sync(self, name, to)),
    "a certificate before its CA's": (Authority, "sign", certificate_put_first),
    "a key written in place": (keyfiles, "create", created_in_place),
}


@pytest.mark.parametrize(
    ("fault", "name", "reason"),
    [
        ("no sync before a rename", "cache: first start", "the generation went back"),
        ("no sync before a rename", "cache: saves that write it anew", "the generation went back"),
        ("no sync before a rename", "services: publish a url", "what was published is gone"),
        ("no sync of a folder", "cache: first start", "the generation went back"),
        ("no sync of a folder", "services: publish a file", "taken for a service that has none"),
        ("no sync of a folder", "services: install a folder", "half "),
        ("no sync of a folder", "services: withdraw a url", "what was withdrawn is live again"),
        ("no sync of a folder", "services: restore a url", "what was published is gone"),
        ("written in place", "cache: saves that write it anew", "the generation went back"),
        ("no sync of data", "cache: start and saves", "the generation went back"),
        ("a certificate before its CA's", "keys: renew behind a roll", "is not signed by a CA in"),
        ("a key written in place", "keys: request", "is not a private key in PEM"),
    ],
)
def test_a_fault_that_is_planted_is_found_with_its_seed(folder, monkeypatch, fault, name, reason):
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises(Broken, match=reason) as caught:
        sweep(CHANGES[name], folder, random.randrange(1 << 32), 20 * FEW)
    assert re.search(r"\nseed \d+, limit \d+, state \d+\n", str(caught.value))


def test_the_same_seed_leads_to_the_same_states(folder):
    with Recording(folder) as recording:
        hit(folder, 0, 4)
    one, other, third = (list(states(recording, seed, FEW)) for seed in (1, 1, 2))
    assert one == other != third


def test_of_one_write_a_crash_leaves_any_part_and_of_a_sync_all(folder):
    with open(f"{folder}/a", "wb") as file:
        file.write(b"old")
    with Recording(folder) as recording:
        descriptor = os.open(f"{folder}/a", os.O_RDWR | os.O_APPEND)
        os.write(descriptor, b"new")
        os.fsync(descriptor)
        recording.told("done")
        os.close(descriptor)
    left = {(state.tree["./a"][1], state.told) for state in states(recording, 0, MANY)}
    torn = {b"old", b"oldn", b"oldne", b"oldnew", b"old\0\0\0"}
    assert left == {(each, ()) for each in torn} | {(b"oldnew", ("done",))}


def test_of_names_a_power_cut_leaves_any_and_of_a_rename_all_or_nothing(folder):
    with Recording(folder) as recording:
        for name in ("a", "b"):
            os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY))
        os.mkdir(f"{folder}/sub")
        os.rename(f"{folder}/a", f"{folder}/sub/c")
    left = {" ".join(sorted(path[2:] for path in state.tree if path != ".")) for state in states(recording, 0, MANY)}
    assert left == {"", "a", "b", "a b", "sub", "a sub", "b sub", "a b sub", "sub sub/c", "b sub sub/c"}


def test_a_process_that_is_killed_does_nothing_more(folder):
    with Recording(folder, kill_at=1) as recording:
        with pytest.raises(Killed):
            durable.replace(f"{folder}/a", [b"text"])
        assert [call.text for call in recording.calls] == [f"create ./.a.new.{os.getpid()}"]
        recording.revive()
        durable.replace(f"{folder}/a", [b"text"])
    assert os.listdir(folder) == ["a"]


def test_a_call_that_is_not_recorded_is_noticed(folder):
    with pytest.raises(AssertionError, match="has escaped the recording"), Recording(folder):
        subprocess.run(["/bin/sh", "-c", 'echo text > "$0"', f"{folder}/a"], check=True)
    with pytest.raises(NotImplementedError, match=r"os\.symlink is not recorded"), Recording(folder):
        os.symlink("a", f"{folder}/b")
