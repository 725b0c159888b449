"""The time line of real daemons: it outlives kill -9, counts each call once, and tells who calls and where look-ups went."""

from bdserver.audit import crawl
from bdserver.audit.crawl import About
from bdserver.net import dialling
from tests.hosts import until


def audited(host, about):
    return crawl.crawl_from([lambda deadline: dialling.dial_local(host.socket, deadline)], 10.0, about=about)


def kept(host):
    """(calls, seconds) of all minutes that it has kept, as the audit hears it."""
    line = audited(host, About(node=host.name, hours=1)).statuses[host.name].line
    return sum(span.calls for span in line.spans), sum(span.seconds for span in line.spans)


def test_calls_are_kept_over_restarts_and_counted_once(mesh):
    host = mesh.start(1)[0]
    host.add_service("Echo")
    until(lambda: "Echo" in host.ctl("services"), 20, "it offers Echo")
    for _ in range(5):
        host.lookup("Echo")
    until(lambda: kept(host)[0] == 5, 30, "the minute that runs is kept")
    host.end()
    host.start()
    calls, seconds = kept(host)
    assert calls == 5 and seconds > 0, "the minute goes on"
    host.kill()
    host.start()
    calls, later = kept(host)
    assert calls == 5 and later >= seconds, "kill -9 costs what was not kept yet, and nothing before it"


def test_a_page_about_a_node_hears_who_calls_it_and_where_its_look_ups_went(mesh):
    first, second = mesh.start(2)
    mesh.wait_known()
    second.add_service("Echo")
    until(lambda: "Echo" in first.ctl("services"), 20, "the first knows of Echo")
    for _ in range(3):
        first.lookup("Echo")
    by_node = audited(first, About(node="n1")).statuses
    assert [(each.service, each.node, each.phase) for each in by_node["n1"].lookups] == [("Echo", "n2", 1)] * 3
    assert by_node["n1"].lookups[0].asked[0][:2] == ("n2", "YES") and by_node["n2"].lookups == []
    by_service = audited(first, About("Echo")).statuses
    assert sum(calls for _, calls in by_service["n2"].askers["Echo"]) == 3
    assert by_service["n2"].services["Echo"].calls == 3
