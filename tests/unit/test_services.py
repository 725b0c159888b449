"""The services directory: live at once, one bad .bdcert hurts no other, removal and return are whole or not at all."""

import errno
import http.server
import os
import socket
import threading

import pytest

from bdserver import services as module
from bdserver.errors import BadService, CantFind
from bdserver.services import Services


@pytest.fixture
def here(tmp_path):
    (tmp_path / "live").mkdir()
    return Services(str(tmp_path / "live"), str(tmp_path / "graveyard"), str(tmp_path / "graveyard" / ".incoming"))


def drop(here, name, cert="weight=1\n", text="#!/bin/sh\n"):
    with open(os.path.join(here.services_dir, name), "w") as file:
        file.write(text)
    with open(os.path.join(here.services_dir, name + ".bdcert"), "w") as file:
        file.write(cert)


def test_what_is_dropped_in_is_live_at_once(here):
    assert here.all() == {}
    drop(here, "Echo", "weight=2.5\ntype=static\nhealth=tcp\nrack=7\n")
    service = here.get("Echo")
    assert (service.weight, service.type, service.health, service.extra) == (2.5, "static", "tcp", (("rack", "7"),))
    drop(here, "Echo", "weight=3\n# longer\n")
    assert here.get("Echo").weight == 3
    os.unlink(os.path.join(here.services_dir, "Echo.bdcert"))
    assert here.get("Echo") is None


def test_nothing_is_read_again_when_nothing_changed(here, monkeypatch):
    drop(here, "Echo")
    here.all()
    monkeypatch.setattr(module, "read_service", lambda *_: pytest.fail("read again"))
    assert list(here.all()) == ["Echo"]


@pytest.mark.parametrize(
    ("cert", "reason"),
    [
        ("weight=heavy\n", "Bad.bdcert:1: weight='heavy' is not a weight"),
        ("\nweight=-1\n", "Bad.bdcert:2: weight='-1' is not a weight"),
        ("weight=inf\n", "is not a weight"),
        ("weight=nan\n", "is not a weight"),
        ("type=odd\n", "Bad.bdcert:1: type='odd' is not a type"),
        ("health=ping\n", "health='ping' is not a health"),
        ("nonsense\n", "Bad.bdcert:1: not KEY=VALUE"),
        ("weight=1\0\n", "Bad.bdcert:1: a NUL byte"),
    ],
)
def test_one_bad_bdcert_is_said_with_its_line_and_hurts_no_other(here, cert, reason):
    drop(here, "Good")
    drop(here, "Bad", cert)
    assert list(here.all()) == ["Good"]
    assert len(here.complaints) == 1 and reason in here.complaints[0]
    drop(here, "Bad", "weight=1\n")
    assert sorted(here.all()) == ["Bad", "Good"] and here.complaints == []


def test_a_bdcert_without_its_file_is_no_service_unless_it_has_a_url(here):
    drop(here, "Echo")
    os.unlink(os.path.join(here.services_dir, "Echo"))
    assert here.all() == {} and "there is no Echo beside it" in here.complaints[0]
    drop(here, "Maps", "url=https://maps.example/\n")
    os.unlink(os.path.join(here.services_dir, "Maps"))
    assert here.get("Maps").path is None


@pytest.mark.parametrize("name", [".hidden", "-x", "a b", "x" * 101])
def test_odd_names_are_no_services(here, name):
    drop(here, name)
    assert here.all() == {}
    with pytest.raises(BadService):
        here.publish(None, name, 1.0, "http://there/")


def test_a_missing_folder_is_an_empty_one(tmp_path):
    assert Services(str(tmp_path / "none"), str(tmp_path / "g"), str(tmp_path / "s")).all() == {}


def publish(here, tmp_path, name="Echo", text="one"):
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / name).write_text(text)
    here.publish(str(source / name), name, 2.0)


def test_publish_withdraw_restore(here, tmp_path):
    publish(here, tmp_path)
    assert here.get("Echo").weight == 2.0
    here.withdraw("Echo")
    assert here.get("Echo") is None and here.buried() == ["Echo"]
    with pytest.raises(CantFind):
        here.withdraw("Echo")
    here.restore("Echo")
    assert here.get("Echo").weight == 2.0 and here.buried() == []
    with pytest.raises(CantFind, match="not in the graveyard"):
        here.restore("Echo")


def test_publishing_again_buries_the_old_one(here, tmp_path):
    publish(here, tmp_path, text="one")
    publish(here, tmp_path, text="two")
    assert open(here.get("Echo").path).read() == "two"
    assert open(os.path.join(here.graveyard_dir, "Echo")).read() == "one"
    with pytest.raises(BadService, match="withdraw it first"):
        here.restore("Echo")


@pytest.mark.parametrize(("weight", "health"), [(-1.0, "none"), (1e10, "none"), (float("nan"), "none"), (1.0, "odd")])
def test_publish_checks_what_it_is_given(here, weight, health):
    with pytest.raises(BadService):
        here.publish(None, "Echo", weight, "http://there/", health)


def test_installing_makes_it_dynamic_and_keeps_the_rest(here, tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / "Echo").write_text("x")
    (folder / "Echo.bdcert").write_text("weight=4\ntype=static\nrack=7\n")
    here.install(str(folder), "Echo", 1234.5)
    service = here.get("Echo")
    assert (service.type, service.weight, service.arrived_at, service.extra) == ("dynamic", 4.0, 1234.5, (("rack", "7"),))
    assert not folder.exists()


def test_nobody_ever_sees_a_bdcert_without_its_file(here, tmp_path):
    """A reader looks all the time, while services come and go."""
    stop, seen, bad = threading.Event(), [], []

    def look():
        while not stop.is_set():
            names = set(os.listdir(here.services_dir))  # one look
            seen.append(len(names))
            if "Echo.bdcert" in names and "Echo" not in names:
                bad.append(names)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(100):
        publish(here, tmp_path, text=str(number))
        here.withdraw("Echo")
    stop.set()
    reader.join()
    assert len(set(seen)) > 1 and bad == []


def test_another_file_system_is_no_obstacle(here, tmp_path, monkeypatch):
    real = os.rename

    def rename(source, target):
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(module.os, "rename", rename)
    publish(here, tmp_path)
    folder = tmp_path / "source" / "Site"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x").write_text("inside")
    here.publish(str(folder), "Site", 1.0)
    assert open(os.path.join(here.get("Site").path, "sub", "x")).read() == "inside"
    here.withdraw("Site")
    here.restore("Site")
    assert sorted(os.listdir(here.services_dir)) == ["Echo", "Echo.bdcert", "Site", "Site.bdcert"]


class _Web(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("health", "status", "is_well"),
    [("none", 500, True), ("tcp", 500, True), ("http", 200, True), ("http", 404, True), ("http", 503, False)],
)
def test_health(here, health, status, is_well):
    web = http.server.HTTPServer(("127.0.0.1", 0), _Web)
    _Web.status = status
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        drop(here, "Echo", f"health={health}\n")
        url = f"http://127.0.0.1:{web.server_port}/axis/Echo?wsdl"
        reason = here.check_health(here.get("Echo"), "127.0.0.1", web.server_port, url, 5.0)
        assert (reason is None) == is_well
        assert is_well or ("503" in reason and "\n" not in reason)
    finally:
        web.shutdown()
        web.server_close()


@pytest.mark.parametrize("health", ["tcp", "http"])
def test_nothing_listening_is_not_well(here, health):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    drop(here, "Echo", f"health={health}\n")
    reason = here.check_health(here.get("Echo"), "127.0.0.1", port, f"http://127.0.0.1:{port}/x", 5.0)
    assert "Echo is not well" in reason and "refused" in reason
