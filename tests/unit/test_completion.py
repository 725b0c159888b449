"""Bash completion, by bash itself."""

import pathlib
import shutil
import subprocess

import pytest

FILE = pathlib.Path(__file__).parents[2] / "etc" / "bdserver.bash-completion"
# What bdctl would say of a node that is not there while these tests run.
FAKE = r"""
bdctl() {
    case "$*" in
        *services) echo '{"Echo": [], "Primes": []}' ;;
        *nodes) echo '[{"name": "alpha", "address": "10.0.0.1:9001"}, {"name": null, "address": "10.0.0.2:9001"}]' ;;
    esac
}
"""


def complete(*words):
    """What is offered for the last word."""
    program = (
        f'{FAKE}\nsource "{FILE}"\nCOMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n_bdserver\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", program, "bash", *words], capture_output=True, text=True, check=True, cwd=FILE.parent)
    return done.stdout.split()


pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("bdctl", "gr"), ["graveyard"]),
        (("/opt/bin/bdctl", "--json", "dr"), ["drain"]),
        (("bdctl", "drain", "--"), ["--help", "--json", "--off", "--wait"]),
        (("bdctl", "withdraw", "P"), ["Primes"]),
        (("bdctl", "forget", "a"), ["alpha"]),
        (("bdctl", "export", "h"), ["haproxy", "hosts"]),
        (("bdwhereis", "E"), ["Echo"]),
        (("bdwhereis", "--node", "10.0.0.2"), ["10.0.0.2:9001"]),
        (("bdkeys", "issue", "/tmp/x", "name", "--role", "a"), ["admin"]),
        (("bdctl", "publish", "--health", "t"), ["tcp"]),
        (("bdserverd", "--ch"), ["--check"]),
        (("bdserverd", "--check", "audit.conf"), ["audit.conf.sample"]),
        (("bdctl", "nonsense", "x"), []),
    ],
)
def test_what_may_stand_next_is_offered(words, offered):
    assert complete(*words) == offered
