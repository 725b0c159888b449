"""Roles: one spelling for all."""

import json

from bdserver.core.roles import ADMIN, CLIENT, EVERYONE, NODE, Role


def test_a_role_is_its_word_wherever_it_is_shown_compared_or_sent():
    assert [str(role) for role in EVERYONE] == ["client", "node", "admin"] == list(EVERYONE)
    assert f"{NODE}" == "node" and json.dumps([ADMIN]) == '["admin"]' and {"client"} == {CLIENT}


def test_everyone_is_every_role():
    assert set(EVERYONE) == set(Role)
