"""The Grafana dashboard and the alert rules read figures that there are."""

import json
import re
from pathlib import Path

from bdserver.core import counting
from bdserver.gateway import metrics
from docs.made import dashboard

RULES = Path(__file__).parents[2] / "etc" / "bdserver-prometheus-rules.yml"
NAMES = {
    *(f"bdserver_{row.metric}_total" for row in counting.COUNTERS),
    f"bdserver_{counting.HISTOGRAM}_bucket",
    *(f"bdserver_node_{name}" for _, name, _, _ in metrics.GAUGES),
    *("bdserver_nodes", "bdserver_node_warnings", "bdserver_service_healthy", "bdserver_service_weight"),
    *("bdserver_gateway_node_answers", "bdserver_gateway_answers_total"),
}


def named(text):
    return set(re.findall(r"\bbdserver_\w+", text))


def test_the_dashboard_reads_what_there_is():
    board = json.loads(dashboard.text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert named(" ".join(queries)) <= NAMES and len(board["panels"]) == len(dashboard.PANELS)


def test_no_panel_lies_on_another():
    taken = set()
    for panel in json.loads(dashboard.text())["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= dashboard.WIDTH
        taken |= cells


def test_the_rules_read_what_there_is():
    assert named(RULES.read_text()) - {"bdserver_prometheus"} <= NAMES
