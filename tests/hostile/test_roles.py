"""Who may ask what: every request by every role, over TLS and the local socket."""

import time

import pytest

from bdserver.core.messages import REQUESTS
from bdserver.errors import BDError, Forbidden, NoSuchCommand
from bdserver.net import dialling, keys

# A harmless body for each request: what is tested is whether it is refused for the role, not what it does. One that takes no
# arguments needs no row here.
BODIES = {name: [] for name, row in REQUESTS.items() if all(each.optional for each in row.arguments)} | {
    "PING": [], "STATUS": [], "GIVEYOURSERVICES": [], "WHEREIS": ["Echo", None], "SYNCHRONIZE": [{"digest": "x"}],
    "PROBE": ["127.0.0.1:1"], "WILLYOUEXECUTE": ["Echo"], "YOUWILLEXECUTE": ["Echo"], "SPENT": [{"Echo": 0}], "WILLYOUREPLICATE": ["Echo"],
    "GIVESERVICE": ["Echo"], "FIND": ["Nothing", [], 0], "MASSMESSAGE": [{"self": []}, [], ["WILLYOUEXECUTE", "Echo"]],
    "HINT": ["127.0.0.1:1"], "FORGET": ["nobody"], "PUBLISH": ["Map", {"bytes": 0, "sha256": "", "url": "http://127.0.0.1/"}],
    "WITHDRAW": ["Nothing"], "GRAVEYARD": [], "RESTORE": ["Nothing"], "ADOPT": ["Nothing"],
    "TEND": [["Nothing"]], "RETIRE": ["Nothing", "why"], "PLACE": ["Nothing", "nobody"], "DRAIN": [False],
    "INVITE": [{}], "UNINVITE": ["ab"], "STATEMENT": ["Nothing"], "SIGN": ["Nothing", "x"], "RENEW": ["x"], "REVOKE": [{}], "ROLL": [{}], "LEAVE": None, "KILL": ["wrong"],
}  # fmt: skip


def said(target, role, request):
    """The error's code, or "fine"."""
    credentials = keys.load(f"{target.mesh.folder}/{role}", f"a-{role}")
    deadline = time.monotonic() + 10
    with dialling.dial(target.address, credentials, deadline) as talk:
        try:
            talk.ask(request, deadline)
        except BDError as error:
            return error.code
    return "fine"


def test_the_matrix_has_every_request():
    assert BODIES.keys() == REQUESTS.keys()


@pytest.mark.parametrize("command", [name for name, body in BODIES.items() if body is not None and name != "KILL"])
@pytest.mark.parametrize("role", ["client", "node", "admin"])
def test_a_request_is_for_its_roles_alone(target, role, command):
    code = said(target, role, [command, *BODIES[command]])
    assert (code == "forbidden") == (role not in REQUESTS[command].roles), code


def test_news_is_not_for_the_port_of_callers_and_all_else_not_for_the_port_of_news(target):
    credentials = keys.load(f"{target.mesh.folder}/node", "a-node")
    deadline = time.monotonic() + 10
    for address, request, other in (
        (target.address, ["SYNCHRONIZE", {}], target.gossip_address),
        (target.gossip_address, ["STATUS"], target.address),
    ):
        with (
            dialling.dial(address, credentials, deadline) as talk,
            pytest.raises(NoSuchCommand, match=f"{request[0]} is answered at {other}$"),
        ):
            talk.ask(request, deadline)


@pytest.mark.parametrize("role", ["client", "node"])
def test_leave_is_for_an_admin(target, role):
    assert said(target, role, ["LEAVE"]) == "forbidden"


@pytest.mark.parametrize("role", ["client", "node"])
@pytest.mark.parametrize("body", [[], ["wrong"], [""]])
def test_kill_needs_the_password(target, role, body):
    assert said(target, role, ["KILL", *body]) == "forbidden"


def test_the_refusal_names_the_role_needed_and_the_role_held(target):
    credentials = keys.load(f"{target.mesh.folder}/client", "a-client")
    deadline = time.monotonic() + 10
    with (
        dialling.dial(target.address, credentials, deadline) as talk,
        pytest.raises(Forbidden, match="HINT needs the role admin, and the caller's is client"),
    ):
        talk.ask(["HINT", "127.0.0.1:1"], deadline)


def test_a_certificate_of_another_mesh_is_refused(target, tmp_path):
    from tests.hosts import Mesh

    stranger = Mesh(str(tmp_path), "strangers")
    credentials = keys.load(stranger.issue("a-node", folder=str(tmp_path / "keys")), "a-node")
    deadline = time.monotonic() + 10
    with pytest.raises(BDError) as refusal, dialling.dial(target.address, credentials, deadline) as talk:
        talk.ask(["PING"], deadline)
    assert refusal.value.exit in (4, 5) and "\n" not in str(refusal.value)
