"""Every check of the table on every kind of host: a finding at least, an answer never by exception."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.checks import CHECKS
from cgroup_preflight.checks.base import Check
from cgroup_preflight.checks.runner import load_check, run_checks
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.report import Status, Verdict
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.host.facts import Facts
from tests.unit.checks.contexts import CODES, context
from tests.unit.host.fabricate import HYBRID, LEGACY, ROOT_MOUNT, facts, gathered, unreadable

CONFIG = """\
[slices.a]
MemoryMax = "1G"
IOWeight = 50
AllowedCPUs = "0-1"
MemoryZSwapMax = "64M"
[services.x]
binary = "x"
slice = "a"
CPUQuota = "50%"
CPUWeight = "idle"
MemorySwapMax = 0
ManagedOOMMemoryPressure = "kill"
"""
HOSTS = {
    "good": gathered,
    "user": lambda: gathered(1000),
    "hybrid": lambda: gathered(mountinfo=HYBRID),
    "legacy": lambda: gathered(mountinfo=LEGACY),
    "none": lambda: gathered(mountinfo=ROOT_MOUNT),
    "container": lambda: gathered(booted=None, comm="tail\n", cgroup="0::/\n", controllers="cpu memory\n"),
    "no cgroup of its own": lambda: gathered(cgroup=2),
    "outside": lambda: gathered(cgroup="0::/../x\n"),
}
READINGS = [
    field.name for field in dataclasses.fields(Facts) if isinstance(getattr(gathered(), field.name), Known | Missing)
]


@pytest.mark.parametrize("config", ["", CONFIG], ids=["no config", "config"])
@pytest.mark.parametrize("host", HOSTS)
def test_every_check_answers_on_every_host(host, config):
    made = context(HOSTS[host](), config=config)
    for code in CODES:
        check = load_check(code)
        findings = list(check.run(made))
        assert findings, f"{code} is silent"
        for item in findings:
            assert item.code == code
            assert item.message
            if item.status in (Status.FAIL, Status.UNVERIFIED):
                assert item.remedies, f"{code} tells no next step: {item.message}"
            for remedy in item.remedies:
                assert remedy.title
                assert all(isinstance(word, str) and word for command in remedy.commands for word in command)


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        ("good", Verdict.PASS),
        ("hybrid", Verdict.FAIL),
        ("legacy", Verdict.FAIL),
        ("none", Verdict.FAIL),
        ("container", Verdict.UNVERIFIED),
    ],
)
def test_the_verdict_on_each_kind_of_host(host, verdict):
    assert verdict_of(run_checks(context(HOSTS[host]()))) is verdict


def test_the_order_is_the_tables():
    codes = [item.code for item in run_checks(context(gathered()))]
    assert sorted(set(codes), key=codes.index) == [code for code in CHECKS if code in codes]


@given(
    st.sets(st.sampled_from(READINGS), min_size=1, max_size=5),
    st.sampled_from(list(Why)),
    st.sampled_from([0, 1000]),
    st.booleans(),
)
@settings(max_examples=150)
def test_any_readings_may_be_missing(fields, why, uid, with_config):
    """No check has a defect, whichever facts could not be had; run_checks turns a defect into a finding of its own."""
    made = context(facts(uid, **{name: unreadable(why=why) for name in fields}), config=CONFIG if with_config else "")
    for item in run_checks(made):
        assert "defect" not in item.message, f"{item.code}: {item.message}"


def test_everything_missing_is_no_pass():
    made = context(facts(**{name: unreadable() for name in READINGS}))
    assert verdict_of(run_checks(made)) is not Verdict.PASS


def test_a_check_that_breaks_is_a_finding_and_hides_no_other(monkeypatch):
    def broken(made):
        raise KeyError("x" * 1000)

    real = load_check("CGP103")
    with monkeypatch.context() as patch:
        patch.setattr(
            "cgroup_preflight.checks.runner.load_check",
            lambda code: dataclasses.replace(real, run=broken) if code == "CGP103" else load_check(code),
        )
        findings = run_checks(context(gathered()))
    (found,) = [item for item in findings if item.code == "CGP103"]
    assert found.status is Status.UNVERIFIED
    assert "KeyError" in found.message
    assert len(found.message) <= 300
    assert {item.code for item in findings} >= set(CODES) - {"CGP103"}


@pytest.mark.parametrize("code", CODES)
def test_each_check_is_what_the_table_says(code):
    check = load_check(code)
    assert isinstance(check, Check)
    assert check.code.code == code
