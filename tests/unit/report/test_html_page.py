"""The HTML page: what a browser's parser makes of it, for any report."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given

from cgroup_preflight.core.report import Report, Status
from cgroup_preflight.report.html_page import render
from tests.unit.report.samples import MIXED, SAMPLES, few, finding, report, reports

_TAGS = {"html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "article", "span", "code", "details",
         "summary", "div", "table", "tr", "th", "td", "pre", "strong", "ul", "li"}  # fmt: skip
_VOID = {"meta"}
_ATTRIBUTES = {
    "html": {"lang"}, "meta": {"charset", "http-equiv", "content", "name"}, "header": {"class"}, "article": {"class"},
    "span": {"class"}, "div": {"class"}, "details": {"open"}, "p": {"class"},
}  # fmt: skip


class _Page(HTMLParser):
    """Tags, attributes and whether every element is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.classes: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _TAGS
        assert {name for name, _ in attrs} <= _ATTRIBUTES.get(tag, set())
        self.classes |= {value or "" for name, value in attrs if name == "class"}
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@few
@given(reports())
def test_no_text_of_a_report_becomes_structure(some: Report) -> None:
    """Same tags and attributes for every report: foreign text is text, whatever it holds."""
    page = _Page(render(some))
    assert page.classes <= {"pass", "warn", "fail", "unverified", "skip", "word", "soft", "wide"}


@pytest.mark.parametrize("some", SAMPLES)
def test_nothing_comes_from_elsewhere_and_nothing_runs(some: Report) -> None:
    text = render(some)
    assert "default-src &#x27;none&#x27;" in text
    assert not any(word in text.lower() for word in ("<script", "<link", "<img", "<iframe", "href=", "src=", "url("))


def test_it_says_what_a_person_must_read_and_folds_the_rest() -> None:
    page = _Page(render(MIXED))
    said = " ".join(page.texts)
    assert "FAIL" in said
    assert "could not be tried" in said
    assert "1 check passed" in said


def test_a_report_without_problems_has_no_list_of_them() -> None:
    fine = replace(report(finding(Status.PASS, remedies=())), services=())
    assert "What to look at" not in render(fine)
    assert "What to look at" in render(report(finding(Status.WARN)))
