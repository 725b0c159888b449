"""Every file of a node, cut at each 64th byte, and a bit of each 64th byte flipped: whoever reads it, before or after, goes on.

No checksum stands in what people write, and none in what merely informs: of a flipped bit there, only that is asked."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from bdserver.core import weight
from bdserver.core.membership import Record, Service
from bdserver.errors import BadConfig, BadPolicy, BDError, Quarantined
from bdserver.files import durable, policyfile
from bdserver.files import settings as config
from bdserver.files.blacklist import BlackList
from bdserver.files.cache import Cache
from bdserver.files.heard import Heard, Report
from bdserver.files.hitlog import HitLog
from bdserver.files.journal import Journal
from bdserver.files.quarantine import Kind, Quarantine
from bdserver.files.revoked import Revoked
from bdserver.files.services import Services
from bdserver.net import keys
from bdserver.net.authority import Authority
from tests.unit.certificates import make_keys
from tests.unit.nodes import document

STEP_BYTES = 64
NOW = 1_700_000_000.0


class Case(NamedTuple):
    """A file, well as it lies there. `reader()`: one who begins; `seen(reader)`: what it says of the file; `began(seen)` and
    `kept(seen)`: whether one who begins with a cut file, or had read it before, may say so; `goes_on(reader)`: what it does next
    holds."""

    path: str
    reader: Callable[[], Any]
    seen: Callable[[Any], Any]
    began: Callable[[Any], bool]
    kept: Callable[[Any], bool]
    goes_on: Callable[[Any], None] = lambda reader: None
    has_checksums: bool = False


def the_cache(folder):
    path, states = f"{folder}/me.bdcache", [(0, {})]

    def said(reader):
        view = reader.view()
        return view.generation, dict(view.records)

    def change(cache, number):
        with cache.locked() as view:
            if view.me not in view.records:
                view.start(Record("me", "10.0.0.9:1", (0, 0)), NOW)
            services = {f"Service-{number}": Service("static", 1.5, "", True)}
            view.describe(view.own._replace(load=number % 20, services=services), NOW)
            view.merge(Record(f"n{number}", f"10.0.0.1:{number}", (int(NOW), 2)), NOW)

    cache = Cache(path, "me")
    for number in range(1, 9):
        change(cache, number)
        states.append(said(cache))

    def goes_on(reader):
        change(reader, 99)
        assert said(Cache(path, "me")) == said(reader) and "n99" in reader.view().records

    return Case(path, lambda: Cache(path, "me"), said, states.__contains__, states[-1:].__contains__, goes_on, True)


def the_report(folder):
    path = f"{folder}/me.bdheard"
    writer = Heard(path)
    for number in range(30):
        writer.note(f"n{number}", NOW)
    writer.note_refusal("n1", "it is late")
    assert writer.write({f"n{number}" for number in range(30)}, 0.5, NOW)
    whole = Heard(path).report()

    def goes_on(reader):
        reader.tell(("something",))
        assert Heard(path).report().failing == ("something",)

    return Case(path, lambda: Heard(path), Heard.report, [Report({})].__contains__, [whole].__contains__, goes_on)


def the_journal(folder):
    path = f"{folder}/me.bdjournal"
    for number in range(12):
        Journal(path).note("published", f"Service-{number}", NOW + number, client="n1")
    whole = Journal(path).recent(100)

    def is_older_part(events):
        return events == whole[len(whole) - len(events) :]

    def goes_on(reader):
        reader.note("withdrawn", "New", NOW)
        assert reader.recent(1)[0]["service"] == "New"

    return Case(path, lambda: Journal(path), lambda reader: reader.recent(100), is_older_part, is_older_part, goes_on)


def the_hit_log(folder):
    log = HitLog(str(folder))
    log.extend("Echo", [(f"10.0.0.{number}", NOW - 30 + number) for number in range(30)])

    def seen(reader):
        return sum(count for _, _, count in reader.runs("Echo", NOW))

    def goes_on(reader):
        before = seen(reader)
        reader.append("Echo", weight.HIT, "10.0.0.99", NOW)
        assert before <= seen(reader) - 1 <= 30

    return Case(log.path("Echo"), lambda: HitLog(str(folder)), seen, range(30).__contains__, range(30).__contains__, goes_on)


def the_list_of_called(folder):
    names = {f"Service-{number}" for number in range(30)}
    HitLog(str(folder)).list_called(names)

    def is_fewer(found):
        return len(found - names) <= 1  # the last one of a list that was cut is part of a name

    def goes_on(reader):
        reader.list_called({"New"})
        assert HitLog(str(folder)).called() == {"New"}

    return Case(f"{folder}/.called", lambda: HitLog(str(folder)), HitLog.called, is_fewer, is_fewer, goes_on)


def the_quarantine(folder):
    path = f"{folder}/me.bdquarantine"

    def strike(quarantine, digest):
        for _ in range(2):
            with pytest.raises(Quarantined), quarantine.guard(Kind.POLICY, digest, "n1"):
                raise KeyError("planted")

    for number in range(10):
        strike(Quarantine(path), f"d{number}")

    def seen(reader):
        return [entry.digest for entry in reader.entries()]

    def is_older_part(digests):
        return digests == [f"d{number}" for number in range(len(digests))]

    def goes_on(reader):
        strike(reader, "new")
        assert seen(Quarantine(path))[-1] == "new"

    return Case(path, lambda: Quarantine(path), seen, is_older_part, is_older_part, goes_on)


def a_key_file(name):
    def the_key_file(folder):
        Authority.make(f"{folder}/ca", "mesh")
        out = make_keys(folder, f"{folder}/ca", "n1")
        whole = keys.load(out, "n1").digest
        return Case(
            f"{out}/{name}",
            lambda: None,
            lambda reader: _or_bad(lambda: keys.load(out, "n1").digest),
            # Without the newline at its end the file is as good as before.
            [whole, "bad"].__contains__,
            [whole, "bad"].__contains__,
        )

    return the_key_file


def the_service(folder):
    for each in ("services", "graveyard"):
        os.mkdir(f"{folder}/{each}")
    for name in ("Echo", "Other"):
        with open(f"{folder}/services/{name}", "w") as file, open(f"{folder}/services/{name}.bdcert", "w") as bdcert:
            file.write("x")
            bdcert.write("weight=7\ntype=static\n" + "".join(f"other{number}=something or other\n" for number in range(9)))

    def seen(reader):
        reader.look()
        return sorted(reader.all())

    def is_with_other(names):
        return "Other" in names

    return Case(
        f"{folder}/services/Echo.bdcert",
        lambda: Services(f"{folder}/services", f"{folder}/graveyard", f"{folder}/scratch"),
        seen,
        is_with_other,
        is_with_other,
    )


def the_list_of_revoked(folder):
    path, names = f"{folder}/revoked", [f"node-{number:04}" for number in range(40)]
    with open(path, "w") as file:
        file.writelines(f"{name}\n" for name in names)

    def seen(reader):
        if isinstance(reader, str):
            return reader
        reader.refresh()
        return reader.entries[0]

    def is_shorter(found):  # as if somebody had taken names out of it: the last one may be cut
        whole = [name for name in names if name in found]
        return whole == names[: len(whole)] and len(found) - len(whole) <= 1

    return Case(path, lambda: _or_bad(lambda: Revoked(path)), seen, is_shorter, is_shorter)


def what_people_write(name, text, read):
    def the_file(folder):
        path = f"{folder}/{name}"
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o600)
        _or_bad(lambda: read(path))
        return Case(path, lambda: path, lambda path: _or_bad(lambda: bool(read(path))), lambda _: True, lambda _: True)

    return the_file


def test_no_bit_of_a_ca_s_certificate_makes_another_exception_than_a_complaint(tmp_path):
    case = CASES["CAs"](tmp_path)
    with open(case.path, "rb") as file:
        data = file.read()
    for at in range(len(data)):
        _put(case.path, data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        case.seen(None)


def _or_bad(read):
    try:
        return read()
    except BDError as error:
        assert isinstance(error, BadConfig | BadPolicy), repr(error)
        return "bad"


CASES = {
    "cache": the_cache,
    "heard": the_report,
    "journal": the_journal,
    "hit log": the_hit_log,
    "called": the_list_of_called,
    "quarantine": the_quarantine,
    "key": a_key_file("n1.key"),
    "certificate": a_key_file("n1.crt"),
    "CAs": a_key_file("ca.crt"),
    "bdcert": the_service,
    "revoked": the_list_of_revoked,
    "config": what_people_write("bdserverd.conf", config.sample(), config.load),
    "black list": what_people_write("black", "".join(f"192.0.2.{number}\n" for number in range(40)), BlackList),
    "policy": what_people_write("policy.xml", document(*"abcdefgh") + " " * 200, policyfile.read),
}


@pytest.mark.parametrize("name", CASES)
def test_whoever_reads_a_file_that_was_cut_or_bent_goes_on(tmp_path, monkeypatch, name):
    monkeypatch.setattr(durable.os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(durable.os, "fdatasync", lambda descriptor: None)
    case = CASES[name](tmp_path)
    with open(case.path, "rb") as file:
        data = file.read()
    assert len(data) > 3 * STEP_BYTES
    for at in range(0, len(data), STEP_BYTES):
        bent = data[:at] + bytes([data[at] ^ 1 << at // STEP_BYTES % 8]) + data[at + 1 :]
        for what, damaged in (("cut", data[:at]), ("bent", bent)):
            is_judged = what == "cut" or case.has_checksums
            _put(case.path, data)
            before = case.reader()
            case.seen(before)
            _put(case.path, damaged)
            for reader, may in ((before, case.kept), (case.reader(), case.began)):
                _put(case.path, damaged)
                seen = case.seen(reader)
                assert not is_judged or may(seen), (what, at, seen)
                case.goes_on(reader)


def _put(path, data):
    """In place, as a damage is."""
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        file.truncate(len(data))
        file.write(data)
