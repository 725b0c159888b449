"""What people see of services and their copies, with real daemons: bdctl services, status, the journal, the audit."""

import json

from bdserver.audit import crawl, metrics
from bdserver.audit.snapshot import Snapshot
from bdserver.net import dialling
from tests.hosts import until

from .test_copies import content, publish


def seen(host, name="Echo"):
    """What `bdctl services NAME --json` tells there; None while nobody has it."""
    done = host.run("bdctl", "--json", "services", name)
    return json.loads(done.stdout) if done.returncode == 0 else None


def audited(host):
    """The mesh as the audit sees it from there."""
    return Snapshot(crawl.crawl_from([lambda deadline: dialling.dial_local(host.socket, deadline)], 10.0))


def events(host):
    return {(each["what"], each["service"]) for each in host.ctl("status")["events"]}


def test_each_holder_is_shown_with_its_edition_and_how_many_are_wanted(mesh):
    hosts = mesh.start(3)
    mesh.wait_known()
    publish(hosts[0], "Echo", "v1", "--replicas", "3")
    until(lambda: (found := seen(hosts[2])) and found["living"] == 3, 20, "all three have it, and n3 knows")
    found = seen(hosts[2])
    assert (found["wanted"], found["rivals"], found["findings"]) == (3, None, [])
    assert [(each["node"], each["type"], each["original"]) for each in found["holders"]] == [
        ("n1", "static", ""), ("n2", "dynamic", "n1"), ("n3", "dynamic", "n1"),
    ]  # fmt: skip
    editions = {tuple(each["edition"]) for each in found["holders"]}
    assert editions == {tuple(found["edition"])} and len(found["edition"][1]) == 8
    assert all(isinstance(each["weight"], float | int) for each in found["holders"])
    text = hosts[1].run("bdctl", "services", "Echo").stdout
    assert text.startswith("Echo: 3 of 3 holders\n") and "copy of n1" in text
    assert "3 of 3" in hosts[1].run("bdctl", "services").stdout and "3 of 3" in hosts[1].run("bdctl", "status").stdout
    assert ("placed", "Echo") in events(hosts[0]) and ("replicated", "Echo") in events(hosts[1])

    publish(hosts[0], "Echo", "v2", "--replicas", "3")
    until(lambda: {content(host, "Echo") for host in hosts} == {"v2"}, 10, "all have v2")
    until(lambda: {tuple(each["edition"]) for each in seen(hosts[2])["holders"]} != editions, 10, "n3 knows of the new edition")
    until(lambda: all(("updated", "Echo") in events(host) for host in hosts[1:]), 10, "the journals of the copies tell it")


def test_a_holder_that_died_is_missing_from_what_is_wanted_and_seen_in_status_audit_and_metrics(mesh):
    hosts = mesh.start(3)
    mesh.wait_known()
    publish(hosts[0], "Echo", "v1", "--replicas", "3")
    until(lambda: (found := seen(hosts[0])) and found["living"] == 3, 20, "all three have it")
    hosts[2].kill()
    until(lambda: seen(hosts[0])["living"] == 2, 20, "n1 knows that n3 is dead")
    found = seen(hosts[0])
    assert found["wanted"] == 3 and [each["key"] for each in found["findings"]] == ["short"]
    assert hosts[0].run("bdctl", "services", "Echo").stdout.startswith("Echo: 2 of 3 holders\n  WARNING: 2 of 3 holders live")
    assert any("Echo (2 of 3)" in line for line in hosts[0].ctl("status")["warnings"])
    snapshot = audited(hosts[0])
    assert snapshot.by_service["Echo"].whole.living_of_wanted == "2 of 3"
    assert [node.name for node in snapshot.dead_holders("Echo")] == ["n3"]
    text = metrics.text(snapshot).decode()
    assert 'bdserver_service_holders{service="Echo"} 2.0' in text
    assert 'bdserver_service_holders_wanted{service="Echo"} 3.0' in text


def test_orphans_adoption_and_rivals_are_seen(mesh):
    hosts = mesh.start(3)
    mesh.wait_known()
    publish(hosts[0], "Echo", "v1", "--replicas", "2")
    until(lambda: (found := seen(hosts[0])) and found["living"] == 2, 20, "two have it")
    copy = next(host for host in hosts[1:] if content(host, "Echo"))
    other = next(host for host in hosts[1:] if host is not copy)
    hosts[0].run("bdctl", "withdraw", "--here", "Echo")
    until(lambda: [h["orphan"] for h in seen(copy)["holders"] if h["node"] == copy.name] == [True], 20, "it is an orphan")
    assert "orphan" in copy.run("bdctl", "services").stdout
    copy.run("bdctl", "adopt", "Echo")
    until(lambda: [h["after"] for h in seen(copy)["holders"] if h["type"] == "static"] == ["n1"], 10, "it was adopted")
    assert ("adopted", "Echo") in events(copy)
    until(lambda: any(host is not copy and content(host, "Echo") for host in hosts), 20, "there are two again")
    rival = next(host for host in (hosts[0], other) if content(host, "Echo") is None)
    said = publish(rival, "Echo", "another one altogether")
    assert f"another original, which differs, at {copy.name} (edition " in said.stderr
    until(lambda: seen(copy)["rivals"], 10, "the first original's node knows of the other")
    found = seen(copy)
    assert found["rivals"]["digests"].keys() == {copy.name, rival.name} and found["rivals"]["since"] > 1_700_000_000
    until(lambda: any("which differs: Echo, at" in line for line in copy.ctl("status")["warnings"]), 10, "status says so")
    text = metrics.text(audited(copy)).decode()
    assert 'bdserver_service_rivals{service="Echo"} 2.0' in text
