"""One node that all hostile tests attack in turn: after each of them it must still be well."""

import pytest

from tests.hosts import Mesh


@pytest.fixture(scope="session")
def target(tmp_path_factory):
    """A mesh of one running node, with keys for every role."""
    with Mesh(str(tmp_path_factory.mktemp("hostile"))) as mesh:
        (host,) = mesh.start(1, idle_timeout=2, admin_password="open sesame")
        host.add_service("Echo")
        for role in ("node", "client", "admin"):
            mesh.issue(f"a-{role}", role=role, folder=f"{mesh.folder}/{role}")
        yield host


@pytest.fixture(autouse=True)
def it_is_still_well(target):
    """No attack leaves the node unable to answer, or a bug's traceback in its log."""
    yield
    assert target.ask(["PING"])[0] == "PONG"
    assert target.lookup("Echo")[0] == "ME"
    assert "Traceback" not in target.log, target.log[-3000:]
