"""What `bdctl export` writes for other programs, and what it would rather not say."""

import json
import subprocess

import pytest

from bdserver.commands.ctl.exporting import as_json, env, haproxy, hosts, nginx, offered, prometheus
from bdserver.core.messages import Status
from bdserver.errors import NobodyThere
from tests.unit.canned import own, seen, unvisited

COPY = {"services": ["Copy", "Echo"], "types": {"Copy": "dynamic", "Echo": "static"},
        "urls": {"Copy": "https://[fe80::1]/Copy", "Echo": "http://10.0.0.2:8080/axis/Echo?wsdl"}}  # fmt: skip


def of(*nodes, keep=()):
    return offered(Status(own(), list(nodes)), keep)


NODES = [
    seen("b", 2, **COPY, receiver_threshold=50.0), seen("a"), seen("dead", 3, ["Echo", "Lost"], status="dead"),
    seen("busy", 4, ["Echo", "Slow"], draining=True), seen("named", 5, (), address="web.example:9001"),
    seen("doubted", 6, status="suspect"),
]  # fmt: skip


def test_backends_for_haproxy_with_mode_check_and_weights():
    assert haproxy(of(*NODES)) == (
        "backend Copy\n    mode http\n"
        "    server b [fe80::1]:443 ssl verify required ca-file @system-ca check weight 100\n\n"
        "backend Echo\n    mode http\n    server a 10.0.0.1:8080 check weight 100\n    server b 10.0.0.2:8080 check weight 50\n\n"
        "backend Lost\n    mode http\n\n"
        "backend Slow\n    mode http\n"
    )


@pytest.mark.parametrize("status", ["dead", "left", "suspect"])
def test_a_backend_whose_holders_are_all_gone_stays_empty(status):
    assert haproxy(of(seen("a", 1, ()), seen("b", 2, status=status))) == "backend Echo\n    mode http\n"


def test_a_backend_that_is_to_be_kept_is_there_in_any_case():
    assert haproxy(of(seen("a", services=()), keep=["Wiki"])) == "backend Wiki\n    mode http\n"
    assert haproxy(of(seen("a"), keep=["Echo"])) == haproxy(of(seen("a")))


def test_an_https_server_that_has_a_name_must_prove_it():
    node = seen("a", urls={"Echo": "https://web.example:8443/Echo"})
    tls = "ssl verify required ca-file @system-ca init-addr last,libc,none sni str(web.example) check weight 100"
    assert f"    server a web.example:8443 {tls}\n" in haproxy(of(node))
    plain = seen("a", urls={"Echo": "http://web.example/Echo"})
    assert "    server a web.example:80 init-addr last,libc,none check weight 100\n" in haproxy(of(plain))


def test_a_node_without_a_threshold_or_with_none_to_speak_of_has_its_share_all_the_same():
    assert "check weight 1\n" in haproxy(of(seen("a"), seen("b", 2, receiver_threshold=0.001)))
    older = seen("a")
    del older["receiver_threshold"]
    assert "check weight 100\n" in haproxy(of(older))


def test_lines_for_etc_hosts():
    assert hosts(of(*NODES)) == "10.0.0.1\ta\n10.0.0.2\tb\n10.0.0.4\tbusy\n"
    assert hosts(of(seen("six", address="[fe80::1]:9001"))) == "fe80::1\tsix\n"


def test_json_has_what_is_served():
    said = json.loads(as_json(of(*NODES)))
    assert list(said) == ["Copy", "Echo"] and [place["node"] for place in said["Echo"]] == ["a", "b"]
    assert said["Copy"][0] == {"node": "b", "host": "fe80::1", "port": 443, "url": "https://[fe80::1]/Copy", "type": "dynamic",
                                "checked": True}  # fmt: skip
    assert as_json(of(seen("a", services=()))) == "{}\n"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h:99999/x", "Port out of range"),
        ("http://[x/", "Invalid IPv6 URL"),
        ("http://h:x/", "could not be cast"),
        ("http:///x", "no host"),
        ("gopher://h/x", "no port"),
        ("", "no host"),
        ("http://h x ssl verify none/", "no URL that all take apart"),
        ("http://h;return 200/", "no URL that all take apart"),
    ],
)
def test_a_url_that_can_not_be_called_is_left_out_and_said(url, why):
    found = of(seen("a"), seen("b", 2, urls={"Echo": url}))
    assert [place.node for place in found.places["Echo"]] == ["a"]
    [line] = found.doubts
    assert line.startswith(f"Echo of b is left out: {url!r}") and why in line


def test_a_url_of_whoever_is_not_asked_anyway_is_not_worth_a_line():
    bad = {"urls": {"Echo": "http://h:99999/x"}}
    assert of(seen("a"), seen("b", 2, **bad, status="dead"), seen("c", 3, **bad, draining=True)).doubts == []


def test_of_whom_nobody_looks_whether_they_are_well_is_said_in_one_line():
    unchecked = {"offers": {"Echo": {"checked": False}}}
    found = of(seen("a"), seen("b", 2, ["Echo", "Map"], **unchecked), seen("c", 3, **unchecked), seen("d", 4, **unchecked),
               seen("e", 5, **unchecked), seen("f", 6, **unchecked, status="dead"))  # fmt: skip
    [line] = found.doubts
    assert line.startswith("nobody looks whether these are well") and line.endswith(
        ": Echo of b, Echo of c, Echo of d and 1 more"
    )
    assert [each["checked"] for each in json.loads(as_json(found))["Echo"]] == [True, False, False, False, False]
    told = [(each["labels"]["bd_node"], each["labels"]["bd_checked"]) for each in json.loads(prometheus(found))]
    assert told[:2] == [("a", "true"), ("b", "false")] and told[-1] == ("b", "true"), "and Map of b is checked"


def test_a_node_that_knows_nobody_at_its_hints_has_nothing_to_export():
    hints = [unvisited(f"10.0.0.{number}:9001") for number in range(2, 9)]
    with pytest.raises(NobodyThere, match=r"10\.0\.0\.2:9001.*…") as error:
        of(seen("a"), *hints)
    assert "\n" not in str(error.value) and "10.0.0.8" not in str(error.value)


def test_a_hint_beside_a_mesh_that_is_known_and_a_node_alone_without_hints_are_well():
    assert of(seen("a"), seen("b", 2), unvisited("10.0.0.9:9001")).places["Echo"]
    assert of(seen("a")).places["Echo"]


def test_upstreams_for_nginx():
    named = {"urls": {"Echo": "http://web.example/x"}}
    assert nginx(of(*NODES, seen("n", 7, **named))) == (
        "upstream Copy {\n    server [fe80::1]:443 weight=100 max_fails=0;\n}\n\n"
        "upstream Echo {\n    server 10.0.0.1:8080 weight=100 max_fails=0;\n    server 10.0.0.2:8080 weight=50 max_fails=0;\n}\n\n"
        "upstream Lost {\n    server 127.0.0.1:9 down;\n}\n\n"
        "upstream Slow {\n    server 127.0.0.1:9 down;\n}\n"
    )


def test_targets_for_prometheus():
    copy, first, _ = json.loads(prometheus(of(*NODES)))
    assert (
        first["targets"] == ["10.0.0.1:8080"] and first["labels"]["bd_service"] == "Echo" and first["labels"]["bd_node"] == "a"
    )
    assert (
        copy["targets"] == ["[fe80::1]:443"]
        and copy["labels"]["__scheme__"] == "https"
        and copy["labels"]["bd_type"] == "dynamic"
    )
    assert first["labels"]["__meta_bd_path"] == "/axis/Echo"


def test_a_file_for_the_shell():
    text = env(of(*NODES, seen("x", 8, ("a.b", "a_b"))))
    assert "BD_ECHO_URL='http://10.0.0.1:8080/axis/Echo?wsdl'\nBD_ECHO_HOST=10.0.0.1\nBD_ECHO_PORT=8080\n" in text
    assert "BD_ECHO_URLS='http://10.0.0.1:8080/axis/Echo?wsdl http://10.0.0.2:8080/axis/Echo?wsdl'\n" in text
    assert "# a_b is left out: a.b has its name already\n" in text and "BD_LOST" not in text
    nasty = seen("n", services=("Echo",), urls={"Echo": "http://10.0.0.1/$(reboot)'`x`"})
    script = env(of(nasty)) + 'printf %s "$BD_ECHO_URL"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == nasty["urls"]["Echo"]
