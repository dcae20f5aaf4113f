"""What holds for every format."""

import importlib
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import assume, given

import cgroup_preflight
from cgroup_preflight.core.report import Report, Status
from cgroup_preflight.publish.options import view
from cgroup_preflight.report import FORMATS, MODULES, annotations, codec, codequality, text
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report.merge import Leg
from cgroup_preflight.report.read import report_of
from tests.unit.report.samples import MIXED, SAMPLES, few, reports

_ENV = {"PYTHONPATH": os.path.dirname(os.path.dirname(cgroup_preflight.__file__)), "PATH": os.defpath}


def render(name: str, some: Report) -> str:
    module = importlib.import_module(f"cgroup_preflight.report.{MODULES[name]}")
    shown: str = module.render(some)
    return shown


@pytest.mark.parametrize("name", FORMATS)
def test_it_names_what_failed_and_what_to_do(name: str) -> None:
    shown = render(name, MIXED).replace("<code>", "").replace("</code>", "")
    for item in MIXED.findings:
        if item.status in (Status.FAIL, Status.UNVERIFIED, Status.WARN):
            assert item.code in shown
            assert item.subject in shown
            assert all(remedy.title in shown for remedy in item.remedies)


@few
@given(reports())
def test_no_control_or_direction_mark_gets_through(some: Report) -> None:
    sane = replace(some, findings=tuple(replace(item, code="CGP101") for item in some.findings))
    for name in FORMATS:
        # Text is for reports made here, whose codes are our own; the others may get reports of strangers.
        shown = render(name, sane if name == "text" else some)
        assert shown.endswith("\n")
        assert not {char for char in shown if ord(char) < 32 and char != "\n"}
        assert not {"\u202e", "\u2066", "\x7f", "\x9b"} & set(shown)
        shown.encode("utf-8")


def _everywhere(some: Report) -> dict[str, object]:
    """The report in all that is ever made of it."""
    merged = view((Leg(name="one", report=some),))
    several = view((Leg(name="one", report=some), Leg(name="two", report=MIXED)))
    return {
        **{name: render(name, some) for name in FORMATS},
        "verbose": text.render(some, colour=True, verbose=True),
        "comment": comment_body.render(merged),
        "comment of several": comment_body.render(several),
        "json of several": codec.render(several.report),
        "text of several": text.render(several.report),
        "workflow commands": annotations.render(some),
        "annotations": annotations.batches(some),
        "gitlab annotations": codequality.annotations(merged, {}),
        "dotenv": codequality.dotenv(merged),
    }


@pytest.mark.parametrize("some", SAMPLES)
def test_a_report_that_went_through_json_shows_the_same(some: Report) -> None:
    back = report_of(codec.render(some).encode())
    assert _everywhere(back) == _everywhere(some)


@few
@given(reports())
def test_any_report_that_went_through_json_shows_the_same(some: Report) -> None:
    assume(all(item.location is None or item.location.line > 0 for item in some.findings))
    back = report_of(codec.render(some).encode())
    for name in FORMATS:
        assert render(name, back) == render(name, some)


def test_the_log_and_the_limit_in_force_are_in_the_json() -> None:
    service = json.loads(codec.render(SAMPLES[2]))["services"][0]
    assert service["memory_max_bytes"] == 32 << 20
    assert len(service["log_tail"]) == 20
    assert all(len(line) <= 300 and line.isprintable() for line in service["log_tail"])
    assert "6% free" in render("markdown", SAMPLES[2])


@pytest.mark.starts_processes
def test_writing_loads_neither_the_reader_nor_the_schema() -> None:
    code = (
        "import sys, cgroup_preflight.report.codec; "
        "print([n for n in sys.modules if n.endswith(('report.read', 'report.schema', '.verdict', '.config'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=_ENV
    )
    assert done.stdout.strip() == "[]"


@few
@given(reports())
def test_machines_can_read_it(some: Report) -> None:
    for name in ("json", "sarif", "codequality"):
        json.loads(render(name, some))
    ET.fromstring(render("junit", some))
