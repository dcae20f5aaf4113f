"""The checks of GOMAXPROCS and quotas, both ways, with the line that causes each."""

import pytest

from cgroup_preflight.core.report import Status
from tests.unit.checks.go.making import OFF, app, findings, go_program, of, statuses


def test_a_quota_on_the_slice_only_is_invisible() -> None:
    found = findings(app(slices='CPUQuota = "300%"'))
    (item,) = of(found, "CGP402")
    assert item.status is Status.WARN
    assert item.location is not None
    assert item.location.line == 2
    assert "3 CPUs at s.slice" in item.message
    assert "CPUQuota=300%" in item.remedies[0].title


def test_the_same_quota_on_the_unit_is_seen() -> None:
    assert not of(findings(app('CPUQuota = "300%"', slices='CPUQuota = "300%"')), "CGP402")


def test_a_looser_quota_on_the_unit_hides_the_slice() -> None:
    (item,) = of(findings(app('CPUQuota = "400%"', slices='CPUQuota = "300%"')), "CGP402")
    assert "the looser one of app.service (4 CPUs)" in item.message


def test_a_number_in_the_environment_makes_it_visible() -> None:
    assert not of(findings(app(slices='CPUQuota = "300%"', env='GOMAXPROCS = "3"')), "CGP402")


def test_what_the_generated_settings_fix_is_a_pass_that_says_so() -> None:
    found = findings(app(slices='CPUQuota = "300%"', go_settings=True))
    (item,) = of(found, "CGP402")
    assert (item.status, item.remedies) == (Status.PASS, ())
    assert "the generated settings fix this" in item.message
    assert not statuses(found)


def test_throttling_in_numbers() -> None:
    (item,) = of(findings(app('CPUQuota = "200%"'), go_program("go1.24.1")), "CGP403")
    assert item.status is Status.WARN
    assert "runs 25 ms of each 100 ms and is stopped for 75 ms (75%)" in item.message
    assert item.evidence["stopped_share"] == 0.75
    assert item.location is not None
    assert item.location.line == 5


def test_the_period_of_the_quota_counts() -> None:
    (item,) = of(findings(app('CPUQuota = "100%"', 'CPUQuotaPeriodSec = "10ms"')), "CGP403")
    assert "runs 5 ms of each 10 ms" in item.message


def test_rounding_up_is_information() -> None:
    (item,) = of(findings(app('CPUQuota = "310%"')), "CGP403")
    assert item.status is Status.PASS
    assert not of(findings(app('CPUQuota = "150%"')), "CGP403")  # rounded up it is what this tool would set, too
    assert not of(findings(app('CPUQuota = "200%"')), "CGP403")
    assert not of(findings(app('CPUQuota = "900%"'), go_program("go1.24.1")), "CGP403")


def test_a_number_too_large_is_at_the_line_that_sets_it() -> None:
    (item,) = of(findings(app('CPUQuota = "200%"', env='GOMAXPROCS = "6"')), "CGP403")
    assert item.location is not None
    assert item.location.line == 8


def test_a_go_that_does_not_read_its_quota() -> None:
    (item,) = of(findings(app('CPUQuota = "200%"'), go_program("go1.24.1")), "CGP404")
    assert "Go >= 1.25 does" in item.message
    assert [remedy.title.split(":")[0] for remedy in item.remedies][-1] == "set GOMAXPROCS=2"


def test_a_go_line_below_1_25() -> None:
    (item,) = of(findings(app('CPUQuota = "200%"'), go_program("go1.27.3", ("DefaultGODEBUG", OFF))), "CGP404")
    assert "go line below 1.25" in item.message
    assert "GODEBUG=containermaxprocs=1,updatemaxprocs=1" in item.remedies[0].title
    assert "raise the go line" in item.remedies[1].title
    assert "CPUQuota" not in item.remedies[0].why
    (item,) = of(findings(app(slices='CPUQuota = "200%"'), go_program("go1.27.3", ("DefaultGODEBUG", OFF))), "CGP404")
    assert "with CPUQuota=200% on the service as well" in item.remedies[0].why


def test_a_line_in_the_source_that_switches_it_off() -> None:
    own = go_program("go1.27.3", ("DefaultGODEBUG", "containermaxprocs=0"))
    (item,) = of(findings(app('CPUQuota = "200%"'), own), "CGP404")
    assert "//go:debug" in item.message
    assert "remove that line" in item.remedies[1].title


def test_godebug_against_it_is_at_its_own_line() -> None:
    (item,) = of(findings(app('CPUQuota = "200%"', env='GODEBUG = "containermaxprocs=0"')), "CGP404")
    assert item.location is not None
    assert item.location.line == 8
    assert "containermaxprocs=0,containermaxprocs=1" in item.remedies[0].title
    assert not any("go line" in remedy.title for remedy in item.remedies)


def test_awareness_does_not_matter_without_a_quota_or_with_a_number() -> None:
    old = go_program("go1.24.1")
    assert not of(findings(app(), old), "CGP404")
    assert not of(findings(app('CPUQuota = "200%"', env='GOMAXPROCS = "2"'), old), "CGP404")
    assert not of(findings(app('CPUQuota = "200%"')), "CGP404")


def test_automaxprocs_reads_it_instead() -> None:
    linked = go_program("go1.24.1", deps=(("go.uber.org/automaxprocs", "v1.6.0"),))
    found = findings(app('CPUQuota = "200%"'), linked)
    assert not of(found, "CGP404")
    (item,) = of(found, "CGP410")
    assert item.status is Status.PASS
    assert "sets GOMAXPROCS=2 once" in item.message


def test_what_automaxprocs_sets_is_what_counts() -> None:
    linked = go_program("go1.24.1", deps=(("go.uber.org/automaxprocs", "v1.6.0"),))
    assert not statuses(findings(app('CPUQuota = "200%"'), linked))
    assert of(findings(app('CPUQuota = "200%"')), "CGP410") == []
    (item,) = of(findings(app(slices='CPUQuota = "200%"'), linked), "CGP403")
    assert item.status is Status.WARN


def test_a_mask_no_larger_than_the_quota_leaves_nothing_to_see() -> None:
    for program in (go_program("go1.24.1"), go_program()):
        masked = 'CPUQuota = "300%"\nAllowedCPUs = "0-2"'
        assert not statuses(findings(app(slices=masked), program))
        assert statuses(findings(app(slices=masked.replace("0-2", "0-5")), program))


def test_automaxprocs_is_as_blind_for_the_slice() -> None:
    linked = go_program("go1.24.1", deps=(("go.uber.org/automaxprocs", "v1.6.0"),))
    (item,) = of(findings(app(slices='CPUQuota = "200%"'), linked), "CGP410")
    assert item.status is Status.WARN
    assert item.location is not None
    assert item.location.line == 2


def test_an_aware_runtime_does_not_need_automaxprocs() -> None:
    linked = go_program("go1.27.3", deps=(("go.uber.org/automaxprocs", "v1.6.0"),))
    (item,) = of(findings(app('CPUQuota = "200%"'), linked), "CGP410")
    assert "remove automaxprocs" in item.remedies[0].title
    assert not of(findings(app('CPUQuota = "200%"')), "CGP410")


@pytest.mark.parametrize("text", ["0", "1.5", "200%", "-2", " 2"])
def test_a_number_that_is_ignored(text: str) -> None:
    (item,) = of(findings(app('CPUQuota = "200%"', env=f'GOMAXPROCS = "{text}"')), "CGP420")
    assert (item.status, item.location and item.location.line) == (Status.WARN, 8)
    assert "set GOMAXPROCS=2" in item.remedies[0].title


def test_a_number_that_counts_or_none() -> None:
    for env in ("", 'GOMAXPROCS = "2"', 'GOMAXPROCS = ""', 'GOMAXPROCS = "100"'):
        assert not of(findings(app(env=env)), "CGP420")


def test_threads_need_tasks() -> None:
    (item,) = of(findings(app('TasksMax = "20"', 'CPUQuota = "800%"')), "CGP414")
    assert "set TasksMax to 24" in item.remedies[0].title
    assert item.location is not None
    assert item.location.line == 5
    assert not of(findings(app('TasksMax = "24"')), "CGP414")
    assert not of(findings(app('TasksMax = "20"', 'CPUQuota = "200%"')), "CGP414")
