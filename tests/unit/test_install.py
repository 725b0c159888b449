"""An installation in an empty environment has everything, and the sdist is enough to make one.

Nothing is fetched: the environment borrows the packages that these tests themselves run with.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from email import message_from_string
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("bdserverd", "bdwhereis", "bdctl", "bdkeys", "bdgateway", "bddemo")
BUILD_SDIST = "from setuptools import build_meta; print(build_meta.build_sdist('.'))"
# What an environment of its own is lent: the packages of this one.
BORROWED = {**os.environ, "PYTHONPATH": sysconfig.get_paths()["purelib"], "PYTHONDONTWRITEBYTECODE": "1"}


def _run(*command, **keywords):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **keywords)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The sdist, unpacked: made in a copy, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("checkout") / "bdserver"
    unwanted = shutil.ignore_patterns(".git", ".venv", ".cache", "__pycache__", "var", "build", "*.egg-info")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    name = _run(sys.executable, "-c", BUILD_SDIST, cwd=folder).split()[-1]
    with tarfile.open(folder / name) as archive:
        archive.extractall(folder.parent / "sdist", filter="data")
    return folder.parent / "sdist" / name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def installation(sdist, tmp_path_factory):
    """The prefix of an environment that has nothing but BDserver, and what pip said when it made it."""
    prefix = tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "venv", "--without-pip", str(prefix))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(prefix / "bin" / "python")]
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
    done = subprocess.run(
        [*pip, "install", *options, str(sdist)], capture_output=True, text=True, check=False, timeout=120, env=BORROWED
    )
    assert done.returncode == 0, done.stderr
    return prefix, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(installation):
    """The prefix alone."""
    return installation[0]


def _package(prefix):
    return next(prefix.glob("lib/python3*/site-packages/bdserver"))


def _files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_pip_installs_it_without_a_word(installation):
    assert installation[1] == ""


def test_the_sdist_says_who_builds_it(sdist):
    # Without this, pip falls back on "legacy setup.py install" where the package wheel is missing, and warns.
    build = tomllib.loads((sdist / "pyproject.toml").read_text())["build-system"]
    assert build["build-backend"] == "setuptools.build_meta"


def test_callers_are_told_that_there_are_types(installed):
    assert (_package(installed) / "py.typed").exists()


def test_every_file_of_the_package_is_installed(installed):
    assert _files(_package(installed)) == _files(ROOT / "bdserver")


def test_executables_among_them_stay_executable(installed):
    for path in _files(ROOT / "bdserver"):
        wanted = os.access(ROOT / "bdserver" / path, os.X_OK)
        assert os.access(_package(installed) / path, os.X_OK) == wanted, path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_installed_and_starts(installed, command, tmp_path):
    said = _run(str(installed / "bin" / command), "--help", cwd=tmp_path, env=BORROWED)
    assert said.startswith(f"usage: {command}")


@pytest.mark.parametrize("command", ["bdwhereis", "bdctl"])
def test_a_command_that_starts_quickly_starts_the_python_of_its_environment_without_site(installed, command, tmp_path):
    """Also by a link, and where another Python comes first on the way."""
    (tmp_path / "python3").write_text("#!/bin/sh\necho another Python\n")
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "a link").symlink_to(installed / "bin" / command)
    tell = "import sys; from bdserver.commands import short; import posix\n"
    tell += "print(sys.flags.no_site, sys.executable, short.__file__); posix._exit(0)\n"
    text = (installed / "bin" / command).read_text()
    (installed / "bin" / "telling").write_text(text.replace("try:\n", f"{tell}try:\n"))
    (installed / "bin" / "telling").chmod(0o755)
    (tmp_path / "telling").symlink_to(installed / "bin" / "telling")
    path = f"{tmp_path}:{os.environ['PATH']}"
    for way in (installed / "bin" / "telling", tmp_path / "telling"):
        said = _run(str(way), cwd=tmp_path, env={**BORROWED, "PATH": path}).split()
        assert said == ["1", str(installed / "bin" / "python"), str(_package(installed) / "commands" / "short.py")]
    assert _run(str(tmp_path / "a link"), "--version", env={**BORROWED, "PATH": path}).startswith(command)


def test_the_commands_run_what_was_installed(installed, tmp_path):
    said = _run(str(installed / "bin" / "python"), "-c", "import bdserver; print(bdserver.__file__)", cwd=tmp_path)
    assert said.strip() == str(_package(installed) / "__init__.py")


def test_samples_and_man_pages_are_installed(installed):
    share = installed / "share"
    for folder in ("etc", "cgi-bin"):
        assert _files(share / "bdserver" / folder) == _files(ROOT / folder)
    pages = {f"man{path.suffix[1:]}/{path.name}" for path in (ROOT / "docs" / "man").iterdir()}
    assert _files(share / "man") == pages
    assert pages


# --- what is required ---------------------------------------------------------------------------------------------


def _requirements(sdist):
    """name -> lower bound, of what an installation brings along."""
    [metadata] = sdist.glob("*.egg-info/PKG-INFO")
    lines = message_from_string(metadata.read_text()).get_all("Requires-Dist")
    return dict(re.fullmatch(r"([\w.-]+)>=([\d.]+)", line.lower()).groups() for line in lines)


def _imported():
    """Top-level modules that the package imports, wherever it does."""
    for path in (ROOT / "bdserver").rglob("*.py"):
        for statement in ast.walk(ast.parse(path.read_text())):
            if isinstance(statement, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in statement.names)
            elif isinstance(statement, ast.ImportFrom):
                yield statement.module.partition(".")[0]


def test_what_the_package_imports_is_required_and_nothing_else(sdist):
    foreign = set(_imported()) - sys.stdlib_module_names - {"bdserver"}
    distributions = packages_distributions()
    assert {distributions[name][0].lower() for name in foreign} == _requirements(sdist).keys()


def test_what_is_required_is_pinned_at_or_above_its_bound(sdist):
    def number(version):
        return tuple(map(int, version.split(".")))

    lines = (ROOT / ".ci" / "requirements.txt").read_text().lower().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for name, bound in _requirements(sdist).items():
        assert number(pinned[name]) >= number(bound), name
