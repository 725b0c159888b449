"""Who may import whom (docs/ARCHITECTURE.md), read off the imports themselves: a layer is a folder.

`complaints` reads a package, wherever it lies; so the second half of this file plants a module that breaks each rule, and sees
it fail.
"""

import ast
import os
import pathlib
import shutil
import subprocess
import sys
from functools import cache

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "bdserver"

# What each folder may import of ours, beside itself; "." are the modules at the top. Whatever is missing here is no layer.
MAY_IMPORT = {
    ".": set(),
    "core": {"."},
    "files": {".", "core"},
    "net": {".", "core"},
    "processes": {".", "core", "files", "net"},
    "audit": {".", "core", "files", "net"},
    "demo": {".", "core", "files", "net"},
    "gateway": {".", "core", "files", "net", "audit"},  # and so does it
    "doctor": {".", "core", "files", "net", "processes"},
    "commands": {".", "core", "files", "net", "processes", "doctor", "audit", "demo", "gateway"},
}
# The Python API stands at the top, where people look for it, and is built on what the commands are.
EXCEPT = {("api", "core"), ("api", "files"), ("api", "net")}
# The listener knows what it runs by its types alone, so it is tested with a function that echoes; and its parts know nothing of
# ours at all. What each of them may import of ours, all in all:
PARTS = ("children", "forked", "loop", "signals", "supervised")
LONERS = {"processes/listener": {f"bdserver.processes.{part}" for part in PARTS}} | {
    f"processes/{part}": set() for part in PARTS
}
# What core, which decides, never touches; random.Random is handed in, and named in annotations only.
WORLD = {"os", "io", "pathlib", "tempfile", "shutil", "time", "random", "socket", "select", "selectors", "subprocess", "signal",
         "threading", "logging", "OpenSSL", "cryptography", "filelock", "daemon"}  # fmt: skip


@cache  # each plant is a copy of the whole package: what did not change is read once
def imports(text):
    """The names that a module of this text imports, at its top or in a function, whole."""
    found = []
    for statement in ast.walk(ast.parse(text)):
        if isinstance(statement, ast.Import):
            found += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            dots = "." * statement.level
            found += [f"{dots}{statement.module or ''}.{alias.name}" for alias in statement.names]
    return found


def layer_of(package, name):
    """Where a name that begins with `bdserver.` lives; "." for what stands at the top."""
    first = name.split(".")[1]
    return first if (package / first).is_dir() else "."


def circles(package):
    """The modules that import each other, be it by way of others, at their top, in a function or for a type checker alone; a
    line for each circle. A package is its __init__, which what lies in it does not import by being there."""
    files = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    left = {
        module: {name if name in files else name.rpartition(".")[0] for name in imports(path.read_text())} & files.keys()
        for module, path in files.items()
    }
    while True:  # what nobody imports, or what imports nobody, is in no circle
        imported = set().union(*left.values()) if left else set()
        ends = {module for module, others in left.items() if not others or module not in imported}
        if not ends:
            break
        left = {module: others - ends for module, others in left.items() if module not in ends}
    return [f"{module} and {', '.join(sorted(others))} stand in a circle" for module, others in sorted(left.items())]


def complaints(package):
    """One line for each import that breaks a rule, and for each module that is in no layer."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        module, layer = "/".join(parts), parts[0] if len(parts) > 1 else "."
        if layer not in MAY_IMPORT:
            found.append(f"{module} is in no layer")
            continue
        for name in imports(path.read_text()):
            if name.startswith("."):
                found.append(f"{module} imports {name}: write imports in full, or this test is blind")
            elif layer == "core" and name.split(".")[0] in WORLD and name != "random.Random":
                found.append(f"{module} imports {name}: core touches nothing")
            elif name == "bdserver" or name.startswith("bdserver."):
                target = layer_of(package, name) if name != "bdserver" else "."
                if module in LONERS:
                    if not any(name == each or name.startswith(f"{each}.") for each in LONERS[module]):
                        found.append(f"{module} imports {name}: it stands alone")
                elif not (target == layer or target in MAY_IMPORT[layer] or (module, target) in EXCEPT):
                    found.append(f"{module} imports {name}: {layer} may not import {target}")
        if layer == "core" and "Random()" in path.read_text():
            found.append(f"{module} makes dice of its own")
    return found


def test_every_module_is_in_a_layer_and_imports_only_what_lies_below_it():
    assert complaints(PACKAGE) == []


PLANTED = {
    "utils.py": ("import socket\nfrom bdserver.processes import node\n", "utils imports bdserver.processes.node"),
    "helpers/__init__.py": ("", "helpers/__init__ is in no layer"),
    "core/clock.py": ("import time\n", "core/clock imports time: core touches nothing"),
    "core/reader.py": ("from bdserver.files import cache\n", "core may not import files"),
    "core/dice.py": ("from random import Random\nRNG = Random()\n", "core/dice makes dice of its own"),
    "core/gossip/late.py": ("def f():\n    import logging\n", "core/gossip/late imports logging: core touches nothing"),
    "files/upward.py": ("from bdserver.processes.node import Node\n", "files may not import processes"),
    "files/sideways.py": ("from bdserver.net import tls\n", "files may not import net"),
    "net/sideways.py": ("from bdserver.files import settings\n", "net may not import files"),
    "net/climber.py": ("def f():\n    from bdserver.processes import node\n", "net may not import processes"),
    "processes/face.py": ("import bdserver.commands.bdctl\n", "processes may not import commands"),
    "demo/face.py": ("from bdserver.commands import bdkeys\n", "demo may not import commands"),
    "audit/face.py": ("from bdserver.demo import hosts\n", "audit may not import demo"),
    "processes/listener.py": ("from bdserver.processes import node\n", "processes/listener imports bdserver.processes.node"),
    "processes/children.py": (
        "from bdserver.processes.listener import Listener\n",
        "processes/children imports bdserver.processes.listener.Listener: it stands alone",
    ),
    "net/relative.py": ("from . import tls\n", "write imports in full"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_module_that_breaks_a_rule_is_found(tmp_path, name):
    package = tmp_path / "bdserver"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    text, complaint = PLANTED[name]
    planted = package / name
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(text)
    assert any(complaint in line for line in complaints(package)), complaints(package)


def test_the_architecture_s_table_names_every_module_that_it_has_a_row_for():
    text = (PACKAGE.parent / "docs" / "ARCHITECTURE.md").read_text()
    rows = {layer: "".join(line for line in text.splitlines() if line.startswith(f"| {layer} ")) for layer in ("1", "2", "3")}
    for layer, folders in (("1", ("core",)), ("2", ("files", "net")), ("3", ("processes",))):
        for folder in folders:
            for path in (PACKAGE / folder).rglob("*.py"):
                assert path.stem == "__init__" or f"`{path.stem}`" in rows[layer], path


def test_no_module_stands_in_a_circle_of_imports():
    assert circles(PACKAGE) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("processes/world.py", "if TYPE_CHECKING:\n    from bdserver.processes.node import Node\n"),
        ("core/names.py", "def f():\n    from bdserver.core import exchange\n"),
    ],
)
def test_a_circle_is_found_however_it_is_closed(tmp_path, name, text):
    package = tmp_path / "bdserver"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    with open(package / name, "a") as file:
        file.write(text)
    module = "bdserver." + name.removesuffix(".py").replace("/", ".")
    assert any(f"{module} and " in line for line in circles(package))


def imported_by(command, *options):
    program = f"import sys, bdserver.commands.{command}; print(*sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it would import more
    done = subprocess.run(
        [sys.executable, *options, "-c", program],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        env=environment,
        check=True,
    )
    return set(done.stdout.split())


def test_no_command_of_bdctl_pays_for_what_another_one_needs():
    modules = {f"bdserver.commands.ctl.{path.stem}" for path in (PACKAGE / "commands" / "ctl").glob("*.py")}
    topics = {f"bdserver.commands.ctl.{name}" for name in ("nodes", "services", "access", "subcommand")}
    loaded = imported_by("bdctl", "-S")
    assert loaded & modules == topics
    assert not loaded & {"OpenSSL", "cryptography", "tarfile", "getpass", "bdserver.files.minisign", "bdserver.net.tls"}


def test_a_local_bdwhereis_imports_nothing_heavy():
    heavy = {"OpenSSL", "ssl", "cryptography", "filelock", "daemon", "dataclasses", "logging", "asyncio", "typing", "ipaddress"}
    # -S: no package of others, and nothing that a .pth file of theirs imports
    assert not heavy & imported_by("bdwhereis", "-S")


# What a node's processes need seldom, or not at all: each is milliseconds at every start, and pages in every process.
SELDOM = {"asyncio", "concurrent.futures", "ctypes", "email.message", "filelock", "html", "http", "mimetypes", "multiprocessing",
          "pathlib", "socketserver", "statistics", "subprocess", "tarfile", "xml.etree"}  # fmt: skip


def test_a_node_starts_without_what_it_seldom_needs():
    imported = imported_by("daemonising")
    assert not SELDOM & imported and "bdserver.processes.discoverer" in imported


def test_named_tuples_are_those_of_core_tuples_which_cost_a_start_less():
    found = {path for path in PACKAGE.rglob("*.py") if "typing.NamedTuple" in imports(path.read_text())}
    alone = {PACKAGE / "processes" / "listener.py", PACKAGE / "processes" / "children.py"}
    assert found == {PACKAGE / "core" / "tuples.py", *alone}  # which only a type checker sees there


def late_imports(text):
    """The names that a module imports in its functions, whole."""
    functions = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.FunctionDef)]
    return {name for each in functions for name in imports(ast.unparse(each))}


def test_what_a_node_imports_late_is_imported_before_it_becomes_a_user_who_may_not_read_it():
    program = "import sys; from bdserver.commands import daemonising; print(*sys.modules); print(*daemonising.LATE)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    at_start, late = (set(line.split()) for line in done.stdout.splitlines())
    files = [PACKAGE.parent / (name.replace(".", "/") + ".py") for name in at_start if name.startswith("bdserver.")]
    found = {name for path in files if path.exists() for name in late_imports(path.read_text())}

    def is_there(name, among):
        return bool({name, name.rpartition(".")[0]} & among)

    parents = {each.rpartition(".")[0] for each in late}
    missing = {name for name in found if not is_there(name, at_start) and not is_there(name, late | parents)}
    # Which the web server's process imports before it becomes another user.
    assert missing == {"bdserver.net.container.Container"}
    assert not late & at_start
