"""Each Python that is promised and can be had here: installed by pip into an environment of its own, a node runs and is well."""

import glob
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.hosts import free_port, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMISED = ("3.11", "3.12", "3.13")


def interpreter(version):
    """On PATH, or of pyenv; None when it is not here."""
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = sorted(glob.glob(f"{root}/versions/{version}.*/bin/python{version}"))
    return found[-1] if found else shutil.which(f"python{version}")


HERE = [version for version in PROMISED if interpreter(version)] or [f"{sys.version_info[0]}.{sys.version_info[1]}"]


@pytest.mark.parametrize("version", HERE)
def test_a_node_runs_under_each_python_that_is_promised(version, tmp_path):
    python, venv = interpreter(version) or sys.executable, tmp_path / "venv"
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", ".cache", "tests", "build", "dist")
    )
    subprocess.run([python, "-m", "venv", venv], check=True, timeout=120)
    installed = [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", source]
    subprocess.run(installed, check=True, timeout=300)

    def run(command, *words, status=0):
        line = [venv / "bin" / command, *words]
        environment = {"PATH": os.environ["PATH"], "BDSERVER_CONFIG": str(config)}
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=tmp_path)
        assert done.returncode == status and "Warning" not in done.stderr, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout

    keys, config = tmp_path / "keys", tmp_path / "keys" / "bdserverd.conf"
    run("bdkeys", "init", tmp_path / "ca", "--mesh", "home")
    run("bdkeys", "issue", tmp_path / "ca", "alpha", "--host", "127.0.0.1", "--out", keys)
    settings = {"port": free_port(), "axis_port": free_port(), "username": "alpha", "bind": "127.0.0.1", "web": "embedded"}
    config.write_text("".join(f"{key}={value}\n" for key, value in {**settings, "log_file": "log"}.items()))
    (tmp_path / "hello").write_text("hello\n")
    run("bdserverd", config)
    try:
        run("bdctl", "publish", "hello")
        url = run("bdwhereis", "hello").strip()
        assert url == f"http://127.0.0.1:{settings['axis_port']}/axis/hello?wsdl"
        assert (
            f"Python {version}"
            in subprocess.run([venv / "bin" / "python", "-V"], capture_output=True, text=True, check=True).stdout
        )
        until(lambda: run("bdctl", "--json", "status").count('"warnings": []') == 1, 20, "it is well")
        said = subprocess.run(
            [venv / "bin" / "bdctl", "--config", config, "doctor"], capture_output=True, text=True, check=False
        )
        assert "Traceback" not in said.stdout + said.stderr and said.stdout.splitlines()[-1].count("(") == 1
    finally:
        run("bdctl", "leave")
    until(lambda: not (keys / "var" / "run" / "alpha.pid").exists(), 20, "it has ended")
