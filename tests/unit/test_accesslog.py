"""Hits from a web server's log: which lines count, for which service, and how a log is followed that is rotated or cut."""

import os
import time

import pytest

from bdserver.errors import BadConfig
from bdserver.files import accesslog
from bdserver.files.accesslog import AccessLog, parsed, paths_of, pattern, service_at

SERVICES = {"/axis/Primes": "Primes", "/axis/Calculator.jws": "Calculator.jws"}
NOW = 1_790_000_000.0


def stamp(at):
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))


def line(path="/axis/Primes", status=200, at=NOW, client="10.0.0.9", agent="curl/8", method="POST"):
    return f'{client} - - [{stamp(at)}] "{method} {path} HTTP/1.1" {status} 512 "-" "{agent}"\n'


@pytest.fixture
def log(tmp_path):
    """(path, an AccessLog that begins at its end)."""
    path = tmp_path / "access.log"
    path.write_text(line(at=NOW - 100))
    reader = AccessLog(str(path), "combined")
    assert list(reader.hits(SERVICES, NOW)) == [], "what was there before does not count"
    return path, reader


def append(path, *lines):
    with open(path, "a") as file:
        file.writelines(lines)


def test_each_request_for_a_service_is_a_hit(log):
    path, reader = log
    append(
        path, line(at=NOW - 3), line("/axis/Calculator.jws?wsdl", client="::1", at=NOW - 2), line("/axis/Primes/sub?x=1", 500)
    )
    assert list(reader.hits(SERVICES, NOW)) == [
        ("Primes", "10.0.0.9", NOW - 3), ("Calculator.jws", "::1", NOW - 2), ("Primes", "10.0.0.9", NOW),
    ]  # fmt: skip
    assert list(reader.hits(SERVICES, NOW)) == []


@pytest.mark.parametrize(
    "other",
    [line("/"), line("/axis/PrimesNot"), line("/axis"), line(status=404), line(status=302), line(agent="bdserverd"), "garbage\n", "\n",
     '10.0.0.9 - - [x] "-" 400 0 "-" "-"\n', line("/axis/Primes").replace("HTTP", '"HTTP')],
)  # fmt: skip
def test_what_is_no_call_of_a_service_is_no_hit(log, other):
    path, reader = log
    append(path, other)
    assert list(reader.hits(SERVICES, NOW)) == []


def test_half_a_line_waits_for_the_other_half(log):
    path, reader = log
    whole = line()
    append(path, whole[:30])
    assert list(reader.hits(SERVICES, NOW)) == []
    append(path, whole[30:])
    assert len(list(reader.hits(SERVICES, NOW))) == 1


def test_a_rotated_log_is_read_to_its_end_and_the_new_one_from_its_beginning(log):
    path, reader = log
    append(path, line(client="a"))
    os.rename(path, f"{path}.1")
    append(f"{path}.1", line(client="b"))
    append(path, line(client="c"))
    assert [client for _, client, _ in reader.hits(SERVICES, NOW)] == ["a", "b", "c"]
    append(path, line(client="d"))
    assert [client for _, client, _ in reader.hits(SERVICES, NOW)] == ["d"]


def test_of_a_log_that_was_renamed_and_whose_successor_is_not_there_yet_nothing_is_lost(log):
    path, reader = log
    append(path, line(client="a"))
    os.rename(path, f"{path}.1")
    append(f"{path}.1", line(client="b"))
    assert [client for _, client, _ in reader.hits(SERVICES, NOW)] == ["a", "b"]
    assert list(reader.hits(SERVICES, NOW)) == []
    append(path, line(client="c"))
    assert [client for _, client, _ in reader.hits(SERVICES, NOW)] == ["c"]


def test_a_log_that_is_cut_is_read_from_its_beginning(log):
    path, reader = log
    path.write_text("")
    append(path, line(client="a", path="/axis/Primes"))
    with open(path, "a") as file:
        os.truncate(file.fileno(), 0)
    path.write_text(line(client="b", agent=""))
    assert [client for _, client, _ in reader.hits(SERVICES, NOW)] == ["b"]


def test_a_log_that_is_not_there_yet_is_said_and_read_when_it_comes(tmp_path):
    path = tmp_path / "access.log"
    reader = AccessLog(str(path), "common")
    assert list(reader.hits(SERVICES, NOW)) == [] and "No such file" in reader.complaint
    path.write_text("")
    assert list(reader.hits(SERVICES, NOW)) == [] and reader.complaint == ""
    append(path, '10.0.0.9 - - [x] "GET /axis/Primes HTTP/1.0" 200 5\n')
    assert list(reader.hits(SERVICES, NOW)) == [("Primes", "10.0.0.9", NOW)]


def test_a_flood_is_read_in_portions_and_a_hopeless_one_skipped(log, monkeypatch, caplog):
    path, reader = log
    monkeypatch.setattr(accesslog, "READ_BYTES_MAX", 10_000)
    append(path, *[line(client=str(number)) for number in range(1000)])
    seen = []
    while hits := list(reader.hits(SERVICES, NOW)):
        assert len(hits) < 150
        seen += [client for _, client, _ in hits]
    assert seen == [str(number) for number in range(1000)]
    monkeypatch.setattr(accesslog, "BEHIND_BYTES_MAX", 50_000)
    append(path, *[line() for _ in range(1000)])
    assert list(reader.hits(SERVICES, NOW)) == [] and "behind" in caplog.text
    append(path, line(client="after"))
    assert [client for _, client, _ in reader.hits(SERVICES, NOW)] == ["after"]


def test_an_endless_line_costs_no_memory(log):
    path, reader = log
    append(path, "x" * 300_000)
    assert list(reader.hits(SERVICES, NOW)) == [] and len(reader._rest) <= accesslog.LINE_BYTES_MAX + 1
    append(path, "\n", line())
    assert len(list(reader.hits(SERVICES, NOW))) == 1


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("combined", line()),
        ("common", f'10.0.0.9 - joe [{stamp(NOW)}] "GET /axis/Primes HTTP/1.1" 200 -\n'),
        ('%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i"', f"web:80 {line()[:-1].replace(' 512 ', ' 700 ')}\n"),
        ('%h %V %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"', line().replace("- -", "web.example -")),  # lighttpd's own
        ("%a %{sec}t %m %U%q %>s", f"10.0.0.9 {int(NOW)} GET /axis/Primes 200\n"),
        (
            '%h [%{%d/%b/%Y}t] "%r" %s %D "%{User-Agent}i"',
            '10.0.0.9 [01/Jan/2026] "GET /axis/Primes HTTP/2.0" 200 12 "a \\"b\\" c"\n',
        ),
        ('%%%h "%r" %h', '%10.0.0.9 "GET /axis/Primes HTTP/1.1" other\n'),
    ],
)
def test_formats_as_apache_and_lighttpd_write_them(form, text):
    request = parsed(pattern(form), text.rstrip("\n"), NOW)
    assert request is not None, text
    assert (request.client, request.path, request.at) == ("10.0.0.9", "/axis/Primes", NOW)


@pytest.mark.parametrize("form", ["", "%h %t", "nothing", '%h "%{Referer}i"'])
def test_a_format_that_does_not_tell_the_path_is_refused(form):
    with pytest.raises(BadConfig, match="needs %r or %U"):
        pattern(form)


def test_time_zones_and_clocks():
    form = pattern("%t %U")
    assert (
        parsed(form, "[21/Sep/2026:16:13:20 +0200] /x", 2e9).at
        == parsed(form, "[21/Sep/2026:07:13:20 -0700] /x", 2e9).at
        == 1_790_000_000
    )
    assert parsed(form, "[21/Sep/2026:16:13:20 +0200] /x", 5.0).at == 5.0, "a clock ahead of ours: now"


def test_a_service_is_found_below_its_urls_path():
    services = paths_of({"Primes": "http://h:80/axis/Primes?wsdl", "A b": "http://h/x/A%20b", "Root": "http://h"})
    assert services == {"/axis/Primes": "Primes", "/x/A b": "A b", "/": "Root"}
    assert service_at(services, "/axis/Primes?wsdl") == service_at(services, "/axis/Primes/deep/er") == "Primes"
    assert service_at(services, "/x/A%20b") == "A b" and service_at(services, "/axis/") is None
    assert service_at(services, "/") == "Root"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "//axis/Primes",
            "/axis//Primes",
            "/./axis/./Primes",
            "/x/../axis/Primes",
            "/axis/x/y/../../Primes",
            "/../axis/Primes",
        ),
        *(
            "/axis/Primes;jsessionid=7F",
            "/axis;a=b/Primes;jsessionid=7F?wsdl",
            "/axis/x/..;v=1/Primes",
            "/axis/Primes/",
            "/axis/Primes/.",
        ),
        *("http://web.example:8080/axis/Primes?wsdl", "HTTPS://[::1]/axis/Primes", "/%61xis/%50rimes", "/x/%2e%2e/axis/Primes"),
    ],
)
def test_a_path_counts_as_web_servers_look_it_up(log, path):
    log_path, reader = log
    append(log_path, line(path))
    assert [service for service, _, _ in reader.hits(SERVICES, NOW)] == ["Primes"]


@pytest.mark.parametrize(
    "path", ["/axis/Primes/..", "/axis/x;/Primes", "/axis/PrimesNot;/", "http://web.example", "http://axis/Primes", "*"]
)
def test_a_path_that_leads_elsewhere_is_no_hit(log, path):
    log_path, reader = log
    append(log_path, line(path))
    assert list(reader.hits(SERVICES, NOW)) == []


def test_a_services_url_counts_in_its_normal_form_and_a_url_of_no_site_has_no_hits():
    urls = {"A": "http://h//x/./A/", "B": "http://[x/", "C": "nowhere", "D": "http://h:99999/D;v=2"}
    assert paths_of(urls) == {"/x/A": "A", "/D": "D"}


def test_a_log_that_is_no_file_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "access.log")
    reader = AccessLog(str(tmp_path / "access.log"), "common")
    assert list(reader.hits(SERVICES, NOW)) == [] and "not a regular file" in reader.complaint


def test_a_time_that_never_was_is_now():
    form = pattern("%t %U")
    for text in ("[00/Jan/0000:00:00:00 +0000]", "[21/Foo/2026:16:13:20 +0200]", f"[{'9' * 400}]"):
        assert parsed(form, f"{text} /x", 5.0).at == 5.0
