"""A mesh of real daemons for each test that asks for one; nothing of it is left afterwards."""

import os

import pytest

from tests.hosts import Mesh


@pytest.fixture
def mesh(tmp_path):
    """An empty mesh: the test adds hosts. Afterwards no process, socket or pid file of it is left."""
    with Mesh(str(tmp_path)) as mesh:
        yield mesh
        mesh.stop()
        left = [
            path for host in mesh.hosts for path in (host.socket, host.socket.replace(".sock", ".pid")) if os.path.exists(path)
        ]
        killed = [host for host in mesh.hosts if host.process and host.process.returncode not in (0, None)]
        assert not left or killed, f"left behind: {left}"
