"""For all unit tests: what they write need not survive a power cut, and a disk would be waited for 15,000 times. And fixtures
that more than one of them uses."""

import gc
import os
import socket

import pytest


@pytest.fixture(autouse=True, scope="session")
def nothing_waits_for_the_disk():
    """Whether, and in which order, something is synced is asked by tests that put functions of their own into these places."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        patch.setattr(os, "fdatasync", lambda file: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_open():
    """Nobody closes a node, which ends with its process: so hundreds of descriptors of nodes that were given up would wait for
    whoever comes next in ours, and counts its own."""
    yield
    gc.collect()


@pytest.fixture
def listening():
    """A socket to which one can connect."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def gateway_conf(tmp_path):
    """write(TEXT) makes a gateway.conf and returns its path."""

    def write(text):
        path = tmp_path / "gateway.conf"
        path.write_text(text)
        return str(path)

    return write
