"""The policy as a function from findings to findings: each rule both ways, and what holds for every policy."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.firm import is_firm
from cgroup_preflight.core.policy import Ignore, Rules, apply, fits, not_run, notes
from cgroup_preflight.core.report import By, Finding, Location, Ruling, Status, Verdict
from cgroup_preflight.core.verdict import verdict_of

AT = Location(file="x.toml", line=7)


def found(code="CGP506", status=Status.FAIL, subject="worker", message="it did not stop", line=None):
    location = Location(file="x.toml", line=line) if line else None
    return Finding(code=code, name="made", status=status, subject=subject, message=message, location=location)


def ignore(code="CGP506", **more):
    return Ignore(code=code, reason="it drains its queue", location=AT, **more)


def statuses(findings, rules):
    return [item.status for item in apply(findings, rules)]


@pytest.mark.parametrize(
    ("one", "item", "is_ignored"),
    [
        (ignore(), found(), True),
        (ignore(), found(status=Status.WARN), True),
        (ignore(), found("CGP505"), False),
        (ignore(subject="worker"), found(), True),
        (ignore(subject="work"), found(), False),
        (ignore(subject="*: worker"), found(subject="debian-12: worker"), True),
        (ignore(subject="*: worker"), found(), False),
        (ignore(line=9), found(line=9), True),
        (ignore(line=9), found(line=10), False),
        (ignore(line=9), found(), False),
        (ignore("CGP501"), found("CGP501"), True),
    ],
)
def test_an_ignore_is_about_its_finding_alone(one, item, is_ignored):
    other = found("CGP501", subject="other", line=3)
    first, second = apply([item, other], Rules(ignores=(one,)))
    assert (first.status is Status.SKIP, first.is_waived) == (is_ignored, is_ignored)
    assert second == (replace(second, policy=second.policy) if second.is_waived else other)
    if is_ignored:
        assert first.policy == Ruling(by=By.IGNORE, was=item.status, reason="it drains its queue", location=AT)
        assert replace(first, status=item.status, policy=None) == item


def test_a_line_of_another_file_is_another_line():
    item = replace(found(), location=Location(file="deploy/worker.service", line=9))
    assert statuses([item], Rules(ignores=(ignore(line=9),))) == [Status.FAIL]


@pytest.mark.parametrize(
    ("today", "status"), [("2027-06-29", Status.SKIP), ("2027-06-30", Status.SKIP), ("2027-07-01", Status.FAIL)]
)
def test_an_ignore_ends_after_its_last_day(today, status):
    rules = Rules(ignores=(ignore(until="2027-06-30"),), today=today)
    assert statuses([found()], rules) == [status]
    told = notes([found()], rules, whole=False)
    assert [(item.code, item.status, item.location) for item in told] == (
        [] if status is Status.SKIP else [("CGP220", Status.WARN, AT)]
    )


@pytest.mark.parametrize(
    ("findings", "whole", "codes"),
    [
        ([found()], True, []),
        ([found(status=Status.WARN)], True, []),
        ([found(status=Status.PASS)], True, ["CGP221"]),
        ([], True, ["CGP221"]),
        ([], False, []),
        ([found(status=Status.UNVERIFIED)], True, ["CGP221"]),
    ],
)
def test_an_ignore_that_nothing_needs_is_a_warning_of_a_whole_run(findings, whole, codes):
    told = notes(findings, Rules(ignores=(ignore(),)), whole=whole)
    assert [item.code for item in told] == codes
    assert all(item.location == AT and item.remedies for item in told)
    if findings and findings[0].status is Status.UNVERIFIED:
        assert "no policy makes a pass of that" in told[0].message


@pytest.mark.parametrize("code", ["CGP301", "CGP522"])
def test_what_an_ordinary_run_does_not_look_at_is_not_called_unused(code):
    assert not notes([], Rules(ignores=(ignore(code),)), whole=True)


def test_own_warnings_can_fail():
    rules = Rules(ignores=(ignore(),), fail_on=frozenset({"CGP221"}))
    assert [item.status for item in notes([], rules, whole=True)] == [Status.FAIL]


def test_fail_on_and_warn_on():
    rules = Rules(fail_on=frozenset({"CGP514"}), warn_on=frozenset({"CGP505", "CGP501"}))
    assert statuses([found("CGP514", Status.WARN), found("CGP515", Status.WARN)], rules) == [Status.FAIL, Status.WARN]
    assert statuses([found("CGP505"), found("CGP506")], rules) == [Status.WARN, Status.FAIL]
    raised = apply([found("CGP514", Status.WARN)], rules)[0]
    assert raised.policy == Ruling(by=By.FAIL_ON, was=Status.WARN)


def test_a_limit_that_is_not_in_force_is_only_ignored_with_a_reason():
    item, rest = found("CGP501"), Rules(warn_on=frozenset({"CGP501"}), baseline=(found("CGP501"),))
    assert statuses([item], rest) == [Status.FAIL]
    assert statuses([item], replace_ignores(rest, ignore("CGP501"))) == [Status.SKIP]


def replace_ignores(rules, *ignores):
    return Rules(fail_on=rules.fail_on, warn_on=rules.warn_on, baseline=rules.baseline, ignores=ignores)


@pytest.mark.parametrize(
    ("machines", "subject"),
    [
        ((), "worker"),
        (("debian-12",), "worker"),
        (("debian-12", "debian-13"), "debian-12: worker"),
        (("web1",), "worker"),
        (("web1",), "web1: worker"),
        ((), "this host: worker"),
        (("debian-12",), "this host: worker"),
    ],
)
def test_an_exception_is_the_same_here_in_guests_and_on_hosts(machines, subject):
    item = found(subject=subject)
    for pattern in ("worker", "work*", "*worker", ""):
        rules = Rules(ignores=(ignore(subject=pattern),), machines=machines)
        assert statuses([item], rules) == [Status.SKIP], pattern
        assert notes([item], rules, whole=True) == ()
    for pattern in ("other", "debian-11: worker", "orker", ": worker", "web2: *"):
        rules = Rules(ignores=(ignore(subject=pattern),), machines=machines)
        assert statuses([item], rules) == [Status.FAIL], pattern


def test_an_exception_can_name_its_machine():
    rules = Rules(ignores=(ignore(subject="debian-12: worker"),), machines=("debian-12", "debian-13"))
    items = [found(subject=f"{name}: worker") for name in ("debian-12", "debian-13")]
    assert statuses(items, rules) == [Status.SKIP, Status.FAIL]
    for name, status in (("debian-12", Status.SKIP), ("debian-13", Status.FAIL)):
        assert statuses([found()], replace(rules, machines=(name,))) == [status]
    assert statuses([found(subject="this host: worker")], replace(rules, machines=("debian-12",))) == [Status.FAIL]


@pytest.mark.parametrize("subject", ["api", "web1: api"])
def test_a_star_does_not_reach_into_the_name_of_the_machine(subject):
    """`web*` is about the services web-a and web-b, not about everything on web1."""
    for pattern, status in (("web*", Status.FAIL), ("web*: api", Status.SKIP), ("web1: *", Status.SKIP)):
        rules = Rules(ignores=(ignore(subject=pattern),), machines=("web1",))
        assert statuses([found(subject=subject)], rules) == [status], pattern
        rules = replace(rules, machines=("web1", "web2"))
        assert statuses([found(subject="web1: api")], rules) == [status], pattern


def test_a_name_that_looks_like_that_of_a_machine_is_part_of_the_subject():
    rules = Rules(ignores=(ignore(subject="worker"),), machines=("debian-12",))
    assert statuses([found(subject="debian-13: worker")], rules) == [Status.FAIL]
    assert statuses([found(subject="debian-12: debian-12: worker")], rules) == [Status.FAIL]


def test_a_baseline_forgives_what_it_has():
    before = found(message="stopped after 10.5 s of 10 s")
    now = found(message="stopped after 12 s of 10 s")
    new = found(subject="api", message="stopped after 12 s of 10 s")
    done = apply([new, now], Rules(baseline=(before,)))
    assert [item.status for item in done] == [Status.FAIL, Status.SKIP]
    assert done[1].policy == Ruling(by=By.BASELINE, was=Status.FAIL)


def test_a_baseline_forgives_once_however_often_it_is_applied():
    rules = Rules(baseline=(found(),))
    once = apply([found(), found()], rules)
    assert sorted(item.status for item in once) == [Status.FAIL, Status.SKIP]
    assert apply(once, rules) == once


def test_a_baseline_does_not_forgive_warnings_about_the_machine_that_do_not_fail():
    item = found("CGP117", Status.WARN, "pressure", "no PSI")
    assert statuses([item], Rules(baseline=(item,))) == [Status.WARN]
    assert statuses([item], Rules(baseline=(item,), fail_on=frozenset({"CGP117"}))) == [Status.SKIP]


def test_warnings_about_the_machine_can_be_asked_for():
    about, other = found("CGP117", Status.WARN), found("CGP514", Status.WARN)
    done = apply([about, other], Rules(machine_warnings=True))
    assert [item.policy and item.policy.by for item in done] == [By.MACHINE_WARNINGS, None]
    assert [item.status for item in done] == [Status.WARN, Status.WARN]


def test_of_two_exceptions_the_narrower_one_is_named():
    wide, narrow, line = ignore(), ignore(subject="worker"), ignore(line=9)
    (done,) = apply([found(line=9)], Rules(ignores=(wide, narrow)))
    assert done.policy is not None
    for order in ((wide, narrow, line), (line, narrow, wide)):
        assert apply([found(line=9)], Rules(ignores=order))[0].policy == Ruling(
            by=By.IGNORE, was=Status.FAIL, reason=line.reason, location=AT
        )


def test_a_run_without_services_is_no_pass_because_of_an_ignore():
    broken = found("CGP401")
    done = apply([broken, found("CGP101", Status.PASS)], Rules(ignores=(ignore("CGP401"),)))
    assert verdict_of(done) is Verdict.PASS
    (more,) = not_run(done)
    assert (more.code, more.status) == ("CGP500", Status.UNVERIFIED)
    assert verdict_of((*done, more)) is Verdict.UNVERIFIED
    assert not not_run((*done, more))
    assert not not_run([found("CGP101", Status.PASS)])


def test_a_run_without_services_is_no_pass_because_a_fail_is_only_a_warning():
    """Whatever code it was that kept the services from running."""
    done = apply([found("CGP524"), found("CGP101", Status.PASS)], Rules(warn_on=frozenset({"CGP524"})))
    assert verdict_of(done) is Verdict.PASS
    assert [item.status for item in not_run(done)] == [Status.UNVERIFIED]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [("a", "a", True), ("a", "ab", False), ("a*", "ab", True), ("*b", "ab", True), ("a*b", "ab", True), ("ab*ba", "aba", False),
     ("*", "", True), ("a*b*c", "a-b-c", True), ("a*b*c", "a-c-b", False), ("a.b", "axb", False), ("[a]", "a", False)],
)  # fmt: skip
def test_a_star_is_any_text_and_nothing_else_is_special(pattern, text, expected):
    assert fits(pattern, text) is expected


CODES = ("CGP117", "CGP501", "CGP505", "CGP506", "CGP514")
_subjects = st.sampled_from(["worker", "api", "this host: docker"])
_findings = st.lists(
    st.builds(
        found, st.sampled_from(CODES), st.sampled_from(Status), _subjects,
        st.sampled_from(["peak 58.1M of 64M", "peak 60M of 64M", "another"]), st.sampled_from([None, 3, 9]),
    ),
    max_size=8,
)  # fmt: skip
_ignores = st.lists(
    st.builds(
        ignore, st.sampled_from(CODES), subject=st.sampled_from(["", "worker", "w*", "*"]),
        until=st.sampled_from(["", "2026-01-01", "2028-01-01"]), line=st.sampled_from([None, None, 3, 9]),
    ),
    max_size=4,
)  # fmt: skip
_codes = st.frozensets(st.sampled_from(CODES))
_rules = st.builds(
    lambda ignores, fail_on, warn_on, baseline, machine: Rules(
        ignores=tuple(ignores), fail_on=fail_on, warn_on=warn_on - fail_on, baseline=tuple(baseline),
        machine_warnings=machine, today="2027-01-01",
    ),
    _ignores, _codes, _codes, _findings, st.booleans(),
)  # fmt: skip


@given(_findings)
def test_no_policy_changes_nothing(findings):
    assert apply(findings, Rules(today="2027-01-01")) == tuple(findings)
    assert notes(findings, Rules(today="2027-01-01"), whole=True) == ()


@given(_findings, _rules)
def test_nothing_is_lost_and_the_check_s_own_answer_stays(findings, rules):
    done = apply(findings, rules)
    assert len(done) == len(findings)
    for before, after in zip(findings, done, strict=True):
        assert replace(after, status=before.status, policy=None) == before
        if after.policy is None:
            assert after.status is before.status
        else:
            assert after.policy.was is before.status


@given(_findings, _rules)
def test_the_order_of_findings_and_rules_does_not_matter(findings, rules):
    done = apply(findings, rules)
    other = Rules(
        ignores=rules.ignores[::-1], fail_on=rules.fail_on, warn_on=rules.warn_on, baseline=rules.baseline[::-1],
        machine_warnings=rules.machine_warnings, today=rules.today,
    )  # fmt: skip
    assert sorted(map(repr, apply(findings[::-1], other))) == sorted(map(repr, done))


@given(_findings, _rules)
def test_to_apply_it_twice_is_to_apply_it_once(findings, rules):
    done = apply(findings, rules)
    assert apply(done, rules) == done


@given(_findings, _rules)
def test_what_is_unverified_stays_so(findings, rules):
    if any(item.status is Status.UNVERIFIED for item in findings):
        assert verdict_of(apply(findings, rules)) is not Verdict.PASS


@given(_findings, _ignores)
def test_an_ignore_hides_no_other_finding(findings, ignores):
    """What the ignores do not match is exactly as it was, and its verdict as without them."""
    rules = Rules(ignores=tuple(ignores), today="2027-01-01")
    done = apply(findings, rules)
    others = [item for item in findings if not any(one.matches(item) for one in rules.valid)]
    kept = [after for before, after in zip(findings, done, strict=True) if before in others]
    assert kept == others
    if any(item.status is Status.FAIL for item in others):
        assert verdict_of(done) is Verdict.FAIL


@given(_findings, _findings)
def test_a_new_finding_is_never_forgiven(before, now):
    done = apply(now, Rules(baseline=tuple(before), today="2027-01-01"))
    forgiven = [item for item in done if item.is_waived]
    assert len(forgiven) <= sum(item.status in (Status.FAIL, Status.WARN) for item in before)
    for item in forgiven:
        assert any((item.code, item.subject) == (old.code, old.subject) for old in before)
        assert item.policy is not None
        assert not (item.policy.was is Status.FAIL and is_firm(item.code))
