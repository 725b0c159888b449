"""The laws behind docs/SCALE.md, at sizes that take seconds; and that the page's figures are those that were measured."""

import json
import math
import os

import pytest
from OpenSSL import SSL

from bdserver.core.wire import encode
from bdserver.errors import Forbidden
from bdserver.net import keys
from bdserver.net.handshake import Judge
from tests.hosts import Mesh
from tests.simulation import curves
from tests.simulation.mesh import CONNECTION_BYTES, FRAME_BYTES

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEEDS = range(1, 6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [3, 10, 40, 120])
def test_a_rumour_reaches_all_in_logarithmic_steps_and_is_told_to_each_but_once_before(count, seed):
    found = curves.rumour(count, seed)
    assert found["rounds"] <= math.ceil(math.log2(count)) + 1
    assert count - 1 <= found["messages"] <= 1.2 * count
    assert found["in all"] <= 4 * count


def test_rest_costs_a_node_the_same_in_a_mesh_of_any_size():
    small, large = (curves.traffic(count, 1, 60)["bytes"] for count in (10, 60))
    assert 0 < large <= 1.5 * small


def test_no_node_is_taken_for_dead_by_a_twentieth_of_loss():
    assert curves.false_alarms(20, 1, 0.01, 300)["dead"] == 0
    assert curves.false_alarms(20, 1, 0.05, 300)["dead"] == 0


@pytest.mark.parametrize("count", [6, pytest.param(20, marks=pytest.mark.long)])
def test_two_halves_find_each_other_again_and_a_power_cut_is_over_at_once(count):
    assert curves.healing(count, 1)["seconds"] <= 60 * 1.5  # the longest pause between dials
    assert curves.restart(count, 1)["seconds"] <= 10


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lie_about_another_node_is_refuted_within_a_few_seconds_and_harms_nobody_else(seed):
    found = curves.liar(30, seed)
    assert found["believed"] > 0, "nobody believed it: then this shows nothing"
    assert found["seconds"] <= 3 and found["others harmed"] == 0


def test_a_connection_costs_the_bytes_that_the_model_says(tmp_path):
    with Mesh(str(tmp_path)) as mesh:
        ends = [_end(keys.load(mesh.issue(name), name), state) for name, state in (
            ("a", SSL.Connection.set_connect_state), ("b", SSL.Connection.set_accept_state))]  # fmt: skip
    total = 0
    for here, there in [ends, ends[::-1]] * 2:
        try:
            here.do_handshake()
        except SSL.WantReadError:
            pass
        data = here.bio_read(1 << 16)
        total += len(data)
        there.bio_write(data)
    opening = len(encode(["OPEN", {"version": 2, "oldest": 1, "deadline": 0.6}])) + FRAME_BYTES
    goodbyes = 2 * (FRAME_BYTES + 2)
    assert total + opening + goodbyes == pytest.approx(CONNECTION_BYTES, rel=0.1)


def _end(credentials, set_state):
    end = SSL.Connection(credentials.context)
    end.set_app_data(Judge("the other", credentials.identity.mesh, None, None, Forbidden))
    set_state(end)
    return end


def test_the_figures_of_the_page_are_those_of_the_curves():
    with open(os.path.join(ROOT, "docs", "pictures", "curves.json"), encoding="utf-8") as file:
        found = json.load(file)
    with open(os.path.join(ROOT, "docs", "SCALE.md"), encoding="utf-8") as file:
        page = file.read()
    assert set(found) == {"rumour", "rest", "churn", "healing", "restart", "liar", "false alarms"}
    for row in curves.table(found).splitlines():
        assert row in page, f"docs/SCALE.md lacks: {row}"
    assert found["rest"]["1000"]["bytes"][0] <= 1.5 * found["rest"]["10"]["bytes"][0]
