"""bdctl invite, revoke and roll: what they ask, and what they print."""

import json
import os
import time
from types import SimpleNamespace

import pytest

from bdserver.commands import bdctl, calling
from bdserver.commands.ctl import access, inviting, revoking
from bdserver.core import joining, statements
from bdserver.core.messages import Invitations, Invited, Ok, Status
from bdserver.errors import BadConfig
from bdserver.net.authority import Authority
from tests.unit.certificates import make_keys


@pytest.fixture
def asked(monkeypatch):
    """What bdctl asked; `answers`: what it is told."""
    found = SimpleNamespace(requests=[], answers={})

    def ask(options, request, package=None):
        found.requests.append(request)
        return found.answers.get(request[0], Ok())

    monkeypatch.setattr(access, "ask", ask)
    status = Status({"revoked": [{"what": "name", "value": "beta", "at": 0.0, "why": ""}]}, [])
    monkeypatch.setattr(access, "status_of", lambda options: status)
    return found


def test_an_invitation_is_one_line_to_paste(asked, capsys):
    asked.answers["INVITE"] = Invited("TOKEN", "10.0.0.1:9001", 5.0)
    assert bdctl.main(["invite", "beta", "--valid", "2h", "--role", "admin"]) == 0
    assert capsys.readouterr().out == "bdkeys join 10.0.0.1:9001 TOKEN --name beta --role admin\n", (
        "it is not the host's own name"
    )
    assert bdctl.main(["invite"]) == 0 and capsys.readouterr().out == "bdkeys join 10.0.0.1:9001 TOKEN\n"
    asked.requests.pop()
    assert asked.requests == [["INVITE", {"name": "beta", "role": "admin", "uses": 1, "seconds": 7200.0}]]
    asked.answers["INVITE"] = Invited("TOKEN", "[::1]:9001", 5.0, "beta is alive")
    assert bdctl.main(["invite", "beta"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("bdkeys join '[::1]:9001' TOKEN --name beta\n", "bdctl: note: beta is alive\n")
    assert bdctl.main(["invite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["token"] == "TOKEN"
    assert bdctl.main(["invite", "--revoke", "ab"]) == 0 and asked.requests[-1] == ["UNINVITE", "ab"]
    token = joining.make_token(b"the CA", "alpha", os.urandom)
    assert bdctl.main(["invite", "--revoke", token.text()]) == 0, "whoever has the token, and no list, too"
    assert asked.requests[-1] == ["UNINVITE", token.id.hex()]


def test_invitations_are_listed_with_what_became_of_them(asked, capsys):
    told = {"id": "ab", "state": "open", "until": time.time() + 600, "name": "", "role": "node", "uses": 2, "joined": ["beta"]}
    used = {**told, "state": "used", "name": "gamma", "wrong": 3}
    asked.answers["INVITATIONS"] = Invitations([told | {"wrong": 0}, used], 4)
    assert bdctl.main(["invite", "--list"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("ab: open, ") and first.endswith(" min left; any node, 1 of 2 (beta)")
    assert second == "ab: used; node gamma, 1 of 2 (beta), wrong secrets: 3"
    assert third == "tokens tried that do not exist here: 4"
    inviting.invite(SimpleNamespace(revoke=None, list=True, json=True), lambda request: Invitations([], 0))
    inviting.invite(SimpleNamespace(revoke=None, list=True, json=False), lambda request: Invitations([], 0))
    assert capsys.readouterr().out.endswith("nobody is invited\n")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("7d", 604800), ("5", 5), ("0.5s", 0.5)]
)
def test_a_time_is_written_as_people_write_it(text, seconds):
    assert calling.duration(text) == seconds


@pytest.mark.parametrize("text", ["0", "-5m", "x", "m", "5y"])
def test_what_is_no_time_is_refused(asked, capsys, text):
    with pytest.raises(SystemExit):
        bdctl.main(["invite", f"--valid={text}"])
    assert f"{text!r} is no time above 0 (90s, 10m, 2h, 7d)" in capsys.readouterr().err
    assert not asked.requests


def test_a_revocation_is_asked_of_a_signer(asked, capsys):
    assert bdctl.main(["revoke", "beta", "--why", "stolen"]) == 0
    assert bdctl.main(["revoke", "00:ab", "--serial", "--json"]) == 0
    assert bdctl.main(["revoke", "beta", "--signer"]) == 0
    assert bdctl.main(["revoke", "beta", "--signer", "--in", "1h"]) == 0
    assert [request[1] for request in asked.requests] == [
        {"what": "name", "value": "beta", "why": "stolen", "in": 0.0},
        {"what": "serial", "value": "ab", "why": "", "in": 0.0},
        {"what": "signer", "value": "beta", "why": "", "in": 600.0},
        {"what": "signer", "value": "beta", "why": "", "in": 3600.0},
    ]
    assert json.loads(capsys.readouterr().out)["value"] == "ab"
    assert bdctl.main(["revoke", "--list"]) == 0
    assert capsys.readouterr().out == "name beta: since 1970-01-01 00:00 UTC\n"


def test_a_name_that_the_node_does_not_know_is_said(asked, capsys):
    asked.answers["REVOKE"] = Ok("", ["note: no node named btea is known here"])
    assert bdctl.main(["revoke", "btea"]) == 0
    assert capsys.readouterr().err == "bdctl: note: no node named btea is known here\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "revoke needs a NAME, or --list"),
        (["a b"], "is no name"),
        (["x", "--serial"], "is no serial number"),
        (["x", "--serial", "--signer"], "give one of the two"),
    ],
)
def test_what_makes_no_sense_is_one_line(asked, capsys, arguments, reason):
    assert bdctl.main(["revoke", *arguments]) == 2
    assert reason in capsys.readouterr().err and not asked.requests


def test_an_admin_elsewhere_signs_a_revocation_itself(asked, tmp_path, capsys):
    Authority.make(f"{tmp_path}/ca", "home")
    ann, joe = (
        f"{make_keys(tmp_path, f'{tmp_path}/ca', name, role=role)}/{name}"
        for name, role in (("ann", "admin"), ("joe", "client"))
    )
    assert bdctl.main(["--node", "h:1", "--keys", ann, "revoke", "beta"]) == 0
    statement = statements.from_json(asked.requests[0][1]["statement"])
    assert statements.meaning(statement).value == "beta"
    assert bdctl.main(["--node", "h:1", "--keys", joe, "revoke", "beta"]) == 2
    assert "needs the keys of an admin, and joe is not one" in capsys.readouterr().err


def test_a_roll_is_told_as_bdkeys_has_written_it(asked, tmp_path, capsys):
    (tmp_path / "roll.json").write_text('{"said": "x"}')
    assert bdctl.main(["roll", str(tmp_path / "roll.json")]) == 0 and asked.requests == [["ROLL", {"said": "x"}]]
    (tmp_path / "other").write_text("x")
    (tmp_path / "list").write_text("[]")
    for name, reason in (("other", "is not what bdkeys roll has written"), ("list", "is not what"), ("none", "No such file")):
        with pytest.raises(BadConfig, match=reason):
            revoking.statement_in(str(tmp_path / name))
