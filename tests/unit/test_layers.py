"""Who may import whom (docs/ARCHITECTURE.md), read off the imports themselves."""

import ast
import pathlib
import subprocess
import sys

PACKAGE = pathlib.Path(__file__).parents[2] / "bdserver"
WORLD = {
    "os",
    "socket",
    "time",
    "random",
    "subprocess",
    "pathlib",
    "tempfile",
    "logging",
    "OpenSSL",
    "filelock",
    "daemon",
    "select",
}
FILES = ("accesslog", "settings", "cache", "heard", "hitlog", "journal", "revocation", "package", "services", "password")
NET = ("openssl", "tls", "client", "notify")
PROCESSES = ("node", "connections", "health", "answers", "listener", "discoverer")
FACES = ("commands", "audit", "demo")


def imports(module):
    for statement in ast.walk(ast.parse(module.read_text())):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert not statement.level, f"{module.name}: write imports in full, or this test is blind"
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def ours(module):
    """First names below bdserver of what a module imports."""
    return {name.split(".")[1] for name in imports(module) if name.startswith("bdserver.")} - {"__version__"}


def test_core_touches_nothing_outside_itself():
    seen = 0
    for module in PACKAGE.glob("core/*.py"):
        for name in imports(module):
            first, *rest = name.split(".")
            # random.Random is handed in, and named in annotations only
            assert first not in WORLD or name == "random.Random", f"{module.name} imports {name}"
            assert first != "bdserver" or rest[0] in ("core", "errors"), f"{module.name} imports {name}"
            seen += 1
    assert seen > 50


def test_random_numbers_come_into_core_as_an_argument():
    for module in PACKAGE.glob("core/*.py"):
        assert "Random()" not in module.read_text(), module.name


def test_files_know_neither_the_net_nor_processes():
    for name in FILES:
        assert not ours(PACKAGE / f"{name}.py") & {*NET, *PROCESSES, *FACES}, name


def test_the_net_knows_neither_files_nor_processes():
    for name in NET:
        assert not ours(PACKAGE / f"{name}.py") & {*FILES, *PROCESSES, *FACES}, name


def test_the_listener_can_be_tested_with_a_function_that_echoes():
    assert not ours(PACKAGE / "listener.py")


def test_nobody_imports_a_face():
    for module in PACKAGE.glob("*.py"):
        assert not ours(module) & set(FACES), module.name


def test_a_local_bdwhereis_imports_nothing_heavy():
    program = "import sys, bdserver.commands.bdwhereis; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    heavy = {"OpenSSL", "ssl", "cryptography", "filelock", "daemon", "dataclasses", "logging", "asyncio", "typing", "ipaddress"}
    assert not heavy & set(done.stdout.split())
