"""Markdown, read back through GitHub's own parser."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.report import Remedy, Report, Status
from cgroup_preflight.report import markdown as markdown_format
from cgroup_preflight.report.escape import clip, plain
from cgroup_preflight.report.views import noise_of
from tests.unit.report.forge import show, squeeze
from tests.unit.report.samples import HOST, HOSTILE, MIXED, SERVICE, few, finding, report, reports

TAGS = {
    "h2",
    "p",
    "strong",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "details",
    "summary",
    "code",
    "pre",
    "wbr",
    "br",
}


def test_verdict_first_then_what_to_do() -> None:
    lines = markdown_format.render(MIXED).splitlines()
    assert (
        lines[0]
        == "## ❌ cgroup-preflight FAIL: 1 of 4 checks failed: <code>CGP501</code> user-api; 1 check could not run"
    )
    assert lines[1] == "**To do:** raise MemoryMax to <code>96M</code> (1 fail, 1 unverified, 1 warn)"


def test_a_pass_says_that_nothing_is_to_do() -> None:
    lines = markdown_format.render(report(finding(Status.PASS))).splitlines()
    assert lines[0].startswith("## ✅ cgroup-preflight PASS: ")
    assert lines[1] == "**Nothing to do.**"
    warned = markdown_format.render(report(finding(Status.PASS), finding(Status.WARN))).splitlines()
    assert warned[1] == "**Nothing blocks the merge.** Below: 1 warning."


def test_a_report_without_findings_is_no_pass() -> None:
    assert markdown_format.render(report()).splitlines()[0] == (
        "## ⚠️ cgroup-preflight UNVERIFIED: no check ran; this is not a pass"
    )


def test_tables_and_folded_details() -> None:
    text = markdown_format.render(MIXED)
    assert (
        "| ❌ fail <code>CGP501</code> limits-in-force<br><code>user-api</code> | <code>memory.max</code> is not in "
        "force (at <code>deploy/cgroup-preflight.toml&#58;12</code>) |\n"
    ) in text
    assert ("| <code>user-api</code><br>❌ fail | ❌ 1/2 | 60M of 64M, 6% free | 1.50s, 25% throttled |\n") in text
    assert text.count("<details>") == text.count("</details>") == 4
    assert "<pre>\nsudo systemctl set-property 'a b' x=1\n</pre>" in text
    assert "fatal&#58; &#64;<wbr>everyone" in text
    assert text.index("| ❌ fail ") < text.index("| ⚠️ unverified ") < text.index("| 🟡 warn ")


@few
@given(reports())
def test_hostile_words_stay_words(some: Report) -> None:
    text = markdown_format.render(some)
    shown = show(text)
    assert shown.tags <= TAGS
    assert set(shown.rows) <= {2, 4}
    assert not re.search(r"[@#!&~$^]\w|https?:/|www\.|:\w+:", shown.loose)
    assert not re.search(r"^\s*/", text, re.MULTILINE)
    assert "<!--" not in text


@few
@given(reports())
def test_every_finding_has_its_words(some: Report) -> None:
    text = squeeze(show(markdown_format.render(some, limit=2_000_000)).text)
    for item in some.findings:
        assert squeeze(plain(clip(item.code, 40))) in text
        assert squeeze(plain(clip(item.subject, 200))) in text
        if item.status in (Status.FAIL, Status.UNVERIFIED, Status.WARN):
            size = 300 if noise_of(some)(item) else 500
            assert all(squeeze(plain(clip(remedy.title, size))) in text for remedy in item.remedies)


@few
@given(reports(), st.integers(markdown_format.LIMIT_MIN, 20_000), st.integers(1, 40))
def test_the_budget_holds_for_anything(some: Report, limit: int, times: int) -> None:
    big = report(*some.findings * times, services=some.services * times)
    text = markdown_format.render(big, limit=limit)
    assert len(text.encode()) <= limit
    show(text)


@pytest.mark.parametrize("text", [*HOSTILE, "@" * 99, "\\" * 99, "\U000e0001" * 99, "\U0001f600" * 99])
def test_the_head_alone_fits_the_smallest_budget(text: str) -> None:
    named = [finding(Status.FAIL, code=text[number:], subject=text[number:], remedies=()) for number in range(3)]
    some = replace(
        report(*named, *[finding(Status.FAIL, subject=text, message=text, remedies=(Remedy(title=text * 50),))] * 9),
        host=replace(HOST, kernel=text, systemd=text, hierarchy=text, engine=text),
    )
    assert len(markdown_format.render(some, limit=markdown_format.LIMIT_MIN).encode()) <= markdown_format.LIMIT_MIN


def test_details_go_before_rows_and_are_counted() -> None:
    failed = [finding(Status.FAIL, subject=f"service-{number}") for number in range(100)]
    passed = [finding(Status.PASS, subject=f"good-{number}") for number in range(5)]
    many = report(*failed, *passed, services=(SERVICE,) * 3)
    text = markdown_format.render(many, limit=24_000)
    assert text.count("| ❌ fail ") == 100
    assert text.count("| ✅ pass ") == 0
    details = text.count("what was read, what to do")
    assert 0 < details < 100
    left = f"Left out to stay below 24000 bytes: details: {100 - details} of 100, passed checks: 5 of 5.\n"
    assert text.endswith(f"\n{left}")


def test_twenty_thousand_findings_fit() -> None:
    some = report(*[finding(Status.FAIL, message=HOSTILE[2])] * 20_000)
    text = markdown_format.render(some)
    assert len(text.encode()) <= 65_000
    assert "findings: " in text.splitlines()[-1]


def test_a_limit_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="below 4000"):
        markdown_format.render(MIXED, limit=100)
