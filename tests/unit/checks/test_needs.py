"""What a check says it needs is what it judges by: nothing else is looked at, and without it there is no pass."""

import dataclasses
from typing import Any

import pytest

from cgroup_preflight.checks import CHECKS
from cgroup_preflight.checks.runner import load_check
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.report import Status
from cgroup_preflight.host.facts import Facts, UserManager
from tests.unit.checks import hosts
from tests.unit.checks.cases import PASSES, REAL_TIME_BUT_ENABLED, SAYS_OTHERWISE, Case

_FIELDS = tuple(item.name for item in dataclasses.fields(Facts))
#: What properties of Facts and Context look at in a check's stead.
_THROUGH = {"root_controllers": "root", "mount_point": "cgroup_mount"}
#: Who is judged is decided before any check: `Context.judged` and the engine look at these.
_ENGINE = {"systemd_running", "user_manager", "cgroup_mount"}
_BLANK = "/blanked"


class Watched:
    """Facts that remember which of their fields were read."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.seen: set[str] = set()

    def __getattr__(self, name: str) -> object:
        self.seen.add(_THROUGH.get(name, name))
        return getattr(self._facts, name)


def _contexts():
    cases = [*PASSES.values(), *(case for _, case in SAYS_OTHERWISE)]
    for name in hosts.NAMES:
        yield hosts.judge(hosts.facts_of(hosts.recording(name)), hosts.shop())[0]
    for case in cases:
        config = hosts.config_of(case.config) if case.config else None
        yield hosts.judge(hosts.facts_of(case.document()), config)[0]


@pytest.fixture(scope="module")
def looked_at() -> dict[str, set[str]]:
    """For each code, the fields that it read on any host."""
    seen: dict[str, set[str]] = {code: set() for code in CHECKS}
    for context in _contexts():
        for code in CHECKS:
            check = load_check(code)
            facts = Watched(context.facts)
            list(check.run(dataclasses.replace(context, facts=facts)))
            seen[code] |= facts.seen
    return seen


@pytest.mark.parametrize("code", CHECKS)
def test_nothing_else_is_looked_at(code, looked_at):
    check = load_check(code)
    declared = set(check.needs) | set(check.uses)
    assert looked_at[code] <= declared | _ENGINE
    assert declared <= looked_at[code], "declared, and never looked at"


def _blanked(value: object, why: Why) -> object:
    """Every reading in a fact made missing, at any depth."""
    if isinstance(value, Known | Missing):
        return Missing(source=_BLANK, why=why)
    if isinstance(value, tuple):
        return tuple(_blanked(item, why) for item in value)
    if isinstance(value, UserManager):
        # Without its socket there is no user manager to be judged, see test_without_a_user_manager.
        return dataclasses.replace(_blanked_parts(value, why), socket=value.socket)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _blanked_parts(value, why)
    if isinstance(value, dict):
        return {key: _blanked(item, why) for key, item in value.items()}
    return value


def _blanked_parts(value: Any, why: Why) -> Any:
    parts = {item.name: _blanked(getattr(value, item.name), why) for item in dataclasses.fields(value)}
    return dataclasses.replace(value, **parts)


def test_without_a_user_manager():
    facts = hosts.facts_of(hosts.recording("debian-12-user-delegated"))
    gone = Missing(source=_BLANK, why=Why.DENIED)
    facts = dataclasses.replace(facts, user_manager=dataclasses.replace(facts.user_manager, socket=gone))
    context, findings = hosts.judge(facts)
    assert hosts.codes(findings, Status.UNVERIFIED) == ["CGP105"]
    assert _BLANK in context.engine.why_not


def _said(code: str, field: str, why: Why | None = None):
    """The findings of a host on which the check judges by `field`; with `why` that is taken away before."""
    case = _BY_FIELD.get((code, field), PASSES[code])
    config = hosts.config_of(case.config) if case.config else None
    facts = hosts.facts_of(case.document())
    if why is not None:
        facts = dataclasses.replace(facts, **{field: _blanked(getattr(facts, field), why)})
    _, findings = hosts.judge(facts, config)
    return [item for item in findings if item.code == code]


@pytest.mark.parametrize("why", [Why.DENIED, Why.NOT_RECORDED, Why.MALFORMED, Why.FAILED])
@pytest.mark.parametrize(("code", "field"), [(code, name) for code in CHECKS for name in load_check(code).needs])
def test_without_what_it_needs_there_is_no_pass(code, field, why):
    assert {item.status for item in _said(code, field)} == {Status.PASS}
    findings = _said(code, field, why)
    said = {item.status for item in findings}
    assert said & {Status.UNVERIFIED, Status.SKIP, Status.WARN}, findings
    assert Status.FAIL not in said, findings
    if Status.SKIP not in said:
        assert any(_BLANK in f"{item.message} {item.evidence}" for item in findings), findings


#: Where the host that passes the code is not one on which it looks at the field.
_BY_FIELD = {
    **{(code, "user_manager"): Case(host="debian-12-user-delegated", says="pass", config=PASSES[code].config)
       for code in ("CGP102", "CGP105", "CGP110", "CGP111", "CGP122", "CGP125")},
    ("CGP105", "sudo"): Case(host="debian-12-sudo", says="pass"),
    ("CGP108", "manager_mount"): Case(host="debian-12-job-sees-read-only", says="pass"),
    ("CGP112", "root"): Case(host="raspberry-pi-memory-on", says="pass"),
    ("CGP114", "root"): REAL_TIME_BUT_ENABLED,
    ("CGP115", "sample"): Case(host="rhel-9", says="pass"),
}  # fmt: skip


def test_each_field_of_the_facts_is_of_use(looked_at):
    used = set().union(*looked_at.values())
    #: For the plan, the smoke run and the report.
    others = {"machine", "pid_max", "threads_max", "page_size", "own_cgroup", "pid1", "kernel"}
    assert set(_FIELDS) - used - others == set()
