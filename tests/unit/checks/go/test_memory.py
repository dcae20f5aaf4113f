"""The checks of GOMEMLIMIT and memory limits, both ways, with the line that causes each."""

from dataclasses import replace

import pytest

from cgroup_preflight.checks.go.base import Measured
from cgroup_preflight.core.report import Status
from tests.unit.checks.go.making import TARGET, app, findings, go_program, of

MIB = 1 << 20


def test_no_limit_of_the_runtime_under_one_of_the_kernel() -> None:
    (item,) = of(findings(app('MemoryMax = "512M"')), "CGP405")
    assert item.status is Status.WARN
    assert item.location is not None
    assert item.location.line == 5
    assert "GOMEMLIMIT=460MiB" in item.remedies[0].title


def test_the_tighter_of_slice_and_unit_counts() -> None:
    (item,) = of(findings(app('MemoryMax = "512M"', slices='MemoryHigh = "256M"')), "CGP405")
    assert "MemoryHigh=256M at s.slice" in item.message
    assert "slows it down" in item.message
    assert "kills it" in of(findings(app('MemoryMax = "512M"')), "CGP405")[0].message
    assert item.location is not None
    assert item.location.line == 2


@pytest.mark.parametrize(
    ("lines", "env"),
    [(['MemoryMax = "512M"'], 'GOMEMLIMIT = "400MiB"'), ([], ""), (['MemoryMax = "512M"'], 'GOMEMLIMIT = "400M"')],
)
def test_where_a_limit_is_there_or_none_is_needed_or_worse_is_wrong(lines: list[str], env: str) -> None:
    assert not of(findings(app(*lines, env=env)), "CGP405")


def test_a_small_one_and_one_switched_off_are_information() -> None:
    small = of(findings(app('MemoryMax = "64M"')), "CGP405")
    off = of(findings(app('MemoryMax = "512M"', env='GOMEMLIMIT = "off"')), "CGP405")
    assert [item.status for item in (*small, *off)] == [Status.PASS, Status.PASS]
    assert [item.remedies for item in (*small, *off)] == [(), ()]


def test_a_program_that_may_set_one_itself() -> None:
    linked = go_program(names=frozenset({"set_memory_limit"}))
    (item,) = of(findings(app('MemoryMax = "512M"'), linked), "CGP405")
    assert "debug.SetMemoryLimit is linked" in item.message


def test_nobody_is_told_to_set_a_limit_that_does_harm() -> None:
    small = ('MemoryHigh = "40M"',)
    (lock,) = of(findings(app(*small)), "CGP409")
    (above,) = of(findings(app(*small, env='GOMEMLIMIT = "50MiB"')), "CGP407")
    assert not any("set GOMEMLIMIT" in remedy.title for remedy in (*lock.remedies, *above.remedies))
    assert "remove GOMEMLIMIT" in above.remedies[0].title


def test_automemlimit_sets_it() -> None:
    linked = go_program(deps=(("github.com/KimMachineGun/automemlimit", "v0.7.1"),))
    assert not of(findings(app('MemoryMax = "512M"'), linked), "CGP405")
    found = findings(app(slices='MemoryMax = "512M"'), linked)
    assert of(found, "CGP405")
    assert of(found, "CGP410")[0].status is Status.WARN


def test_a_malformed_limit_is_a_fail_at_its_line() -> None:
    (item,) = of(findings(app('MemoryMax = "1G"', env='GOMEMLIMIT = "900M"')), "CGP406")
    assert item.status is Status.FAIL
    assert item.location is not None
    assert item.location.line == 8
    assert "GOMEMLIMIT=900MiB" in item.remedies[0].title
    assert not of(findings(app(env='GOMEMLIMIT = "900MiB"')), "CGP406")


@pytest.mark.parametrize(
    ("limit", "statuses"),
    [("600MiB", [Status.FAIL]), ("512MiB", [Status.FAIL]), ("500MiB", [Status.WARN]), ("460MiB", [])],
)
def test_above_memory_max(limit: str, statuses: list[Status]) -> None:
    found = of(findings(app('MemoryMax = "512M"', env=f'GOMEMLIMIT = "{limit}"')), "CGP407")
    assert [item.status for item in found] == statuses


def test_above_memory_high() -> None:
    (item,) = of(findings(app('MemoryMax = "512M"', 'MemoryHigh = "300M"', env='GOMEMLIMIT = "400MiB"')), "CGP407")
    assert (item.status, "slows" in item.message) == (Status.WARN, True)


@pytest.mark.parametrize(("live", "found"), [(100, 0), (150, 0), (165, 1), (250, 1)])
def test_near_the_live_heap(live: int, found: int) -> None:
    text = app('MemoryMax = "256M"', env='GOMEMLIMIT = "200MiB"')
    seen = of(findings(text, measured=Measured(live=live * MIB, other=4 * MIB)), "CGP408")
    assert len(seen) == found
    assert all("raise MemoryMax to" in item.remedies[0].title for item in seen)


def test_without_a_measurement_or_a_limit_nothing_is_near() -> None:
    assert not of(findings(app(env='GOMEMLIMIT = "200MiB"')), "CGP408")
    assert not of(findings(app(), measured=Measured(live=200 * MIB)), "CGP408")
    assert not of(findings(app(env='GOMEMLIMIT = "200MiB"'), measured=Measured()), "CGP408")


@pytest.mark.parametrize(("text", "remedy"), [("512", "512MiB"), ("0", "off"), ("2MiB", "off"), ("4MiB", None)])
def test_a_limit_that_no_program_can_keep(text: str, remedy: str | None) -> None:
    config = app('MemoryMax = "1G"', env=f'GOMEMLIMIT = "{text}"')
    found = of(findings(config), "CGP408")
    assert [item.status for item in found] == ([Status.WARN] if remedy else [])
    assert all(f"set GOMEMLIMIT={remedy}:" in item.remedies[0].title for item in found)
    assert all(item.location is not None and item.location.line == 8 for item in found)
    # Said before it ran, it is not said again after.
    assert len(of(findings(config, measured=Measured(live=8 * MIB)), "CGP408")) == (0 if remedy else 1)


def test_the_live_lock_of_memory_high() -> None:
    (item,) = of(findings(app('MemoryHigh = "300M"')), "CGP409")
    assert item.status is Status.WARN
    assert item.location is not None
    assert item.location.line == 5
    swap = replace(TARGET, swap=True)
    assert not of(findings(app('MemoryHigh = "300M"'), target=swap), "CGP409")
    assert of(findings(app('MemoryHigh = "300M"', "MemorySwapMax = 0"), target=swap), "CGP409")
    assert of(findings(app('MemoryHigh = "300M"', slices="MemorySwapMax = 0"), target=swap), "CGP409")
    assert not of(findings(app('MemoryHigh = "300M"', env='GOMEMLIMIT = "270MiB"')), "CGP409")
    assert not of(findings(app('MemoryHigh = "300M"', slices='MemoryMax = "200M"')), "CGP409")
    assert not of(findings(app('MemoryMax = "300M"')), "CGP409")


SECOND = '[services.second]\nbinary = "other"\nslice = "s"\n'


def test_a_limit_that_several_services_share() -> None:
    for lines, slices, count in (
        ([], 'MemoryMax = "1G"', 1),
        (['MemoryMax = "400M"'], 'MemoryMax = "1G"', 0),
        (['MemoryMax = "2G"'], 'MemoryMax = "1G"', 1),
        (["gomemlimit_ratio = 0.5"], 'MemoryMax = "1G"', 0),
        ([], "", 0),
    ):
        text = app(*lines, slices=slices, go_settings=True)
        found = of(findings(text + SECOND), "CGP421")
        assert len(found) == count, (lines, slices)
        assert not of(findings(text), "CGP421")
        assert all((item.status, item.location and item.location.line) == (Status.WARN, 2) for item in found)
        assert all("such as 512M" in item.remedies[0].title for item in found)


def test_memory_of_c_code_is_information() -> None:
    cgo = go_program("go1.27.3", ("CGO_ENABLED", "1"), interpreter="/bin/sh", names=frozenset({"cgo"}))
    (item,) = of(findings(app('MemoryMax = "300M"'), cgo), "CGP411")
    assert item.status is Status.PASS
    static = go_program("go1.27.3", ("CGO_ENABLED", "1"))
    assert not of(findings(app(), static), "CGP411")
    assert not of(findings(app(), go_program("go1.27.3", ("CGO_ENABLED", "0"), names=frozenset({"cgo"}))), "CGP411")


def test_a_limit_of_address_space() -> None:
    (item,) = of(findings(app(), measured=Measured(address_space=500 * MIB)), "CGP413")
    assert "500M" in item.message
    assert not of(findings(app(), measured=Measured()), "CGP413")
