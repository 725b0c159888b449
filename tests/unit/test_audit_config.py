"""audit.conf: what it may say, and what is said when it may not be read."""

import os
import shutil
import tempfile

import pytest

from bdserver.audit import config
from bdserver.errors import BadConfig

NOBODY = 65534


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / "audit.conf"

    def write(text):
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("BDSERVER_AUDIT_CONFIG", raising=False)


def test_without_a_file_all_is_default(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "DEFAULT_PATH", str(tmp_path / "audit.conf"))
    loaded = config.load()
    assert loaded.socket == "/run/bdserver/bdserver.sock" and loaded.nodes == () and loaded.crawl_seconds == 3.0


def test_paths_begin_at_the_files_folder(conf, tmp_path):
    loaded = config.load(conf("socket=run/x.sock\nkeys=keys/web\nwhereis_policy=/p.xml\n"))
    assert (loaded.socket, loaded.keys, loaded.whereis_policy) == (f"{tmp_path}/run/x.sock", f"{tmp_path}/keys/web", "/p.xml")


def test_the_environment_names_another_file(conf, monkeypatch):
    monkeypatch.setenv("BDSERVER_AUDIT_CONFIG", conf("crawl_seconds=7\n"))
    assert config.load().crawl_seconds == 7.0


def test_another_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(BadConfig, match=r"none\.conf: No such file or directory"):
        config.load(str(tmp_path / "none.conf"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("socket=\n", "there is nobody to ask"),
        ("nodes=10.0.0.1:9001\n", "set keys to DIR/NAME"),
        ("sockets=/x\n", r":1: unknown key 'sockets' \(did you mean socket\?\)"),
        ("\ncrawl_seconds=0\n", ":2: crawl_seconds='0' must be a number of seconds"),
    ],
)
def test_what_is_wrong_is_one_line_each(conf, text, complaint):
    with pytest.raises(BadConfig, match=complaint) as error:
        config.load(conf(text))
    assert str(error.value).count("\n") == 0


def test_the_local_socket_is_tried_before_the_nodes(conf, monkeypatch):
    monkeypatch.setattr("bdserver.net.keys.load_named", lambda path: f"keys at {path}")
    entrances, credentials = config.entrances_of(config.load(conf("nodes=10.0.0.1:9001 10.0.0.2:9001\nkeys=/k/web\n")))
    assert len(entrances) == 3 and credentials == "keys at /k/web"
    entrances, credentials = config.entrances_of(config.load(conf("")))
    assert len(entrances) == 1 and credentials is None


# --- permissions --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder():
    """A folder that others may enter, as pytest's own are not."""
    folder = tempfile.mkdtemp(prefix="audit-conf-")
    os.chmod(folder, 0o755)
    yield folder
    os.chmod(folder, 0o755)
    shutil.rmtree(folder)


def as_another_user(work):
    """What `work()` returns or complains of, in a process that root's permissions do not help."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            said = str(work())
        except BadConfig as error:
            said = f"{type(error.__cause__).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def test_a_file_that_may_not_be_read_is_said_with_what_to_do(folder):
    path = os.path.join(folder, "audit.conf")
    with open(path, "w"):
        pass
    os.chmod(path, 0)
    said = as_another_user(lambda: config.load(path))
    assert said.startswith(f"PermissionError: may not read {path} as ") and f"chmod 644 {path}" in said and "\n" not in said


def test_a_folder_that_may_not_be_entered_is_no_missing_file(folder, monkeypatch):
    path = os.path.join(folder, "audit.conf")
    monkeypatch.setattr(config, "DEFAULT_PATH", path)
    os.chmod(folder, 0)
    said = as_another_user(config.load)
    assert said.startswith(f"PermissionError: may not read {path} as ") and f"chmod 755 {folder}" in said


def test_in_a_closed_folder_there_may_be_no_file_where_the_usual_socket_is_there(folder, monkeypatch):
    monkeypatch.setattr(config, "DEFAULT_PATH", os.path.join(folder, "audit.conf"))
    setting = config.BY_NAME["socket"]
    socket = os.path.dirname(folder)  # is there
    monkeypatch.setattr(config, "SETTINGS", tuple(s._replace(default=socket) if s is setting else s for s in config.SETTINGS))
    os.chmod(folder, 0)
    assert as_another_user(lambda: config.load().socket) == socket


def test_a_user_without_a_name_is_told_by_its_number(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999)
    assert config._account() == "uid 3999999"
