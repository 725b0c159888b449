"""Fixtures: the config of a node, and the folder of its keys, as bdkeys and an administrator leave it."""

import pytest

from bdserver.net.authority import Authority
from tests.unit.certificates import make_keys


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A node's folder as bdkeys and an administrator leave it."""
    folder = str(tmp_path_factory.mktemp("node"))
    Authority.make(f"{folder}/ca", "mesh")
    make_keys(folder, f"{folder}/ca", "me", "10.0.0.1")
    make_keys(folder, f"{folder}/ca", "joe", role="client")
    make_keys(folder, f"{folder}/ca", "other", "10.0.0.2")
    return folder


@pytest.fixture
def config(tmp_path, folder):
    """Writes the config, and returns its path."""

    def write(**settings):
        given = {"username": "me", "key_dir": f"{folder}/me", "var_dir": str(tmp_path), "receiver_threshold": 7} | settings
        (tmp_path / "conf").write_text("".join(f"{key}={value}\n" for key, value in given.items()))
        return str(tmp_path / "conf")

    return write
