"""The Grafana dashboard in etc/, made from the table PANELS: each panel's queries read what bdgateway tells at /metrics."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

WIDTH = 24
HEIGHT = 7


class Panel(NamedTuple):
    """`queries`: (expression, legend); `kind`: timeseries or stat; `width`: of 24 columns; `unit`: as Grafana names them."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    words: str = ""


PANELS = (
    Panel("Nodes alive", (('max(bdserver_nodes{state="alive"})', ""),), kind="stat", width=4),
    Panel("Nodes dead", (('max(bdserver_nodes{state="dead"})', ""),), kind="stat", width=4),
    Panel("Overloaded", (("sum(bdserver_node_overloaded)", ""),), kind="stat", width=4),
    Panel("Services not well", (("count(bdserver_service_healthy == 0) or vector(0)", ""),), kind="stat", width=4),
    Panel("Warnings", (("sum(bdserver_node_warnings)", ""),), kind="stat", width=4, words="bdctl status names them."),
    Panel("First certificate ends", (("min(bdserver_node_certificate_expires_in_seconds)", ""),), "s", "stat", 4),
    Panel(
        "Weight, as a share of the threshold",
        (("bdserver_node_weight / bdserver_node_receiver_threshold", "{{node}}"),),
        "percentunit",
        width=12,
        words="Above 100 % a node is overloaded, and the mesh copies its services to others.",
    ),
    Panel("Weight by service", (("sum by (service) (bdserver_service_weight)", "{{service}}"),), width=12),
    Panel(
        "Look-ups a second, by phase",
        (("sum by (phase) (rate(bdserver_lookups_total[$__rate_interval]))", "phase {{phase}}"),),
        "ops",
        words="1: a holder with room; 2: a copy made for this call; 3: an overloaded holder; 4: one that was said to be dead.",
    ),
    Panel(
        "Seconds of a look-up",
        tuple(
            (f"histogram_quantile({share}, sum by (le) (rate(bdserver_lookup_seconds_bucket[$__rate_interval])))", words)
            for share, words in ((0.5, "median"), (0.9, "90 %"), (0.99, "99 %"))
        ),
        "s",
    ),
    Panel(
        "Requests a second, by kind", (("sum by (kind) (rate(bdserver_requests_total[$__rate_interval]))", "{{kind}}"),), "ops"
    ),
    Panel(
        "What was not answered, by reason",
        (
            (
                'sum by (outcome) (rate(bdserver_requests_total{outcome=~".*-.*|deadline|forbidden"}[$__rate_interval]))',
                "{{outcome}}",
            ),
        ),
        "ops",
    ),
    Panel(
        "Gateway: answers a second",
        (("sum by (face, outcome) (rate(bdserver_gateway_answers_total[$__rate_interval]))", "{{face}} {{outcome}}"),),
        "ops",
    ),
    Panel(
        "Bytes a second",
        (
            ("sum by (of) (rate(bdserver_received_bytes_total[$__rate_interval]))", "from {{of}}"),
            ("-sum by (to) (rate(bdserver_sent_bytes_total[$__rate_interval]))", "to {{to}}"),
        ),
        "Bps",
    ),
    Panel(
        "Copies, retirements, deaths, false suspicions in an hour",
        (
            ('sum(increase(bdserver_service_events_total{what="replicated"}[1h]))', "copies"),
            ('sum(increase(bdserver_service_events_total{what="retired"}[1h]))', "retired"),
            ("max(increase(bdserver_deaths_total[1h]))", "deaths"),
            ('sum(increase(bdserver_suspicions_total{outcome="false"}[1h]))', "false suspicions"),
        ),
    ),
    Panel("How late loops are", (("bdserver_node_lag_seconds", "{{node}}"),), "s"),
    Panel("Connections a second", (("sum by (kind) (rate(bdserver_connections_total[$__rate_interval]))", "{{kind}}"),), "ops"),
)


def text() -> str:
    """The dashboard, to be imported (Grafana 9 or newer)."""
    panels, x, y, row_height = [], 0, 0, 0
    for number, panel in enumerate(PANELS, 1):
        height = 4 if panel.kind == "stat" else HEIGHT
        if x + panel.width > WIDTH:
            x, y = 0, y + row_height
        panels.append(_panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": height}))
        x, row_height = x + panel.width, height
    board = {
        "title": "BDserver",
        "uid": "bdserver",
        "tags": ["bdserver"],
        "schemaVersion": 37,
        "editable": True,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}]
        },
        "panels": panels,
    }
    return json.dumps(board, indent=2) + "\n"


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": source,
            "expr": expression,
            **({"legendFormat": legend} if legend else {}),
        }
        for place, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.words,
        "datasource": source,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind == "timeseries" else {},
    }
