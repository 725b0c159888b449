"""What a .bdcert says: each value, what it may not say, which file and line is wrong; and what is published by one."""

import os

import pytest

from bdserver.errors import BadService, BDError
from bdserver.files import bdcert
from bdserver.files.bdcert import Service, read_service
from tests.unit import changes
from tests.unit.changes import drop, publish, scratch

folder, services = changes.folder, changes.services


def test_every_value_of_a_bdcert_is_taken_and_what_we_do_not_know_is_kept(services, folder):
    drop(
        folder,
        "a",
        "# c\nWeight=2.5\nTYPE=DYNAMIC\nurl=http://{host}/a?b=c\nhealth=HTTP\narrived_at=12.5\nrack=Don = B\nx=\n",
    )
    assert services.get("a") == Service(
        "a", "dynamic", 2.5, "http://{host}/a?b=c", "http", str(folder / "a"), 12.5, (("rack", "Don = B"), ("x", ""))
    )


def test_the_defaults_of_a_bdcert(services, folder):
    drop(folder, "a", "")
    assert services.get("a") == Service("a", "static", 1.0, "", "none", str(folder / "a"), 0.0, ())


def test_a_service_without_a_file_is_registered_by_its_url(services, folder):
    drop(folder, "a", "url=http://elsewhere/", None)
    assert services.get("a").path is None


def test_a_service_whose_file_is_gone_is_not_offered_though_it_has_a_url(services, folder):
    drop(folder, "a", "url=http://{host}/a\nedition=7:d1")
    assert services.get("a").url == "http://{host}/a"
    os.unlink(folder / "a")
    assert services.get("a") is None
    assert services.complaints == [f"{folder}/a.bdcert: there is no a beside it, and it is edition d1 of a file or folder"]
    drop(folder, "a", "url=http://{host}/a\nedition=8:", None)  # nor has it a digest of one
    assert services.get("a").path is None


@pytest.mark.parametrize(
    ("cert", "complaint"),
    [
        ("weight=x", "a.bdcert:1: weight must be a number from 0 to 1e+09"),
        ("\nweight=-1", "a.bdcert:2: weight must be a number from 0 to 1e+09"),
        ("weight=nan", "a.bdcert:1: weight must be a number from 0 to 1e+09"),
        ("weight=1000000001", "a.bdcert:1: weight must be a number from 0 to 1e+09"),
        ("weight=", "a.bdcert:1: weight must be a number from 0 to 1e+09"),
        ("type=other", "a.bdcert:1: type must be static or dynamic"),
        ("health=icmp", "a.bdcert:1: health must be none or tcp or http"),
        ("arrived_at=-1", "a.bdcert:1: arrived_at must be a number of seconds"),
        ("url=http://a b/", f"a.bdcert:1: url must be {bdcert.URL_WORDS}"),
        ("weight=1\nweight=2", "a.bdcert:2: weight was set in line 1 already"),
        ("MHcCAQEEIGtleQ==\nMHcCAQEEIGtleQ==", "a.bdcert:2: a key was set in line 1 already"),
        ("weight 1\n\0\n", "a.bdcert:1: not KEY=VALUE|a.bdcert:2: a NUL byte"),
    ],
)
def test_a_broken_bdcert_is_said_with_its_line_and_takes_out_no_other(services, folder, cert, complaint):
    drop(folder, "a", cert)
    drop(folder, "b")
    assert list(services.all()) == ["b"]
    assert [line.removeprefix(f"{folder}/") for line in services.complaints] == complaint.split("|")
    drop(folder, "a")
    assert list(services.all()) == ["a", "b"]
    assert services.complaints == []


@pytest.mark.parametrize("weight", ["0", "1e9", "0.001"])
def test_the_lightest_and_the_heaviest_service(services, folder, weight):
    drop(folder, "a", f"weight={weight}")
    assert services.get("a").cost == float(weight)


@pytest.mark.parametrize("edition", ["7", "x:sha", "-1:sha", "99999999999999999999:sha", "7:" + 999 * "a", ":"])
def test_an_edition_is_a_counter_and_a_digest(tmp_path, edition):
    (tmp_path / "Echo").write_text("")
    (tmp_path / "Echo.bdcert").write_text(f"weight=1\nedition={edition}\n")
    with pytest.raises(BDError, match=r"Echo\.bdcert:2: "):
        read_service(str(tmp_path), "Echo")


SECRET = (
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIGtleWtleWtleWtleWtleQ==\nroot:$6$salt$hash:19000:0:99999:7:::\nweight=hunter2\n"
)


@pytest.mark.parametrize("kind", ["link", "link within", "text"])
def test_no_complaint_quotes_what_stands_in_a_bdcert(services, folder, tmp_path, kind):
    secret = tmp_path / "key" if kind == "link" else folder / "key"
    secret.write_text(SECRET)
    (folder / "x.bdcert").write_text(SECRET) if kind == "text" else (folder / "x.bdcert").symlink_to(secret)
    drop(folder, "x", content="y", cert=None) if kind == "text" else (folder / "x").write_text("y")
    assert services.all() == {} and services.complaints
    said = "\n".join(services.complaints)
    assert all(word not in said for word in ("BEGIN", "MHcC", "mhcc", "hunter2", "hash", "root:"))
    assert (f"{folder}/x.bdcert: a symbolic link, not a regular file" in said) == (kind != "text")


def test_a_bdcert_that_is_a_link_is_not_copied_to_the_graveyard(services, folder, tmp_path):
    (tmp_path / "key").write_text(SECRET)
    drop(folder, "a", cert=None)
    (folder / "a.bdcert").symlink_to(tmp_path / "key")
    publish(services, os.path.join(scratch(services, "a"), "a"), "a", 1)
    assert (tmp_path / "graveyard" / "a.bdcert").is_symlink() and services.get("a").cost == 1
    assert (tmp_path / "key").read_text() == SECRET


URLS_OK = [
    *(
        "http://h/x",
        "https://h:65535/",
        "http://[::1]:80/x",
        "http://{host}:{axis_port}/{axis_web_dir}/{service}?wsdl",
        "ftp://h/",
    ),
    "http://h/" + "x" * 1991,
]
URLS_BAD = [
    *(
        "http://[x/",
        "http://h:99999/x",
        "http://h:0/",
        "http://h:x/",
        "http:///x",
        "//h/x",
        "h/x",
        "wiki.example.org",
        "mailto:x",
    ),
    *("http://h/ x", "http://h/\x7f", "http://h/" + "x" * 1992, "http://[x]/", "http://a\u2100b/"),
]


@pytest.mark.parametrize("url", URLS_OK + URLS_BAD)
def test_a_url_that_nobody_can_take_apart_is_refused_where_it_comes_in(services, folder, url):
    drop(folder, "a", f"url={url}\n", None)
    if url in URLS_OK:
        assert services.get("a").url == url and not services.get("a").is_here
        publish(services, None, "b", 1, url)
        assert services.get("b").url == url
    else:
        assert services.all() == {} and services.complaints == [f"{folder}/a.bdcert:1: url must be {bdcert.URL_WORDS}"]
        with pytest.raises(BadService, match="its url must be a URL as http://host:port/path"):
            publish(services, None, "b", 1, url)


def test_weights_survive_a_round_trip_to_the_last_digit(services):
    for weight in (0.1 + 0.2, 1e-7, 123456789.123, 1e9, 0, 3):
        publish(services, None, "a", weight, "http://x/")
        assert services.get("a").cost == weight


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((None, "../a", 1, "http://x/"), "is no service's name"),
        ((None, "a.bdcert", 1, "http://x/"), "is no service's name"),
        ((None, "a", -1, "http://x/"), "a weight is 0 to"),
        ((None, "a", float("nan"), "http://x/"), "a weight is 0 to"),
        ((None, "a", 1, "http://x/\nweight=0"), "its url must be"),
        ((None, "a", 1, "http://x/ y"), "its url must be"),
        ((None, "a", 1, "http://h:99999/x"), "its url must be"),
        ((None, "a", 1, "wiki.example.org"), "its url must be"),
        ((None, "a", 1, "http://x/", "icmp"), "health is one of none, tcp, http, not 'icmp'"),
        ((None, "a", 1), "neither a file nor a url"),
        (("/none/a", "a", 1), "no such file or folder"),
    ],
)
def test_what_can_not_be_published_is_refused_in_one_line(services, folder, arguments, reason):
    with pytest.raises(BadService, match=reason) as caught:
        publish(services, *arguments)
    assert "\n" not in str(caught.value)
    assert os.listdir(folder) == []
