"""bdgateway's arguments and ends; what it answers is tested with real nodes in tests/mesh/test_gateway.py."""

import socket

import pytest

from bdserver.commands import bdgateway


@pytest.fixture
def conf(tmp_path):
    def write(text):
        path = tmp_path / "gateway.conf"
        path.write_text(text)
        return str(path)

    return write


def test_check_tries_all_and_starts_nothing(conf, capsys):
    path = conf("dns=127.0.0.1:0\n".replace(":0", f":{free()}") + f"http=127.0.0.1:{free()}\n")
    assert bdgateway.main(["--check", path]) == 0 and capsys.readouterr().out == f"{path}: ok\n"


def free():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_port_that_is_taken_may_be_free_later(conf, capsys):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.listen()
        assert bdgateway.main([conf(f"dns=\nhttp=127.0.0.1:{port}\n")]) == 1
    assert capsys.readouterr().err == f"bdgateway: 127.0.0.1:{port}: Address already in use\n"


def test_what_is_wrong_is_one_line_and_status_2(conf, capsys):
    assert bdgateway.main([conf("x=1\n")]) == 2 and "unknown key 'x'" in capsys.readouterr().err


def test_who_listens_for_others_too_is_told_so(conf, capsys):
    assert bdgateway.main(["--check", conf(f"dns=\nhttp=0.0.0.0:{free()}\n")]) == 0
    assert "others than this host can look up" in capsys.readouterr().err
