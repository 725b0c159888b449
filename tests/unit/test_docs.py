"""What the documents say exists, and what exists is in the documents."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bdserver.commands import bdctl, bddemo, bdgateway, bdkeys, bdserverd, bdwhereis
from bdserver.files import settings
from bdserver.gateway import config as gateway_config
from docs.made import generate

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MAN_PAGES = sorted(ROOT.glob("docs/man/*"))
COMMANDS = {
    "bdctl": bdctl,
    "bddemo": bddemo,
    "bdgateway": bdgateway,
    "bdkeys": bdkeys,
    "bdserverd": bdserverd,
    "bdwhereis": bdwhereis,
}


def _id(path):
    return str(path.relative_to(ROOT))


def test_make_generate_leaves_no_diff(monkeypatch):
    monkeypatch.delenv("BDSERVER_CONFIG", raising=False)
    assert list(generate.outdated()) == []


def test_whoever_adds_a_request_is_told_of_the_modules_that_there_are():
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("the module of its kind (")[2].partition(")")[0]
    assert set(re.findall(r"`(\w+)`", text)) == {
        path.stem for path in (ROOT / "bdserver/processes/answers").glob("*.py") if path.stem != "__init__"
    }


def test_every_file_of_a_node_stands_in_its_man_page_and_in_the_picture_of_the_architecture():
    suffixes = re.findall(r'beside_the_cache\("(\.\w+)"\)', (ROOT / "bdserver/processes/nodefiles.py").read_text())
    man_page, picture = (ROOT / "docs/man/bdserverd.8").read_text(), (ROOT / "docs/ARCHITECTURE.md").read_text()
    assert len(suffixes) >= 7
    assert [each for each in suffixes if f"USERNAME{each}" not in man_page or f"USERNAME{each}" not in picture] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_man_page_and_stands_in_the_readme(command):
    assert [path for path in MAN_PAGES if path.stem == command and path.suffix in (".1", ".8")]
    assert command in (ROOT / "README.md").read_text()


def _links():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" not in target:
                yield pytest.param(page, target, id=f"{_id(page)}-{target}")


def _anchors(page):
    """As the usual renderers make them from headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(("page", "target"), list(_links()))
def test_no_link_is_dead(page, target):
    path, _, anchor = target.partition("#")
    linked = (page.parent / path).resolve() if path else page
    assert linked.exists()
    assert not anchor or anchor in _anchors(linked)


def _command_lines():
    """Each line in a block of code that begins with one of our commands."""
    for page in PAGES:
        for block in re.findall(r"^```.*?^```|(?:^    .*\n)+", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                match = re.match(r"\s*(?:[\w@-]+\$ |\$ |sudo )*(?:\S*/)?(bd\w+)( .*)?$", line)
                if match and match[1] in COMMANDS:
                    yield pytest.param(match[1], match[2] or "", id=f"{_id(page)}-{line.strip()}")


@pytest.mark.parametrize(("command", "rest"), list(_command_lines()))
def test_every_command_line_in_the_documents_is_one_that_the_command_takes(command, rest):
    words = shlex.split(re.split(r"[|>;&]", rest)[0], comments=True)
    COMMANDS[command]._parser().parse_args(words)


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_every_setting_shown_with_a_value_exists(page):
    shown = re.findall(r"(?:^|`|\n)([a-z]+(?:_[a-z]+)+)=", page.read_text())
    assert [name for name in shown if name not in settings.BY_NAME | gateway_config.BY_NAME] == []


def test_every_test_that_the_documents_name_exists():
    named = {(page, *each) for page in PAGES for each in re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", page.read_text())}
    assert len([name for _, _, name in named if name]) > 50  # of the table in SECURITY.md
    for page, path, name in named:
        assert (ROOT / path).exists(), f"{_id(page)} names {path}"
        found = not name or re.search(rf"^ *def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
        assert found, f"{_id(page)} names {path}::{name}"


@pytest.mark.parametrize("page", MAN_PAGES, ids=_id)
def test_the_man_pages_are_without_fault(page):
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", page], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0
