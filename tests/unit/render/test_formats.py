"""What holds for every format."""

import importlib
import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given

from cgroup_preflight.render import FORMATS
from cgroup_preflight.report import Report, Status

from .samples import MIXED, few, reports


def render(name: str, some: Report) -> str:
    module = importlib.import_module(f"cgroup_preflight.render.{'text' if name == 'text' else f'{name}_format'}")
    text: str = module.render(some)
    return text


@pytest.mark.parametrize("name", FORMATS)
def test_it_names_what_failed_and_what_to_do(name: str) -> None:
    text = render(name, MIXED).replace("<code>", "").replace("</code>", "")
    for item in MIXED.findings:
        if item.status in (Status.FAIL, Status.UNVERIFIED, Status.WARN):
            assert item.code in text
            assert item.subject in text
            assert all(remedy.title in text for remedy in item.remedies)


@few
@given(reports())
def test_no_control_or_direction_mark_gets_through(some: Report) -> None:
    sane = replace(some, findings=tuple(replace(item, code="CGP101") for item in some.findings))
    for name in FORMATS:
        # Text is for reports made here, whose codes are our own; the others may get reports of strangers.
        text = render(name, sane if name == "text" else some)
        assert text.endswith("\n")
        assert not {char for char in text if ord(char) < 32 and char != "\n"}
        assert not {"\u202e", "\u2066", "\x7f", "\x9b"} & set(text)
        text.encode("utf-8")


@few
@given(reports())
def test_machines_can_read_it(some: Report) -> None:
    for name in ("json", "sarif", "codequality"):
        json.loads(render(name, some))
    ET.fromstring(render("junit", some))
