"""The short way of bdwhereis and bdctl: what it does by itself is what the long way would do, and all else it leaves to that one."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bdserver import api
from bdserver.commands import bdctl, bdwhereis, calling, short
from bdserver.core import address, messages, names, wire
from bdserver.core.messages import Status
from bdserver.core.wire import encode
from bdserver.errors import BDError
from bdserver.files import lines, settings
from bdserver.net import keys, tls
from bdserver.net.authority import Authority
from tests.unit.canned import own, seen, unvisited
from tests.unit.certificates import make_keys

ROOT = Path(__file__).parents[2]
DETAILS = {
    "url": "http://10.0.0.2:8080/axis/Echo?wsdl", "node": "beta", "service": "Echo", "phase": 1,
    "asked": [{"node": "alpha", "answer": "NO", "ms": 1}, {"node": "beta", "answer": "YES", "ms": 1.4}],
}  # fmt: skip
NONE = DETAILS | {"url": "", "node": ""}
PLACE = ["10.0.0.2", 8080, "axis", DETAILS]


class Node:
    """Behind a local socket: answers each of its callers, one after the other, with the same bytes."""

    def __init__(self, folder, said=b""):
        self.said, self.path, self.heard = said, str(folder / "node.sock"), []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            with sock:
                decoder = wire.Decoder()
                for _ in range(2):
                    while (message := decoder.next_message()) is None:
                        decoder.feed(sock.recv(4096))
                    self.heard.append(message)
                for piece in [self.said] if isinstance(self.said, bytes) else self.said:
                    sock.sendall(piece)

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    node.close()


class Left(BaseException):
    """Where the process would have ended."""


@pytest.fixture
def outcome(capsys, monkeypatch):
    """outcome(work, arguments): (status, stdout, stderr); None when the short way leaves it to the long one."""

    def left(status):
        raise Left(status)

    def outcome(work, arguments):
        monkeypatch.setattr(sys, "argv", ["bdwhereis", *arguments])
        monkeypatch.setattr(short.posix, "_exit", left)
        try:
            status = work()
        except (Left, SystemExit) as end:
            status = end.args[0]
        said = capsys.readouterr()
        if isinstance(status, float):
            assert (said.out, said.err) == ("", "")
            return None
        return status, said.out, said.err

    return outcome


@pytest.fixture
def only_short(outcome):
    return lambda *arguments: outcome(short.bdwhereis, arguments)


@pytest.fixture
def both(outcome):
    """What came out on the short way and on the long one."""
    return lambda *arguments: (outcome(short.bdwhereis, arguments), outcome(bdwhereis.main, arguments))


# --- what is said -------------------------------------------------------------------------------------------------

MANY = PLACE[:3] + [DETAILS | {"asked": DETAILS["asked"] * 40}]


@pytest.mark.parametrize(
    "said",
    [
        PLACE, [*PLACE, "and what a newer node adds"], MANY, ["CANTFIND", NONE], ["CANTFIND", NONE | {"asked": []}],
        ["ME", 80, "", DETAILS | {"url": "http://münchen.example/ß?wsdl"}],
        *(["ERROR", kind.code, "this is why"] for kind in (BDError, *BDError.__subclasses__())),
        ["ERROR", "of-a-newer-node", "two\nlines"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_a_node_answers_is_printed_as_on_the_long_way(node, both, said, options):
    node.said = encode(said)
    ours, theirs = both("--socket", node.path, *options, "Echo")
    assert ours == theirs and ours is not None
    mine, others = node.heard[:2], node.heard[2:]
    assert mine[1] == others[1] and mine[0][1].keys() == others[0][1].keys() and 9 < mine[0][1]["deadline"] <= 10
    assert mine[0][1] | {"deadline": 0} == others[0][1] | {"deadline": 0}


@pytest.mark.parametrize(
    "said",
    [
        b"", encode(PLACE)[:-1], b"\0", b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\0\0\0\2\2[]", b"\xff\xff\xff\xff\0",
        b"\0\0\0\4\1abcd", b"\0\0\0\1\0[", b"\0\0\0\3\0{}x", b"\0\0\0\3\0\xff\xff\xff", b"\0\0\0\5\0[NaN]",
        *(
            encode(said)
            for said in (
                [], {}, 7, "ME", ["PONG"], ["ERROR"], ["ERROR", 1, 2], ["CANTFIND"], ["CANTFIND", {}], ["POLICYMISMATCH", NONE],
                [], PLACE[:3], ["ME", True, "", DETAILS], [1, 80, "", DETAILS], ["ME", 80, None, DETAILS], ["ME", 80, "", []],
                *(["ME", 80, "", {key: DETAILS[key] for key in DETAILS if key != missing}] for missing in DETAILS),
                *(["ME", 80, "", DETAILS | {key: True}] for key in DETAILS),
                *(["ME", 80, "", DETAILS | {"asked": [DETAILS["asked"][0] | {key: None}]}] for key in DETAILS["asked"][0]),
                ["ME", 80, "", DETAILS | {"url": "\x01"}],
            )
        ),
    ],
)  # fmt: skip
def test_an_odd_answer_is_left_to_the_long_way(node, only_short, said):
    node.said = said
    assert only_short("--socket", node.path, "Echo") is None


def test_an_answer_may_come_in_pieces(node, both):
    data = encode(MANY)
    node.said = [data[at : at + 1] for at in range(len(data))]
    ours, theirs = both("--socket", node.path, "Echo")
    assert ours == theirs == (0, f"{DETAILS['url']}\n", "")


def test_a_node_that_says_nothing_in_time(tmp_path, only_short, monkeypatch):
    monkeypatch.setattr(short, "TIMEOUT_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        said = only_short("--socket", str(tmp_path / "s"), "Echo")
    assert said == (4, "", "bdwhereis: the time is over while waiting for an answer\n")


def test_nobody_at_the_socket_is_left_to_the_long_way(tmp_path, both):
    assert both("--socket", str(tmp_path / "none"), "Echo")[0] is None


def test_what_the_short_way_took_the_long_way_does_not_take_again(node, capsys):
    node.said = encode(PLACE)
    assert bdwhereis.main(["--socket", node.path, "--timeout", "7", "Echo"], spent=3.0) == 0
    assert 3.5 < node.heard[0][1]["deadline"] <= 4


# --- what is asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("Echo", "Ping"), ("--explain", "Echo"), ("--policy", "p", "Echo"), ("--timeout", "3", "Echo"), ("--help",), ("--version",),
        ("--json",), ("--jso", "Echo"), ("-x", "Echo"), ("--", "Echo"), ("",), (".x",), ("-x",), ('a"b',), ("ä",), ("a.bdcert",),
        ("x" * 101,), ("--socket", "Echo"), ("Echo", "--socket"), ("--socket", "", "Echo"), ("--socket=x", "Echo"),
        ("--socket", "-x", "Echo"), ("--socket", "a", "--socket", "b", "Echo"), ("--config", "none.conf", "Echo"),
        ("--keys", "k", "Echo"), ("--node", "a", "--node", "b", "Echo"),
    ],
)  # fmt: skip
def test_whatever_is_not_plain_is_left_to_the_long_way(node, monkeypatch, arguments):
    monkeypatch.setattr(short, "DEFAULT_PATH", node.path)
    monkeypatch.setattr(sys, "argv", ["bdwhereis", *arguments])
    assert isinstance(short.bdwhereis(), float) and node.heard == []


CONFIGS = [
    "", "username=alpha\n", "# a comment\n\n  USERNAME = alpha \r\nvar_dir=/v/{username}\nport=1", "socket=s.sock", "socket=/run/{username}/x",
    "var_dir=v\nsocket={var_dir}/{username}/{username}.s", "admin_password=a=b\nservice_url=http://x/{service}",
]  # fmt: skip


@pytest.mark.parametrize("text", CONFIGS)
@pytest.mark.parametrize("is_relative", [False, True])
def test_where_the_socket_is_the_config_says_as_settings_reads_it(tmp_path, monkeypatch, text, is_relative):
    path = tmp_path / "bdserverd.conf"
    path.write_text(text)
    path.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    given = path.name if is_relative else str(path)
    assert short._socket_path({"--config": given}) == settings.local_socket(given)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense", "=x", "username=", "username=a b", "username=ä", "username=-x", "username=a\nusername=a", "port=1\nport=1",
        "socket=", "socket=../x", "socket=a//b", "socket=./x", "socket=x/", "var_dir=/", "a\0=b", "ä=b", "\ufeffusername=x",
        b"x=\xff", b"x" * ((1 << 20) + 1),
    ],
)  # fmt: skip
def test_an_odd_line_is_for_settings_to_read_or_to_complain_of(tmp_path, text):
    path = tmp_path / "bdserverd.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert short._socket_path({"--config": str(path)}) is None


def test_what_is_no_file_is_for_settings_to_complain_of(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "pipe", "/x\0y"):
        assert short._socket_path({"--config": str(path)}) is None


def test_the_usual_socket_where_the_usual_config_may_not_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(short, "DEFAULT_PATH", str(tmp_path / "none.conf"))
    monkeypatch.setattr(short.posix, "environ", {})
    assert short._socket_path({}) == short.USUAL_SOCKET
    monkeypatch.setattr(short.posix, "environ", {b"BDSERVER_CONFIG": str(tmp_path / "another.conf").encode()})
    assert short._socket_path({}) is None


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        *((text, True) for text in ("10.0.0.1:9001", "10.0.0.1", "127.0.0.1:1", "255.255.255.255:65535", "0.0.0.0:80")),
        *(
            (text, False)
            for text in (
                "", ":1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:01", "10.0.0.1:+1", "10.0.0.1:x", "10.0.0.1:\u00b2",
                "[::1]:9001", "::1", "web1", "web1:80", "10.0.0:1", "10.0.0.256:1", "10.0.0.01:1", "1.2.3.4.5:1", "7:1", "10.0.0.1.:1",
                "10.0..1", "10.0.0.\u0661", "10.0.0.1:80:80", "-1.0.0.1", "1.2.3.4:" + "9" * 5000,
            )
        ),
    ],
)  # fmt: skip
def test_an_address_is_taken_only_in_its_canonical_form(text, is_plain):
    found = short._address(text)
    assert (found is not None) == is_plain
    if found is not None:
        assert found == address.split_address(text, api.PORT) and "{}:{}".format(*found) == address.join_address(*found)


def test_what_it_says_once_more_is_what_the_others_say():
    rows = {name: settings.BY_NAME[name].default for name in short.DEFAULTS}
    assert rows == short.DEFAULTS
    assert short.TIMEOUT_SECONDS == api.TIMEOUT_SECONDS and short.PORT == api.PORT
    assert (settings.DEFAULT_PATH, settings.USUAL_SOCKET) == (short.DEFAULT_PATH, short.USUAL_SOCKET)
    assert short.FILE_BYTES_MAX == lines.FILE_BYTES_MAX and short.INTERRUPTED == calling.INTERRUPTED
    assert (short.VERSION, short.OLDEST) == (wire.VERSION, wire.OLDEST) and wire.HEADER.size == short.HEADER_BYTES
    assert (short.FRAME_BYTES_MAX, short.MESSAGE_BYTES_MAX) == (wire.FRAME_BYTES_MAX, wire.MESSAGE_BYTES_MAX)
    assert short.PORT_MAX == address.PORT_MAX
    assert names.valid_name("x" * short.NAME_CHARACTERS_MAX) and all(map(names.valid_name, short._NAME_CHARACTERS - {*".-"}))


# --- over TLS -----------------------------------------------------------------------------------------------------


@pytest.fixture
def meshs(tmp_path):
    """A folder with keys of a node and of a client of a mesh, and of a stranger."""
    for mesh in ("prod", "other"):
        Authority.make(f"{tmp_path}/{mesh}", mesh)
    make_keys(tmp_path, f"{tmp_path}/prod", "web1")
    make_keys(tmp_path, f"{tmp_path}/prod", "me", role="client")
    make_keys(tmp_path, f"{tmp_path}/other", "stranger", role="client")
    return tmp_path


@pytest.fixture
def called(meshs):
    """The address of a node that answers its callers over TLS."""
    until = time.monotonic() + 60

    def serve():
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            with sock:
                try:
                    stream = tls.accept(sock, keys.load(f"{meshs}/web1", "web1"), until)
                    stream.recv(4096, until)
                    stream.send(encode(PLACE), until)
                    stream.close()
                except BDError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "{}:{}".format(*listening.getsockname())
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_one_node_over_tls(meshs, called, both):
    ours, theirs = both("--node", called, "--keys", f"{meshs}/me/me", "Echo")
    assert ours == theirs == (0, f"{DETAILS['url']}\n", "")


def test_keys_are_those_of_the_environment_where_no_others_are_named(meshs, called, both, monkeypatch):
    monkeypatch.setattr(short.posix, "environ", {b"BDSERVER_KEYS": f"{meshs}/me/me".encode()})
    assert both("--node", called, "Echo")[0] == (0, f"{DETAILS['url']}\n", "")
    monkeypatch.setattr(short.posix, "environ", {})
    assert both("--node", called, "Echo")[0] is None


def test_whoever_is_refused_goes_the_long_way_for_the_words(meshs, called, both):
    ours, theirs = both("--node", called, "--keys", f"{meshs}/stranger/stranger", "Echo")
    assert ours is None and theirs[0] == 4 and "is of mesh prod, not of our mesh other" in theirs[2]


def test_nobody_there_is_said_at_once_as_on_the_long_way(meshs, both):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        nobody = "{}:{}".format(*sock.getsockname())
    ours, theirs = both("--node", nobody, "--keys", f"{meshs}/me/me", "Echo")
    assert ours == theirs == (4, "", f"bdwhereis: {nobody}: connection refused\n")


def test_a_node_that_says_nothing_over_tls_in_time(meshs, only_short, monkeypatch):
    monkeypatch.setattr(short, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        silent = "{}:{}".format(*sock.getsockname())
        said = only_short("--node", silent, "--keys", f"{meshs}/me/me", "Echo")
    assert said == (4, "", f"bdwhereis: {silent}: did not answer in time\n")


# --- the process --------------------------------------------------------------------------------------------------


def run(*arguments, stdout=subprocess.PIPE, **environment):
    """bin/bdwhereis, as its first line has it started, by this Python."""
    command = [str(ROOT / "bin" / "bdwhereis"), *arguments]
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
                          env={**os.environ, "PATH": path, **environment})  # fmt: skip


def test_the_command_goes_the_short_way_and_the_long_one(node):
    node.said = encode(PLACE)
    done = run("--socket", node.path, "Echo")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{DETAILS['url']}\n", "")
    done = run("--socket", node.path, "--explain", "Echo")
    assert (done.returncode, done.stdout) == (0, f"{DETAILS['url']}\n") and "bdwhereis: Echo: beta in phase 1\n" in done.stderr
    assert run("--version").returncode == 0


def test_the_command_runs_by_a_link_and_where_nobody_reads_what_it_says(node, tmp_path):
    node.said = encode(PLACE)
    link = tmp_path / "whereis"
    link.symlink_to(ROOT / "bin" / "bdwhereis")
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    done = subprocess.run([link, "--socket", node.path, "Echo"], capture_output=True, text=True, check=False, timeout=60,
                          env=os.environ | {"PATH": path})  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{DETAILS['url']}\n", "")
    with open("/dev/full", "w") as full:
        done = run("--socket", node.path, "Echo", stdout=full)
    assert (done.returncode, done.stderr) == (2, "bdwhereis: standard output: No space left on device\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_whoever_wants_to_read_no_more_is_no_error(node, unbuffered):
    node.said = encode(PLACE)
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stdout:
        done = run("--socket", node.path, "Echo", stdout=stdout, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_runs_where_no_folder_of_a_script_is_trusted(node):
    node.said = encode(PLACE)
    assert run("--socket", node.path, "Echo", PYTHONSAFEPATH="1").stdout == f"{DETAILS['url']}\n"
    assert run("--version", PYTHONSAFEPATH="1").returncode == 0


def test_the_plain_case_imports_next_to_nothing(node):
    node.said = encode(PLACE)
    program = (
        "import sys; before = set(sys.modules); import posix; from bdserver.commands import short\n"
        f"posix._exit = lambda status: print(*set(sys.modules) - before); sys.argv[1:] = ['--socket', {node.path!r}, 'Echo']\n"
        "short.bdwhereis()"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r})\n{program}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert set(done.stdout.splitlines()[1].split()) <= {
        "bdserver",
        "bdserver.commands",
        "bdserver.commands.short",
        "_socket",
        "_json",
        "posix",
    }


def test_json_is_as_json_writes_it(node, both):
    node.said = encode(PLACE)
    assert json.loads(both("--socket", node.path, "--json", "Echo")[0][1]) == DETAILS


# --- bdctl --------------------------------------------------------------------------------------------------------

STATUS = messages.encoded(
    Status(own(warnings=["a warning"], lag=0.01), [seen("beta", 2), seen("alpha"), unvisited("10.0.0.3:9")])
)


@pytest.fixture
def both_ctl(outcome):
    """The same of bdctl."""
    return lambda *arguments: (outcome(short.bdctl, arguments), outcome(bdctl.main, arguments))


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("command", ["status", "nodes"])
def test_how_the_node_is_and_whom_it_knows_is_shown_as_on_the_long_way(node, both_ctl, command, options):
    node.said = encode(STATUS)
    for arguments in ([*options, command], [command, *options]):
        ours, theirs = both_ctl("--socket", node.path, *arguments)
        assert ours == theirs and ours[0] == 0 and ours[1]
    assert node.heard[1] == node.heard[3] == ["STATUS"]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_ping_is_shown_as_on_the_long_way(node, both_ctl, options):
    node.said = encode(["PONG", "digest", 7])
    ours, theirs = both_ctl("--socket", node.path, *options, "ping")
    assert [re.sub(r"[0-9]+\.[0-9]", "N", said[1]) for said in (ours, theirs)] == [re.sub(r"[0-9]+\.[0-9]", "N", ours[1])] * 2
    assert ours[0] == theirs[0] == 0 and "PONG" in ours[1] and node.heard[1] == ["PING"]


@pytest.mark.parametrize("command", ["status", "nodes", "ping"])
def test_an_error_is_said_by_bdctl_as_on_the_long_way(node, both_ctl, command):
    node.said = encode(["ERROR", "too-busy", "this is why"])
    ours, theirs = both_ctl("--socket", node.path, command)
    assert ours == theirs == (4, "", f"bdctl: {node.path}: this is why\n")


@pytest.mark.parametrize(
    "said", [["STATUS", {}, []], ["STATUS", own(), [7]], ["PONG", "digest"], ["CANTFIND"], [*STATUS, "nodes x"]]
)
def test_an_odd_status_or_one_of_several_pages_is_left_to_the_long_way(node, outcome, said):
    node.said = encode(said)
    assert outcome(short.bdctl, ["--socket", node.path, "status"]) is None


@pytest.mark.parametrize(
    "arguments",
    [(), ("services",), ("ping", "a"), ("ping", "--all"), ("status", "--socket", "x"), ("status", "nodes"), ("--help",),
     ("--node", "a", "status"), ("--keys", "a", "status"), ("--timeout", "3", "ping"), ("watch",), ("--socket", "status")],
)  # fmt: skip
def test_whatever_is_not_plain_bdctl_leaves_to_the_long_way(node, monkeypatch, arguments):
    monkeypatch.setattr(short, "DEFAULT_PATH", node.path)
    monkeypatch.setattr(sys, "argv", ["bdctl", *arguments])
    assert isinstance(short.bdctl(), float) and node.heard == []


def test_the_two_commands_start_alike():
    texts = [(ROOT / "bin" / command).read_text().replace(command, "COMMAND") for command in ("bdwhereis", "bdctl")]
    assert texts[0] == texts[1]
