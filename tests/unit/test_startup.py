"""What is tried before the start: limits, ids, folders, keys, ports, locks; what is waited for, and what is not."""

import os
import pwd
import re
import resource
import shutil
import socket
import threading

import pytest

from bdserver.errors import BadConfig, NotYet
from bdserver.files.settings import load
from bdserver.net.authority import Authority
from bdserver.processes import startup
from bdserver.processes.reload import read_anew
from tests.hosts import Mesh

as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")


@pytest.fixture
def host(tmp_path):
    """A host with keys and a config, never started."""
    return Mesh(str(tmp_path)).host("alpha", log_file="")


@pytest.fixture
def prepare():
    """A start, let go of afterwards; and what was said."""
    starts = []

    def run(host, say=lambda text: None, **arguments):
        starts.append(startup.prepare(host.config_path, arguments.get("ws_policy", ""), arguments.get("black_list", ""), say))
        return starts[-1]

    yield run
    for start in starts:
        start.sockets.close()
        start.sockets.remove()
        for claim in start.claims:
            claim.remove()


def test_a_start_has_all_that_it_needs(host, prepare):
    start = prepare(host)
    assert (start.node.name, start.owner) == ("alpha", (os.geteuid(), os.getegid()))
    assert len(start.sockets.now()) == 2 and all(claim.fileno() > 0 for claim in start.claims)
    for folder in ("services", "graveyard", "log", "run"):
        assert os.path.isdir(os.path.join(host.folder, "var", folder))


def test_a_check_leaves_nothing_claimed(host, prepare):
    assert startup.check(host.config_path).name == "alpha"
    assert not os.path.exists(host.socket)
    prepare(host)


def test_files_named_on_the_command_line_are_found_from_everywhere(host, prepare, tmp_path, monkeypatch):
    (tmp_path / "black").write_text("192.0.2.1\n")
    monkeypatch.chdir(tmp_path)
    start = prepare(host, black_list="black")
    monkeypatch.chdir("/")
    assert read_anew(start.node) == [] and start.node.is_black_listed("192.0.2.1")


# --- a second one -------------------------------------------------------------------------------------------------


def refusal(attempt):
    try:
        attempt()
    except BadConfig as error:
        return str(error)
    return "none"


def test_a_second_daemon_on_one_cache_is_refused_whatever_its_pid_file_and_port(host, prepare, tmp_path):
    prepare(host)
    claim = startup.claims(load(host.config_path))[1]
    with open(claim.path, "w") as file:
        file.write("4711\n")
    other = tmp_path / "alpha" / "other.conf"
    shutil.copy(host.config_path, other)
    with open(other, "a") as file:
        file.write(f"pid_file={tmp_path}/other.pid\nsocket={tmp_path}/other.sock\n")
    text = other.read_text().replace(f"port={host.port}", f"port={host.port + 1}")
    other.write_text(text)
    for attempt in (lambda: startup.prepare(str(other), "", "", print), lambda: startup.check(str(other))):
        said = refusal(attempt)
        assert f"{claim.path}: this cache is used already by a bdserverd with another pid_file, as process 4711" in said
    assert not os.path.exists(tmp_path / "other.pid")


# --- what passes by itself ----------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_waited_for_and_said_once(host, prepare, monkeypatch):
    monkeypatch.setattr(startup, "RETRY_SECONDS", 0.02)
    said, has_said = [], threading.Event()

    def say(text):
        said.append(text)
        has_said.set()

    taken = socket.create_server(("127.0.0.1", host.port))

    def free_it():
        has_said.wait(10)
        threading.Timer(0.1, taken.close).start()

    threading.Thread(target=free_it).start()
    assert len(prepare(host, say).sockets.now()) == 2
    [line] = said
    assert f"port={host.port} can't be had on 127.0.0.1: Address already in use" in line and "waiting for it, 60 s" in line


def test_a_port_that_stays_taken_is_given_up_and_nothing_stays_claimed(host, monkeypatch):
    monkeypatch.setattr(startup, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(startup, "WAIT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", host.port)), pytest.raises(NotYet, match="Address already in use"):
        startup.prepare(host.config_path, "", "", lambda text: None)
    assert not os.path.exists(host.socket.replace(".sock", ".pid"))
    assert not os.path.exists(os.path.join(host.folder, "var", "alpha.lock"))


def test_what_a_person_must_mend_is_not_waited_for(host):
    host.write_config(socket="/proc/no.sock")
    said = []
    with pytest.raises(BadConfig):
        startup.prepare(host.config_path, "", "", said.append)
    assert said == []


def test_a_check_waits_for_nothing(host):
    with socket.create_server(("127.0.0.1", host.port)), pytest.raises(NotYet, match="Address already in use"):
        startup.check(host.config_path)


# --- limits and ids -----------------------------------------------------------------------------------------------


@pytest.fixture
def limits():
    """The soft limit of open files, put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("children", "needed"), [(32, 512 + 64 + 64), (568, 640), (569, 641), (900, 900 + 8 + 64)])
def test_the_soft_limit_of_open_files_is_raised_to_what_children_or_other_nodes_take(host, limits, children, needed):
    host.write_config(max_children=children, max_children_per_address=8)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))  # of which other tests may have left some open
    startup.allow_descriptors(load(host.config_path))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (needed, limits[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed + 1, limits[1]))
    startup.allow_descriptors(load(host.config_path))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (needed + 1, limits[1])  # enough is left as it is


@as_root
@pytest.mark.parametrize(
    ("children", "words"),
    [
        (
            900,
            "max_children=900 takes 972 open files, and 200 are allowed: raise the limit (ulimit -n, systemd's LimitNOFILE), or",
        ),
        (300, "talking with up to 512 other nodes takes 640 open files, and 200 are allowed: raise the limit (ulimit -n, sys"),
    ],
)
def test_more_than_may_be_open_is_refused_with_a_line(host, children, words):
    host.write_config(max_children=children)
    settings = load(host.config_path)

    def refused():
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 250))
        return refusal(lambda: startup.allow_descriptors(settings))

    [said] = startup.asked_as((12345, 12345), lambda: [refused()])
    assert words in said and (", or lower max_children" in said) == (children == 900)


@pytest.mark.parametrize(("key", "word"), [("user", "user"), ("group", "group")])
def test_a_user_or_group_that_is_not_there_is_named(host, key, word):
    host.write_config(**{key: "nobody-at-all"})
    with pytest.raises(BadConfig, match=f"{key}=nobody-at-all: there is no such {word} on this host"):
        startup.user_ids(load(host.config_path))


@as_root
def test_root_becomes_the_user_and_the_users_group_unless_another_is_named(host):
    account = pwd.getpwnam("www-data")
    host.write_config(user="www-data")
    assert startup.user_ids(load(host.config_path)) == (account.pw_uid, account.pw_gid)
    host.write_config(group="daemon")
    assert startup.user_ids(load(host.config_path)) == (account.pw_uid, 1)


@as_root
def test_who_is_not_root_stays_what_it_is(host):
    host.write_config(user="www-data")
    settings = load(host.config_path)
    assert startup.asked_as((12345, 12346), lambda: [str(startup.user_ids(settings))]) == ["(12345, 12346)"]


# --- as the daemon's user -----------------------------------------------------------------------------------------


@pytest.fixture
def shared(host, shared_path):
    """The host, all of its files www-data's."""
    host.write_config(user="www-data", revoked="revoked")
    with open(os.path.join(host.folder, "revoked"), "w"):
        pass
    for folder, _, names in os.walk(host.folder):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            shutil.chown(path, "www-data", "www-data")
    return host


@as_root
def test_a_check_asks_as_the_daemons_user(shared):
    assert startup.check(shared.config_path).name == "alpha"


@as_root
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("alpha.key", "alpha.key: user www-data must be able to read it: Permission denied"),
        ("revoked", "revoked: user www-data must be able to read it: Permission denied"),
        ("bdserverd.conf", "bdserverd.conf: user www-data must be able to read it: Permission denied"),
        ("var/services", "the folder .*/var/services is not writable for user www-data"),
    ],
)
def test_what_that_user_may_not_use_is_named(shared, name, words):
    path = os.path.join(shared.folder, name)
    os.chown(path, 0, 0)
    os.chmod(path, 0o700 if os.path.isdir(path) else 0o600)
    with pytest.raises(BadConfig, match=f"^[^\n]*{words}$"):
        startup.check(shared.config_path)


@as_root
def test_a_signers_key_that_the_daemon_may_not_read_is_named_before_it_is_to_be_read(shared):
    """As it lies there when root has copied it from where the CA is."""
    Authority.load(shared.mesh.authority).make_signer(shared.folder, "alpha")
    startup.check(shared.config_path)
    shared.write_config(signer="yes")
    shutil.chown(shared.config_path, "www-data")
    with pytest.raises(BadConfig, match="alpha.signer.key: user www-data must be able to read it: Permission denied"):
        startup.check(shared.config_path)
    shutil.chown(f"{shared.folder}/alpha.signer.key", "www-data")
    startup.check(shared.config_path)


@as_root
@pytest.mark.parametrize("is_there", [False, True])
def test_a_log_file_that_user_may_not_write_is_named(shared, tmp_path, is_there):
    (tmp_path / "logs").mkdir()
    if is_there:
        (tmp_path / "logs" / "log").touch()
    shared.write_config(log_file=tmp_path / "logs" / "log")
    shutil.chown(shared.config_path, "www-data")
    with pytest.raises(BadConfig, match=f"log_file={tmp_path}/logs/log is not writable for user www-data"):
        startup.check(shared.config_path)
    shutil.chown(tmp_path / "logs" / ("log" if is_there else ""), "www-data")
    startup.check(shared.config_path)
    assert (tmp_path / "logs" / "log").exists() == is_there  # it was not made


@as_root
def test_all_that_is_wrong_is_told_at_once(shared):
    for name in ("alpha.key", "revoked"):
        os.chown(os.path.join(shared.folder, name), 0, 0)
        os.chmod(os.path.join(shared.folder, name), 0o600)
    with pytest.raises(BadConfig) as caught:
        startup.check(shared.config_path)
    assert len(str(caught.value).splitlines()) == 2


@as_root
def test_whoever_cannot_become_that_user_is_told():
    def asked():
        return startup.asked_as((12346, 12346), lambda: ["never"])

    assert startup.asked_as((12345, 12345), asked) == ["can't become user 12346 and group 12346"]


@pytest.mark.parametrize("name", startup.LISTS)
def test_a_list_that_is_not_there_is_told_with_the_line_that_names_it(host, name):
    host.write_config(**{name: "/nowhere/list"})
    with open(host.config_path) as file:
        number = 1 + [line.partition("=")[0] for line in file].index(name)
    with pytest.raises(BadConfig) as caught:
        startup.check(host.config_path)
    assert str(caught.value) == f"{host.config_path}:{number}: {name}=/nowhere/list: No such file or directory"


def test_a_check_says_what_would_keep_the_start_from_its_files(host, tmp_path):
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    host.write_config(socket=tmp_path / "passwd", pid_file=tmp_path / "passwd", log_file=tmp_path)
    with pytest.raises(BadConfig) as caught:
        startup.check(host.config_path)
    assert [line.removeprefix(f"{host.config_path}: ") for line in str(caught.value).splitlines()] == [
        f"socket={tmp_path}/passwd: is there, and is no socket: it is not removed",
        f"pid_file={tmp_path}/passwd: is there, and is no file with a process's number: it is not written over",
        f"log_file={tmp_path} is a folder",
    ]


@as_root
def test_in_the_foreground_nobody_needs_the_log_file(shared, prepare, tmp_path):
    shared.write_config(log_file=tmp_path / "nowhere" / "log")
    shutil.chown(shared.config_path, "www-data")
    with pytest.raises(BadConfig, match="log_file="):
        startup.prepare(shared.config_path, "", "", print, is_background=True)
    prepare(shared)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"log_file": "{here}"}, "log_file={here} is a folder"),
        ({"socket": "{here}/" + "x" * 120}, "bytes, and the path of a socket has 107 at most"),
        ({"services_dir": "{here}/file"}, "{here}/file is to be a folder, and is a file"),
        ({"services_dir": "{here}/link"}, "{here}/link is to be a folder, and is a link to nowhere, which is not there"),
    ],
)
def test_what_is_in_the_place_of_something_else_is_named_by_a_check(host, tmp_path, settings, words):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    host.write_config(**{key: value.format(here=tmp_path) for key, value in settings.items()})
    with pytest.raises(BadConfig, match=re.escape(words.format(here=tmp_path))):
        startup.check(host.config_path)
