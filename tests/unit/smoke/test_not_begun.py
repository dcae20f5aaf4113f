"""A unit that was not started: systemd's own words, with the line of the project's file, or the condition."""

from pathlib import Path

import pytest

from cgroup_preflight.config.load import load
from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.base import UnitState
from cgroup_preflight.plan.build import build_plan, scoped
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.findings import service_findings
from cgroup_preflight.smoke.own_units import own_unit_findings
from tests.unit.smoke.fabricate import evidence

_RUN = "cgpf0123456789ab"
_UNIT = """\
# a comment
[Unit]
Requires=other.service
Description=x
[Service]
Type=simple
MemoryMax=12Q
ExecStart=bin/../sleep 600
ExecCondition=/bin/false
Slice=other.slice
"""


def _evidence(tmp_path: Path, *, refused: str = "", unmet: tuple[str, ...] = (), result: str = "") -> ServiceEvidence:
    (tmp_path / "deploy").mkdir(exist_ok=True)
    (tmp_path / "deploy/web.service").write_text(_UNIT)
    config = tmp_path / "c.toml"
    config.write_text("[project]\nname = 'shop'\n[services.web]\nunit = 'deploy/web.service'\nMemoryMax = '64M'\n")
    (service,) = scoped(build_plan(load(config)), _RUN).services
    return ServiceEvidence(
        service=service, engine="systemd", refused=refused, unmet=unmet, state=UnitState(result=result)
    )


def _line(tmp_path: Path, text: str) -> int:
    """The number of a line of the copy."""
    own = _evidence(tmp_path).service.run_unit
    assert own is not None
    return own.text.splitlines().index(text) + 1


@pytest.mark.parametrize(
    ("words", "found", "line"),
    [
        ("{file}:{exec}: Neither a valid executable name: bin/../sleep", "deploy/web.service:8: Neither a valid", 8),
        (("{file}:{memory}: Invalid memory limit '12Q', ignoring: Invalid argument\n"
         "{file}:{exec}: Unbalanced quoting, ignoring: x\n{unit}: Service has no ExecStart=. Refusing."),
         "deploy/web.service:8: Unbalanced quoting, ignoring: x", 8),
        (("{file}:{memory}: Invalid memory limit '12Q', ignoring: Invalid argument\n"
         "{unit}: Service has more than one ExecStart= setting. Refusing."), "Service has more than one ExecStart=", None),
    ],
)  # fmt: skip
def test_what_systemd_refuses_is_told_with_the_line_of_the_projects_file(
    tmp_path: Path, words: str, found: str, line: int | None
) -> None:
    unit = f"{_RUN}-web.service"
    said = words.format(
        file=f"/run/systemd/system/{unit}", unit=unit, memory=_line(tmp_path, "MemoryMax=12Q"),
        exec=_line(tmp_path, "ExecStart=bin/../sleep 600"),
    )  # fmt: skip
    (finding,) = service_findings(_evidence(tmp_path, refused=said), required=(), swap=False)
    assert (finding.code, finding.status) == ("CGP507", Status.FAIL)
    assert finding.message.startswith(f"systemd refuses its unit: {found}")
    assert _RUN not in finding.message
    assert "correct deploy/web.service" in finding.remedies[0].title
    where = finding.location
    if line is not None:
        assert where is not None
        assert (where.file, where.line) == ("deploy/web.service", line)


@pytest.mark.parametrize(
    "words",
    ["Failed to start: no answer", f"/x/{_RUN}-web.service.d/10-x.conf:3: odd", f"/x/{_RUN}-web.service:99: odd"],
)
def test_a_refusal_that_is_not_about_the_projects_file_does_not_blame_it(tmp_path: Path, words: str) -> None:
    (finding,) = service_findings(_evidence(tmp_path, refused=words), required=(), swap=False)
    assert (finding.code, finding.status) == ("CGP507", Status.UNVERIFIED)
    assert "journal" in finding.remedies[0].title


@pytest.mark.parametrize("engine", ["systemd", "cgroupfs"])
def test_without_a_service_manager_no_journal_says_why_a_service_did_not_start(engine: str) -> None:
    seen = evidence(engine=engine, refused="it has a setting that only systemd can give", cgroup="")
    (finding,) = service_findings(seen, required=(), swap=False)
    assert (finding.code, finding.status) == ("CGP507", Status.UNVERIFIED)
    assert ("service manager" in finding.message) is (engine == "systemd")
    assert ("journal" in finding.remedies[0].title) is (engine == "systemd")


@pytest.mark.parametrize(
    ("unmet", "result", "words"),
    [
        (("ConditionPathExists=/dev/nvidia0",), "success", "ConditionPathExists=/dev/nvidia0"),
        (("ConditionHost=a", "AssertPathExists=/b"), "", "ConditionHost=a, AssertPathExists=/b"),
        ((), "exec-condition", "ExecCondition=/bin/false"),
    ],
)
def test_a_condition_that_is_not_met_is_named(tmp_path: Path, unmet: tuple[str, ...], result: str, words: str) -> None:
    seen = _evidence(tmp_path, unmet=unmet, result=result)
    (finding,) = service_findings(seen, required=(), swap=False)
    assert (finding.code, finding.status) == ("CGP507", Status.UNVERIFIED)
    assert finding.message == f"it was not started, because a condition was not met: {words}"


@pytest.mark.parametrize(
    ("own", "config", "status", "words"),
    [
        ("Slice=other.slice", "", Status.WARN, "the limits of Slice=other.slice of deploy/web.service were not tested"),
        (
            "Slice=system-web.slice",
            "",
            Status.SKIP,
            "the limits of Slice=system-web.slice of deploy/web.service were not tested",
        ),
        ("Slice=other.slice", "slice = 'api'", Status.SKIP, "slice = api of the config wins over Slice=other.slice"),
        ("Slice=other.slice\nSlice=api.slice", "", None, ""),
        ("Slice=api.slice", "slice = 'api'", None, ""),
        ("Nice=1", "slice = 'api'", None, ""),
        ("Slice=", "", None, ""),
    ],
)
def test_a_slice_of_the_unit_that_the_run_does_not_use_is_told(
    tmp_path: Path, own: str, config: str, status: Status | None, words: str
) -> None:
    (tmp_path / "deploy").mkdir(exist_ok=True)
    (tmp_path / "deploy/web.service").write_text(f"[Service]\nExecStart=/web\n{own}\n")
    path = tmp_path / "c.toml"
    path.write_text(
        f"[project]\nname = 'shop'\n[slices.api]\nMemoryMax = '1G'\n[services.web]\nunit = 'deploy/web.service'\n{config}\n"
    )
    made = load(path)
    found = list(own_unit_findings(made.services, [item.name for item in made.slices]))
    assert [item.status for item in found] == ([] if status is None else [status])
    if status is not None:
        assert found[0].message.startswith(words)
        assert found[0].location is not None
        assert found[0].location.file == "deploy/web.service"
        assert bool(found[0].remedies) is (status is Status.WARN)
