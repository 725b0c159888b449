"""Every file of a node, well as it lies there, and what may be asked of whoever reads it when something has become of it.

No checksum stands in what people write, and none in what merely informs: of a flipped bit there, only that whoever reads goes on
is asked."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from bdserver.core import weight
from bdserver.core.joining import Invitation
from bdserver.core.membership import Record, Service
from bdserver.core.roles import NODE
from bdserver.core.timeline import Span
from bdserver.core.wire import payload
from bdserver.errors import BadConfig, BadPolicy, BDError, Quarantined, TooLarge
from bdserver.files import policyfile, publishers
from bdserver.files import settings as config
from bdserver.files.accesslog import AccessLog
from bdserver.files.blacklist import BlackList
from bdserver.files.cache import Cache
from bdserver.files.heard import Heard, Report
from bdserver.files.hitlog import HitLog
from bdserver.files.invitations import Invitations, Signed
from bdserver.files.journal import Journal
from bdserver.files.quarantine import Kind, Quarantine
from bdserver.files.revoked import Revoked
from bdserver.files.seen import Seen
from bdserver.files.services import Services
from bdserver.files.timeline import Timeline
from bdserver.net import keys
from bdserver.net.authority import Authority
from bdserver.processes.pidfile import PidFile
from tests.unit.certificates import make_keys
from tests.unit.nodes import document
from tests.unit.signed import KEY

NOW = 1_700_000_000.0
MINUTE = int(NOW) // 60


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
    began_empty: Callable[[Any], bool] | None = None  # as `began`, where the file is not there; None: as that


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

    def seen(reader):
        report = reader.report()
        _told([report.times, report.lag, report.clock_off, report.doubted])
        return report

    return Case(path, lambda: Heard(path), seen, [Report({})].__contains__, [whole].__contains__, goes_on)


def the_journal(folder):
    path = f"{folder}/me.bdjournal"
    for number in range(12):
        Journal(path).note("published", f"Service-{number}", NOW + number, client="n1")
    whole = Journal(path).recent(100)

    def is_older_part(events):
        events = [each for each in events if each["service"] != "New"]
        return events == whole[len(whole) - len(events) :]

    def seen(reader):
        return _told(reader.recent(100))

    def goes_on(reader):
        reader.note("withdrawn", "New", NOW)
        assert [each["service"] for each in reader.recent(1)] == ["New"]

    return Case(path, lambda: Journal(path), seen, is_older_part, is_older_part, goes_on)


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
        with suppress(OSError):  # as its caller does
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
        assert seen(Quarantine(path))[-1:] == ["new"]

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

    def is_shorter_or_bad(found):
        return found == "bad" or is_shorter(found)

    return Case(path, lambda: _or_bad(lambda: Revoked(path)), seen, is_shorter, is_shorter, began_empty=is_shorter_or_bad)


def the_counters_of_what_was_signed(folder):
    path = f"{folder}/me.bdsigned"
    for number in range(20):
        Seen(path).raise_to(f"Service-{number}", 1000 + number)
    whole = [1000 + number for number in range(20)]

    def seen(reader):
        return _or_bad(lambda: [reader.newest(f"Service-{number}") for number in range(20)])

    def is_whole_or_bad(found):  # else an older package would come back
        return found in (whole, "bad")

    def is_none_yet(found):
        return found == [0] * 20 or is_whole_or_bad(found)

    def goes_on(reader):
        if _or_bad(lambda: reader.raise_to("New", 5)) != "bad":
            assert reader.newest("New") == 5

    return Case(path, lambda: Seen(path), seen, is_whole_or_bad, is_whole_or_bad, goes_on, True, is_none_yet)


def the_time_line(folder):
    path, whole = f"{folder}/me.bdtimeline", [Span(MINUTE + number, 60, number, 0, 0, 1.5, 2.5, 100.0) for number in range(20)]
    for each in whole:
        Timeline(path).write(each, 20)

    def goes_on(reader):
        newest = whole[-1]._replace(start=MINUTE + 20)
        reader.write(newest, 20)
        assert reader.at(MINUTE + 20) == newest

    def is_part(found):
        return set(found) <= set(whole)

    return Case(path, lambda: Timeline(path), Timeline.read, is_part, is_part, goes_on, True)


def invited(which):
    def the_invitations(folder):
        path = f"{folder}/me.bdinvitations"
        for number in range(5):
            Invitations(path).add(Invitation(f"id{number}", "hash" * 8, "", NODE, 1, NOW, NOW + 600, "ann"), NOW)
        with Invitations(path).locked(NOW) as book:
            for number in range(5):
                book.note(Signed(f"n{number}", "node", "k" * 32, "ab", NOW, NOW + 600, "id0"))
        whole = seen(Invitations(path))

        def goes_on(reader):
            reader.are_there(NOW)
            _or_bad(lambda: reader.add(Invitation("new", "hash", "", NODE, 1, NOW, NOW + 600, "ann"), NOW))

        def is_whole_or_bad(found):
            return found in (whole, "bad")

        def is_empty(found):
            return found == ([], [], 0) or found != "bad" or is_whole_or_bad(found)

        where = path + which
        return Case(where, lambda: Invitations(path), seen, is_whole_or_bad, is_whole_or_bad, goes_on, began_empty=is_empty)

    def seen(reader):
        book = _or_bad(reader.book)
        return book if book == "bad" else (sorted(book.invitations), sorted(book.signed), book.unknown)

    return the_invitations


def the_pid_file(folder):
    path = f"{folder}/me.pid"
    with open(path, "w") as file:
        file.write("12345\n" * 50)

    def claims(reader):
        held = PidFile(path)
        if _or_bad(held.claim) != "bad":
            with held:
                assert PidFile(path).is_held() and _or_bad(PidFile(path).claim) == "bad"

    return Case(path, lambda: PidFile(path), PidFile.is_held, (False,).__contains__, (False,).__contains__, claims)


def the_access_log(folder):
    path = f"{folder}/access.log"
    line = '10.0.0.1 - - [10/Oct/2023:13:55:36 +0000] "GET /services/Echo HTTP/1.1" 200 5\n'
    with open(path, "w") as file:
        file.write(line * 10)

    def opened():
        log = AccessLog(path, "common")
        seen(log)
        return log

    def seen(reader):
        return len(list(reader.hits({"/services/Echo": "Echo"}, NOW)))

    return Case(path, opened, seen, lambda _: True, lambda count: count <= 11)


def what_people_write(name, text, read):
    def the_file(folder):
        path = f"{folder}/{name}"
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o600)
        _or_bad(lambda: read(path))
        return Case(path, lambda: path, lambda path: _or_bad(lambda: bool(read(path))), lambda _: True, lambda _: True)

    return the_file


def _told(value):
    """It can be: all of it stands in answers to others."""
    assert payload(value)
    return value


def _or_bad(read):
    try:
        return read()
    except BDError as error:
        assert isinstance(error, BadConfig | BadPolicy | TooLarge), repr(error)
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
    "signed": the_counters_of_what_was_signed,
    "time line": the_time_line,
    "invitations": invited(""),
    "whom it has signed for": invited(".signed"),
    "pid file": the_pid_file,
    "access log": the_access_log,
    "publishers": what_people_write("publishers", f"# {'x' * 200}\n{KEY.public.line}\n", publishers.read),
    "black list": what_people_write("black", "".join(f"192.0.2.{number}\n" for number in range(40)), BlackList),
    "policy": what_people_write("policy.xml", document(*"abcdefgh") + " " * 200, policyfile.read),
}
