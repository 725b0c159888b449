"""URLs: what may travel as one, for services and for templates of them."""

import pytest

from bdserver import errors
from bdserver.core.urls import URL_CHARACTERS_MAX, is_part, is_url


@pytest.mark.parametrize(
    "url",
    [
        "http://h", "https://10.0.0.1:8443/x?y=z#a", "http://[::1]:80/x", "ftp://h_1.example./x", "http://user@h/x", "http://h/é;x=(1)",
        "http://{host}:{axis_port}/{axis_web_dir}/{service}?wsdl", "http://h/" + "x" * (URL_CHARACTERS_MAX - 9),
    ],
)  # fmt: skip
def test_a_url_has_a_scheme_and_a_host_and_stays_one_word(url):
    assert is_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "h:80", "//h/x", "http://", "http:///x", "http://h:0/", "http://h:99999/", "http://h:x/", "http://[x/", "http://[::1;x]/",
        "http://a b/", "http://a;return 200;/", "http://a{b}/", "http://bücher.example/", "http://1.2.3.999/", "http://h/a b", "http://h/\n",
        "http://h/\t", "http://h\t/", "http://h/\x1b[2J", "http://h/\u202e", "http://h/\x7f", 'http://h/"', "http://h/<", "http://h/>",
        "http://h/\\", "http://h/\0", "http://h/" + "x" * (URL_CHARACTERS_MAX - 8),
    ],
)  # fmt: skip
def test_what_a_shell_a_terminal_or_a_balancer_would_read_otherwise_is_none(url):
    assert not is_url(url)


def test_a_part_is_one_word_that_is_all_to_be_seen():
    assert is_part("") and is_part("axis/services") and is_part("é")
    assert not any(map(is_part, ("a b", "a\nb", "\x1b", '"', "<", ">", "\\", "\u202e")))


def test_what_another_node_says_went_wrong_is_one_line_of_some_length():
    error = errors.from_wire("too-busy", "come\nlater\x1b[31m " + "x" * 60_000)
    assert isinstance(error, errors.TooBusy) and str(error).startswith("come?later?[31m x") and len(str(error)) == 1000
    assert str(errors.from_wire("of-a-newer-version", "no")) == "no"
