"""The rules and the dashboard name only what the exporter serves, and read each type as it must be read.

Whether an expression is valid, and whether an alert fires, is promtool's to say: tests/lab/test_prometheus.py.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ci.cgroup_tree import CgroupTree

from cgroup_preflight.metrics.door import LiveDoor
from cgroup_preflight.metrics.exposition import Style
from cgroup_preflight.metrics.page import Page
from cgroup_preflight.metrics.readings import Readings
from cgroup_preflight.metrics.rules_files import shipped
from cgroup_preflight.metrics.tree import Tree
from tests.unit.metrics.promql import Series, expressions_of_rules, grouping_labels, series_of

_RULES = shipped("slices.rules.yml").decode()
_TESTS = shipped("slices.rules.test.yml").decode()
_BOARD: dict[str, Any] = json.loads(shipped("slices.dashboard.json"))
_GRAPHS: list[dict[str, Any]] = [panel for panel in _BOARD["panels"] if panel["type"] == "timeseries"]
_EXPRESSIONS = {
    **expressions_of_rules(_RULES),
    **{
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in _GRAPHS
        for target in panel["targets"]
    },
}
_RECORDED = set(re.findall(r"- record: (\S+)", _RULES))
#: Prometheus adds these labels and `up` to what it scrapes.
_OF_PROMETHEUS = {"job", "instance"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the exporter serves for a tree with all files: the type of each series by its name, and its labels."""

    types: dict[str, str]
    labels: dict[str, set[str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    top = tmp_path_factory.mktemp("cgroup")
    tree = CgroupTree(top)
    tree.add("/a.slice")
    tree.add("/a.slice/b.service")
    readings = Readings(Tree(LiveDoor(str(top))), Page(4, lambda _: True))
    readings.refresh()
    page = b"".join(readings.render(Style.TEXT, packed=False)).decode()
    readings.close()
    kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", page))
    found = Served(types={}, labels={})
    for name, labels in re.findall(r"(?m)^([a-z_]+)(?:\{(.*)\})? \S+$", page):
        family = name if name in kinds else re.sub(r"_(sum|count|bucket)$", "", name)
        found.types[name] = kinds[family]
        found.labels.setdefault(name, set(_OF_PROMETHEUS)).update(re.findall(r'(\w+)="', labels))
    return found


def test_there_are_expressions_to_look_at() -> None:
    assert len(expressions_of_rules(_RULES)) == _RULES.count(" expr: ") > 10
    assert len(_EXPRESSIONS) - _RULES.count(" expr: ") == sum(len(panel["targets"]) for panel in _GRAPHS) > 20


@pytest.mark.parametrize("title", _EXPRESSIONS)
def test_every_series_exists_and_is_read_as_its_type(served: Served, title: str) -> None:
    found = series_of(_EXPRESSIONS[title])
    assert found
    grown = {series.name for series in found if series.range_function in ("rate", "increase")}
    for series in found:
        if series.name in _RECORDED or series.name == "up":
            continue
        assert series.name in served.types
        assert (served.types[series.name] != "gauge") == (series.name in grown), series
        assert set(series.labels) <= served.labels[series.name], series
    assert grouping_labels(_EXPRESSIONS[title]) <= set().union(*served.labels.values())


def test_what_is_recorded_is_used() -> None:
    used = {series.name for expression in _EXPRESSIONS.values() for series in series_of(expression)}
    assert used >= _RECORDED


def test_every_alert_is_tested_both_ways() -> None:
    """At one time it fires, at another it does not."""
    tests = re.split(r"(?m)^ *- (?=\{?(?:alertname|name|expr):)", _TESTS)
    for alert in set(re.findall(r"- alert: (\S+)", _RULES)):
        own = [test for test in tests if re.match(rf"\{{?alertname: {alert}\b", test)]
        assert {"exp_alerts" in test for test in own} == {True, False}, alert


def test_an_alert_has_a_severity_and_two_texts() -> None:
    blocks = re.split(r"- alert: ", _RULES)[1:]
    assert blocks
    for block in blocks:
        assert re.search(r"severity: (critical|warning|info)\n", block), block
        assert "summary: " in block
        assert "description: " in block


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    """The fields of Grafana's dashboard JSON model and the rules of its dashboard-linter that need no Grafana."""
    assert {"uid", "title", "schemaVersion", "version", "panels", "templating", "time", "refresh", "tags"} <= set(
        _BOARD
    )
    assert len(_BOARD["uid"]) <= 40
    assert "id" not in _BOARD, "an id of another Grafana"
    assert _BOARD["editable"] is False
    numbers = [panel["id"] for panel in _BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    variables = {item["name"]: item for item in _BOARD["templating"]["list"]}
    assert [item["type"] for item in variables.values()] == ["datasource", "query", "query", "query", "query"]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(_BOARD["panels"]))) - {"__rate_interval"}
    assert used == set(variables)
    for panel in _GRAPHS:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert [target["refId"] for target in panel["targets"]] == [*"ABC"[: len(panel["targets"])]]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target["legendFormat"]
            windows = re.findall(r"\[([^]]+)\]", target["expr"])
            assert set(windows) <= {"$__rate_interval"}


def test_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in _BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        cells |= own


@pytest.mark.parametrize("variable", _BOARD["templating"]["list"][1:], ids=lambda item: item["name"])
def test_variables_ask_for_series_that_exist(served: Served, variable: dict[str, Any]) -> None:
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert match
    (series,) = series_of(match[1])
    assert series.name in served.types
    assert match[2] in served.labels[series.name]
    assert variable["name"] == match[2]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up", [Series(name="up", labels=(), range_function="")]),
        ('sum by (job) (rate(a_total{b="x(y)", c!~"d"}[5m])) / on (job) b',
         [Series(name="a_total", labels=("b", "c"), range_function="rate"), Series(name="b", labels=(), range_function="")]),
        ("time() - x > 60", [Series(name="x", labels=(), range_function="")]),
        ("y < +Inf and 1e3 < z", [Series(name=name, labels=(), range_function="") for name in "yz"]),
        ("vector(1)", []),
    ],
)  # fmt: skip
def test_series_of_an_expression(expression: str, expected: list[Series]) -> None:
    assert list(series_of(expression)) == expected


def test_the_page_names_every_alert_and_only_what_exists(served: Served) -> None:
    page = (Path(__file__).parents[3] / "docs" / "golden-signals.md").read_text()
    rows = dict(re.findall(r"^\| `(Slice\w+)` \| ([a-z, ]+) \|", page, re.MULTILINE))
    severities: dict[str, set[str]] = {}
    for alert, severity in re.findall(r"- alert: (\S+)\n(?:(?!- alert).*\n)*? +severity: (\w+)", _RULES):
        severities.setdefault(alert, set()).add(severity)
    assert {alert: set(text.split(", ")) for alert, text in rows.items()} == severities
    named = set(re.findall(r"\bslice_\w+", page))
    assert len(named) > 10
    assert named <= set(served.types)
