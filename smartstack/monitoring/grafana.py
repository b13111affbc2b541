"""A dashboard as the JSON that Grafana takes (schema version 39: Grafana 10.4 and newer). Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from smartstack.monitoring.panels import Dashboard, Panel, Query, Row, Unit, Variable

SCHEMA_VERSION = 39
COLUMNS = 24
TAG = "smartstack"

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HEIGHTS: Mapping[str, int] = {"stat": 4, "timeseries": 8, "table": 9}
_GREEN, _YELLOW, _RED = "green", "yellow", "red"


def text(dashboard: Dashboard) -> str:
    """The file of a dashboard; always the same for the same dashboard."""
    return json.dumps(document(dashboard), indent=2, ensure_ascii=False) + "\n"


def document(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "annotations": {"list": []},
        "description": dashboard.description,
        "editable": True,
        "graphTooltip": 1,
        "id": None,
        "links": [
            {
                "asDropdown": True,
                "icon": "dashboard",
                "includeVars": True,
                "keepTime": True,
                "tags": [TAG],
                "targetBlank": False,
                "title": "SmartStack",
                "tooltip": "",
                "type": "dashboards",
                "url": "",
            }
        ],
        "panels": list(_placed(dashboard.rows)),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG],
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables)]},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": f"smartstack-{dashboard.name}",
        "version": 1,
    }


def _placed(rows: Iterable[Row]) -> Iterable[dict[str, Any]]:
    """Rows and panels from left to right and from top to bottom, each with a number of its own."""
    number, top = 1, 0
    for row in rows:
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        yield {"collapsed": False, "gridPos": place, "id": number, "panels": [], "title": row.title, "type": "row"}
        number, top, left, height = number + 1, top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, height = top + height, 0, 0
            place = {"h": _HEIGHTS[panel.kind], "w": panel.width, "x": left, "y": top}
            yield {"gridPos": place, "id": number, **_panel(panel)}
            number, left, height = number + 1, left + panel.width, max(height, _HEIGHTS[panel.kind])
        top += height


def _panel(panel: Panel) -> dict[str, Any]:
    table = panel.kind == "table"
    columns = [_column(query.legend, query.unit) for query in panel.queries if table and query.unit]
    made: dict[str, Any] = {
        "datasource": _DATASOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": columns},
        "options": _OPTIONS[panel.kind],
        "targets": [_target(panel, query, chr(ord("A") + index)) for index, query in enumerate(panel.queries)],
        "title": panel.title,
        "type": panel.kind,
    }
    if table:
        made["transformations"] = _transformations(panel.queries)
    return made


_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "stat": {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    },
    "timeseries": {
        "legend": {"calcs": ["mean", "lastNotNull"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "table": {"cellHeight": "sm", "showHeader": True},
}


def _defaults(panel: Panel) -> dict[str, Any]:
    made: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": _steps(panel)}}
    coloured = panel.good is not None or panel.bad is not None
    made["color"] = {"mode": "thresholds" if coloured and panel.kind != "timeseries" else "palette-classic"}
    if panel.top is not None:
        made |= {"max": panel.top, "min": 0}
    elif panel.unit != "dateTimeFromNow":
        made["min"] = 0
    if panel.kind == "timeseries":
        made["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 30 if panel.stacked else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
        }
    return made


def _steps(panel: Panel) -> list[dict[str, Any]]:
    if panel.good is not None:
        colours, values = (_RED, _YELLOW, _GREEN), panel.good
    elif panel.bad is not None:
        colours, values = (_GREEN, _YELLOW, _RED), panel.bad
    else:
        return [{"color": _GREEN, "value": None}]
    return [{"color": colour, "value": value} for colour, value in zip(colours, (None, *values), strict=True)]


def _target(panel: Panel, query: Query, reference: str) -> dict[str, Any]:
    table = panel.kind == "table"
    return {
        "datasource": _DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "format": "table" if table else "time_series",
        "instant": table,
        "legendFormat": query.legend,
        "range": not table,
        "refId": reference,
    }


def _column(name: str, unit: Unit) -> dict[str, Any]:
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}


def _transformations(queries: Iterable[Query]) -> list[dict[str, Any]]:
    """The queries' values side by side, in one line for each set of labels."""
    names = {f"Value #{chr(ord('A') + index)}": query.legend for index, query in enumerate(queries)}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}},
    ]


def _datasource() -> dict[str, Any]:
    return {
        "hide": 0,
        "includeAll": False,
        "label": "Prometheus",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "type": "datasource",
    }


def _variable(variable: Variable) -> dict[str, Any]:
    query = f"label_values({variable.metric}, {variable.label})"
    return {
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": _DATASOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": True,
        "label": variable.title,
        "multi": True,
        "name": variable.name,
        "query": {"query": query, "refId": "Prometheus"},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }
