"""What the checks say of the engine cgroupfs."""

import dataclasses

import pytest

from cgroup_preflight.checks.runner import load_check
from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.choice import choose_engine
from tests.unit.checks.contexts import REQUIRED, context
from tests.unit.engines.test_choice_cgroupfs import BARE, level, place
from tests.unit.host.fabricate import facts


def engine_finding(where, wanted="cgroupfs"):
    found = facts(1000, **BARE)
    choice = choose_engine(found, wanted, REQUIRED, where)
    (finding,) = load_check("CGP105").run(dataclasses.replace(context(found), engine=choice))
    return finding


def test_a_cgroup_that_was_delegated_passes_and_names_only_what_was_rejected():
    assert engine_finding(place()).message == "this tool makes cgroups itself below /job"
    assert "(rejected: systemd: systemd is not PID 1" in engine_finding(place(), "auto").message


@pytest.mark.parametrize("wanted", ["auto", "cgroupfs"])
def test_a_level_that_lacks_a_controller_fails_with_the_level(wanted):
    finding = engine_finding(place(level=level(controllers=frozenset({"cpu"}))), wanted)
    assert finding.status is Status.FAIL
    assert "memory missing at the level /job" in finding.message
    assert finding.remedies[0].title.startswith("enable these controllers for /job: the cgroup above")


def test_a_cgroup_that_was_not_delegated_says_nothing_about_the_host():
    finding = engine_finding(place(denied=("cgroup.procs",)))
    assert finding.status is Status.UNVERIFIED
    assert "chown" in finding.message
