"""The black list: addresses in any spelling, and no names."""

import pytest

from bdserver.errors import BadConfig
from bdserver.files.blacklist import BlackList


def test_addresses_with_comments_in_any_spelling(tmp_path):
    (tmp_path / "black").write_text(
        "# nobody from here\n127.0.0.9\n2001:DB8::1 # nor from there\n[::ffff:192.0.2.1]\nfe80::1%eth0\n"
    )
    black = BlackList(str(tmp_path / "black"))
    assert all(host in black for host in ("127.0.0.9", "2001:db8::1", "192.0.2.1", "fe80::1%eth0"))
    assert "127.0.0.1" not in black and "" not in black and len(black) == 4


def test_without_a_list_nobody_is_in_it():
    assert "127.0.0.1" not in BlackList("") and not BlackList("")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("127.0.0.1\nevil.example\n", "black:2: 'evil.example' is a name: only addresses can be kept out"),
        ("localhost", "black:1: 'localhost' is a name"),
        ("10.0.0.0/8", "black:1: '10.0.0.0/8' is no HOST:PORT"),
        ("1.2.3", "black:1: '1.2.3' is no HOST:PORT"),
        (b"\n\xff", "black:2: not UTF-8 text"),
        (None, "black: No such file or directory"),
    ],
)
def test_what_keeps_nobody_out_is_refused_with_its_line(tmp_path, content, reason):
    path = tmp_path / "black"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadConfig) as caught:
        BlackList(str(path))
    assert str(caught.value).startswith(f"{tmp_path}/{reason}")
