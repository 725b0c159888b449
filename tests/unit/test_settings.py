"""The config: from KEY=VALUE to values and complaints, and what is made from the table."""

import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from bdserver.errors import BadConfig
from bdserver.files import lines, pairs
from bdserver.files import settings as module
from bdserver.files.password import hash_password
from bdserver.files.settings import BY_NAME, SETTINGS, AppliedBy, Settings, default_path, load, place_of, sample

ROOT = Path(__file__).resolve().parents[2]
THE_ORIGINALS = [
    "port",
    "username",
    "services_dir",
    "graveyard_dir",
    "receiver_threshold",
    "axis_port",
    "axis_web_dir",
    "admin_password",
    "service_log_dir",
    "backlog",
    "max_dynamic",
]
HEAVY = "OpenSSL ssl filelock daemon dataclasses logging typing argparse asyncio pathlib hashlib socket ipaddress difflib"


@pytest.fixture
def config(tmp_path):
    """Writes a config and gives its path."""

    def write(text, mode=0o600):
        path = tmp_path / "bdserverd.conf"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return str(path)

    return write


def complaints_of(path):
    with pytest.raises(BadConfig) as caught:
        load(path)
    assert caught.value.exit == 2
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


# --- values -------------------------------------------------------------------------------------------------------


def test_an_empty_config_is_the_originals_defaults_below_its_own_folder(config, tmp_path):
    loaded = load(config(""))
    assert (loaded.port, loaded.username, loaded.receiver_threshold, loaded.axis_port) == (9001, "bdserver", 100.0, 8080)
    assert (loaded.axis_web_dir, loaded.backlog, loaded.max_dynamic, loaded.admin_password) == ("axis", 128, 5, "")
    assert loaded.path == str(tmp_path / "bdserverd.conf") and loaded.folder == loaded.key_dir == str(tmp_path)
    assert loaded.services_dir == str(tmp_path / "var" / "services")
    assert loaded.socket == str(tmp_path / "var" / "run" / "bdserver.sock")
    assert loaded.ws_policy == loaded.black_list == loaded.log_file == ""


def test_all_keys_of_the_original_are_here():
    assert [name for name in THE_ORIGINALS if name not in BY_NAME] == []


def test_values_keep_their_case_and_their_equals_signs_and_keys_do_not_care(config):
    loaded = load(config("# a comment\n\n  AXIS_Web_Dir = My/Dir=a#b \nadmin_password=a=b c\n"))
    assert loaded.axis_web_dir == "My/Dir=a#b"
    assert loaded.admin_password == "a=b c"


def test_a_byte_order_mark_and_dos_line_ends_do_no_harm(config):
    loaded = load(config(b"\xef\xbb\xbfport=9002\r\nusername=n1\r\n"))
    assert (loaded.port, loaded.username) == (9002, "n1")


def test_paths_begin_at_the_configs_folder_and_follow_var_dir_and_username(config, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    path = config("var_dir=v/{username}\nusername=n1\nkey_dir=/keys\nlog_file={var_dir}/log.txt\nws_policy=../p.xml\n")
    loaded = load(os.path.relpath(path, "/"))
    assert loaded.var_dir == str(tmp_path / "v" / "n1")
    assert loaded.socket == str(tmp_path / "v" / "n1" / "run" / "n1.sock")
    assert loaded.log_file == str(tmp_path / "v" / "n1" / "log.txt")
    assert (loaded.key_dir, loaded.ws_policy) == ("/keys", str(tmp_path.parent / "p.xml"))


def test_addresses_come_in_canonical_form(config):
    loaded = load(config("hints=A.example:9001, [::1]:5  192.0.2.1:7\nbind=[::1] 127.0.0.1\nadvertise=2001:DB8::1\n"))
    assert loaded.hints == ("a.example:9001", "[::1]:5", "192.0.2.1:7")
    assert loaded.bind == ("::1", "127.0.0.1")
    assert loaded.advertise == "2001:db8::1"
    assert load(config("advertise=[2001:DB8::1]:80\n")).advertise == "[2001:db8::1]:80"


@pytest.mark.parametrize(
    ("key", "least", "below"),
    [("port", 1, 0), ("axis_port", 1, 0), ("backlog", 1, 0), ("max_children", 1, 0), ("max_dynamic", 0, -1)]
    + [("package_files_max", 0, -1), ("hit_log_bytes", 0, -1)],
)
def test_the_least_that_a_whole_number_may_be(config, key, least, below):
    assert getattr(load(config(f"{key}={least}")), key) == least
    assert complaints_of(config(f"{key}={below}")) == [f"1: {key}='{below}' must be {BY_NAME[key].kind.words}"]


@pytest.mark.parametrize(
    ("key", "most", "above"),
    [("gossip_port", "65535", "65536"), ("max_children", "100000", "100001"), ("socket_mode", "0777", "1000")]
    + [("idle_timeout", "86400", "86400.1"), ("receiver_threshold", "1e12", "1.1e12"), ("username", "n" * 100, "n" * 101)],
)
def test_the_most_that_a_value_may_be(config, key, most, above):
    load(config(f"{key}={most}"))
    assert len(complaints_of(config(f"{key}={above}"))) == 1


@pytest.mark.parametrize(
    ("key", "text"),
    [("port", each) for each in ("", "x", "1_0", "٣", "9001 # mine", "1.0", "0x10", "0" * 5000 + "1", "+1")]
    + [("receiver_threshold", each) for each in ("0", "-1", "nan", "inf", "1e999", "1_0", "١", "", "1,5")]
    + [("socket_mode", each) for each in ("0o666", "rw", "8", "-1", "6_6", "")]
    + [("username", each) for each in ("", "../x", "a b", ".a", "a.bdcert")]
    + [("log_level", "loud"), ("policy_mode", "Lax-ish"), ("hints", "a:"), ("hints", "a:1 b/c"), ("bind", "a b/c")]
    + [("advertise", "a:b"), ("services_dir", ""), ("socket", ""), ("user", "a b"), ("axis_web_dir", "a b")]
    + [("service_url", each) for each in ("nowhere", "http://{hots}/", "http://{host}/{", "http://{host}/ x")],
)
def test_a_wrong_value_is_shown_with_what_it_must_be(config, key, text):
    (said,) = complaints_of(config(f"\n{key}={text}\n"))
    assert said.startswith(f"2: {key}={text[:60]!r} must be {BY_NAME[key].kind.words}")


@pytest.mark.parametrize(("key", "text"), [
    ("axis_web_dir", "x" * 501), ("service_url", "http://h/" + "x" * 2000), ("admin_password", "a\x07b")])  # fmt: skip
def test_what_others_would_not_take_in_or_nobody_can_print_is_refused(config, key, text):
    (said,) = complaints_of(config(f"{key}={text}\n"))
    assert key in said


def test_an_account_that_may_not_read_the_usual_config_finds_the_usual_socket(monkeypatch, tmp_path):
    usual = tmp_path / "bdserver.sock"
    monkeypatch.setattr(module, "DEFAULT_PATH", str(tmp_path / "no.conf"))
    monkeypatch.setattr(module, "USUAL_SOCKET", str(usual))
    with pytest.raises(BadConfig, match="this host is no node yet: bdkeys join; --node HOST asks another"):
        module.local_socket(module.DEFAULT_PATH)
    usual.touch()
    assert module.local_socket(module.DEFAULT_PATH) == str(usual)


def test_while_the_node_runs_a_wrong_line_keeps_nobody_from_its_socket(config, tmp_path):
    path = config(b"username=a\nprot=1\nvar_dir=v\n")
    with pytest.raises(BadConfig, match="unknown key 'prot'"):
        module.local_socket(path)
    there = tmp_path / "v/run/a.sock"
    there.parent.mkdir(parents=True)
    there.touch()
    assert module.local_socket(path) == str(there)
    with pytest.raises(BadConfig, match="username"):
        module.local_socket(config(b"username=a b\nvar_dir=v\n"))


def test_each_complaint_has_its_line_and_none_hides_another(config):
    said = complaints_of(config(b"prot=1\nport=2\nPORT=3\nnonsense\nmax_dynamic=\xff\nbacklog=0\nport=\0\n=5\n"))
    assert said == [
        "1: unknown key 'prot' (did you mean port?)",
        "3: port was set in line 2 already",
        "4: not KEY=VALUE: 'nonsense'",
        "5: not UTF-8 text",
        "6: backlog='0' must be a whole number from 1 to 65535",
        "7: a NUL byte",
        "8: not KEY=VALUE: '=5'",
    ]


def test_a_key_like_no_other_is_just_unknown(config):
    assert complaints_of(config("zzzzzz=1")) == ["1: unknown key 'zzzzzz'"]


def test_a_node_that_requires_signatures_needs_publishers(config):
    assert load(config("require_signed=yes\npublishers=p")).publishers.endswith("/p")
    [complaint] = complaints_of(config("port=1\nrequire_signed=yes"))
    assert complaint == "2: require_signed=yes, and no publishers are set whose signatures would count"


@pytest.mark.parametrize(
    ("axis_port", "words"),
    [(9101, "port"), (9102, "gossip_port"), (9103, "")],
)
def test_the_embedded_web_server_has_a_port_of_its_own(config, axis_port, words):
    text = f"port=9101\nweb=embedded\naxis_port={axis_port}"
    if words:
        assert complaints_of(config(text)) == [f"3: axis_port={axis_port}: is {words}, and web=embedded needs one of its own"]
        text = text.replace("embedded", "none")  # another web server may be on another address
    assert load(config(text)).axis_port == axis_port


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        ("graveyard_dir=s", "graveyard_dir"),
        ("graveyard_dir=s/old", "graveyard_dir"),
        ("service_log_dir=s", "service_log_dir"),
        ("var_dir=s/var", "var_dir"),
        ("key_dir=s/keys", "key_dir"),
        ("graveyard_dir=s/.old", ""),
        ("key_dir=.", ""),
        ("graveyard_dir=s2", ""),
    ],
)
def test_what_must_not_be_served_lies_elsewhere(config, folders, name):
    path = config(f"services_dir=s\n{folders}")
    if not name:
        assert load(path).services_dir.endswith("/s")
        return
    [said] = complaints_of(path)
    assert said.startswith("2: services_dir=") and f": {name}=" in said and said.endswith(" lies there, and would be served")


def test_a_hint_without_a_port_means_the_usual_one_as_it_does_in_commands(config):
    assert load(config("hints=10.0.0.1 b:7, [::1]\nport=5")).hints == ("10.0.0.1:9001", "b:7", "[::1]:9001")


def test_the_place_of_a_setting_is_its_line_or_the_file(config):
    found = load(config("port=1\nws_policy=p"))
    assert place_of(found, "ws_policy") == f"{found.path}:2" and place_of(found, "revoked") == found.path


def test_rounds_can_not_be_shorter_than_their_shortest_pause(config):
    assert load(config("round_min=30")).round_min == 30
    assert complaints_of(config("port=1\nround_min=31")) == ["2: round_min=31 is above round_max=30"]


@pytest.mark.parametrize(
    "text", ["port=9000\ngossip_port=9000", "port=9000\ngossip_port=9001", "port=65535", "gossip_port=65535"]
)
def test_news_needs_a_port_of_its_own(config, text):
    if text in ("port=9000\ngossip_port=9001", "gossip_port=65535"):
        assert load(config(text)).gossip_port
    else:
        [complaint] = complaints_of(config(text))
        assert "gossip_port must be another port than port=" in complaint


@pytest.mark.parametrize("text", ["port=9000\naxis_port=9000", "port=9000\naxis_port=9001", "gossip_port=77\naxis_port=77"])
def test_our_own_web_server_needs_a_port_of_its_own(config, text):
    [complaint] = complaints_of(config(f"{text}\nweb=embedded"))
    assert complaint.endswith("port, and web=embedded needs one of its own")
    assert load(config(text)).axis_port, "another one listens on an address of its own, perhaps"


# --- the password -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_config_with_a_password_that_others_can_read_is_refused(config, mode):
    (said,) = complaints_of(config("port=1\nadmin_password=secret\n", mode))
    assert said.startswith("2: others can read") and "chmod 600" in said and "secret" not in said
    assert load(config("admin_password=secret", 0o600)).admin_password == "secret"
    assert load(config("admin_password=", mode)).admin_password == ""


def test_half_a_password_hash_is_a_complaint_that_does_not_show_it(config):
    whole = hash_password("a")
    assert load(config(f"admin_password={whole}")).admin_password == whole
    (said,) = complaints_of(config(f"admin_password={whole[:-1]}"))
    assert said == "1: admin_password must be a text, or a whole hash as bdctl password prints it"


# --- the file -----------------------------------------------------------------------------------------------------


def test_a_config_that_is_not_there_or_is_no_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, reason in [("none", "No such file"), ("", "not a regular file"), ("pipe", "not a regular file")]:
        with pytest.raises(BadConfig, match=f"^{tmp_path / path}.?: {reason}[^\n]*$"):
            load(str(tmp_path / path))
    with pytest.raises(BadConfig, match="no file can have this name"):
        load("a\0b")


def test_a_file_is_read_up_to_its_limit_and_no_further(config):
    largest = "#" * (lines.FILE_BYTES_MAX - 10) + "\nport=9002"
    assert load(config(largest)).port == 9002
    with pytest.raises(BadConfig, match="larger than"):
        load(config(largest + " "))


def test_the_environment_names_the_default_config(monkeypatch):
    monkeypatch.setenv("BDSERVER_CONFIG", "/x/y.conf")
    assert default_path() == "/x/y.conf"
    monkeypatch.setenv("BDSERVER_CONFIG", "")
    assert default_path() == "/etc/bdserver/bdserverd.conf"


# --- reloading ----------------------------------------------------------------------------------------------------


def test_a_reload_takes_what_may_change_and_leaves_the_rest(config):
    old = load(config("port=1\nreceiver_threshold=5\nmax_dynamic=1\nhints=a:1\n"))
    new = old.with_reloadable(load(config("port=2\nreceiver_threshold=6\nlog_level=debug\nvar_dir=elsewhere\n")))
    assert (new.port, new.var_dir) == (1, old.var_dir)
    assert (new.receiver_threshold, new.log_level) == (6.0, "debug")
    assert (new.max_dynamic, new.hints) == (5, ()), "what the new file leaves out is at its default again"
    assert new.kept_against(load(config("port=2\nreceiver_threshold=7\n"))) == ["port"]
    assert (old.receiver_threshold, old.max_dynamic) == (5.0, 1), "those in force are replaced, not changed"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_that_sighup_changes_has_somebody_who_applies_it(config, setting):
    assert isinstance(setting.applied_by, AppliedBy) and setting.reloadable == (setting.applied_by != "")


def test_settings_are_never_changed(config):
    loaded = load(config("port=1\n"))
    with pytest.raises(AttributeError, match="port: settings are replaced, never changed"):
        loaded.port = 2
    with pytest.raises(AttributeError, match="never changed"):
        del loaded.port
    with pytest.raises(TypeError):
        loaded.given["port"] = 2
    assert loaded.port == 1


# --- names and types ----------------------------------------------------------------------------------------------

_HINTS = typing.get_type_hints(Settings, localns={"Mapping": typing.Mapping, "Any": typing.Any})
TYPES = {name: kind for name, kind in _HINTS.items() if name not in ("path", "folder", "given")}


def test_the_class_names_the_settings_of_the_table_in_its_order():
    assert list(TYPES) == [each.name for each in SETTINGS]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_settings_value_is_of_the_type_that_the_class_says(config, setting):
    kind = TYPES[setting.name]
    assert type(setting.default) is (typing.get_origin(kind) or kind)
    assert type(getattr(load(config("")), setting.name)) is type(setting.default)


@pytest.mark.long
def test_a_misspelt_setting_is_an_error_here_and_in_mypy(config, tmp_path):
    with pytest.raises(AttributeError):
        load(config("")).max_dynamics  # noqa: B018
    (tmp_path / "wrong.py").write_text(
        "from bdserver.files.settings import load\nload('x').max_dynamics\nload('x').port.lower()\nload('x').port + 1\n"
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--ignore-missing-imports",
        "--cache-dir",
        str(tmp_path / "cache"),
        "--follow-imports=silent",
    ]
    done = subprocess.run([*command, str(tmp_path / "wrong.py")], capture_output=True, text=True, cwd=ROOT)
    errors = [line.partition("wrong.py:")[2] for line in done.stdout.splitlines() if " error: " in line]
    assert [error.split(":")[0] for error in errors] == ["2", "3"], done.stdout + done.stderr
    assert "max_dynamics" in errors[0] and "lower" in errors[1]


# --- made from the table ------------------------------------------------------------------------------------------

FULL = """\
port=1
username=n.1
bind=[::1] 127.0.0.1
hints=a:1 [::1]:2
advertise=[::1]:9
receiver_threshold=1234567.5
socket_mode=0600
idle_timeout=0.1
service_url=https://{host}/{axis_web_dir}/{service}
admin_password=a = b
ws_policy=p.xml
user=nobody
log_level=ERROR
"""


def effective(loaded):
    """All settings as a config."""
    return "".join(f"{each.name}={each.kind.write(getattr(loaded, each.name))}\n" for each in SETTINGS)


@pytest.mark.parametrize("text", ["", FULL])
def test_the_effective_config_loads_to_the_same_values(config, text):
    first = load(config(text))
    again = load(config(effective(first)))
    assert {each.name: getattr(again, each.name) for each in SETTINGS} == {
        each.name: getattr(first, each.name) for each in SETTINGS
    }
    assert effective(again) == effective(first)


def test_the_sample_is_the_defaults_commented_out_and_in(config):
    defaults = effective(load(config("")))
    assert effective(load(config(sample()))) == defaults
    uncommented = "\n".join(line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in sample().splitlines())
    assert [key for _, key, _ in pairs.read(config(uncommented))] == [each.name for each in SETTINGS]
    assert effective(load(config(uncommented))) == defaults


def test_the_sample_file_is_made_from_the_table():
    assert (ROOT / "etc" / "bdserverd.conf.sample").read_text() == sample(), "make generate"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_explained_in_a_sentence(setting):
    assert setting.meaning[0].isupper() and setting.meaning.endswith(".")
    assert len(f"# {setting.meaning} SIGHUP changes it.") <= 110
    assert setting.kind.words


def test_reading_a_config_costs_bdwhereis_no_heavy_import(config):
    path = config("port=9002\nlog_level=debug\n")
    script = (
        "import sys; before = set(sys.modules); from bdserver.files.settings import load; load(sys.argv[1])\n"
        f"print(*sorted(set({HEAVY!r}.split()) & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
