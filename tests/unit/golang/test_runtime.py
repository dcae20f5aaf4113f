"""The model of the Go runtime: every rule of the table, both ways."""

import pytest

from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.golang.modinfo import BuildInfo
from cgroup_preflight.golang.runtime import RuntimePrediction, predict
from cgroup_preflight.golang.runtime_rules import minor, rules_for

OFF = "containermaxprocs=0,decoratemappings=0,updatemaxprocs=0"


def build(version: str = "go1.27.3", default: str | None = None) -> BuildInfo:
    return BuildInfo(go_version=version, settings=(("DefaultGODEBUG", default),) if default else ())


def chain(*cpus: float | None) -> Chain:
    """Levels from the unit outwards; a quota comes with its file, the unit's file without one is absent."""
    return Chain(
        levels=tuple(
            Level(name=f"level-{n}", cpus=quota, has_cpu_max=quota is not None) for n, quota in enumerate(cpus)
        )
    )


def choose(info: BuildInfo, limits: Chain, cpus: int = 16, **variables: str) -> RuntimePrediction:
    return predict(info, variables, limits, frozenset(range(cpus)))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("go1.27.3", 27),
        ("go1.25.5 X:arenas", 25),
        ("go1.27.3-X:nodwarf5", 27),
        ("devel go1.28-abc Mon", 28),
        ("go1.9", 9),
        ("go1.21.13-vendor.2", 21),
        ("go2.0", 1000),
        ("unknown", None),
        ("", None),
        ("go1", None),
    ],
)
def test_the_version_stands_anywhere_in_the_text(text: str, number: int | None) -> None:
    assert minor(text) == number


def test_an_unknown_version_is_never_an_old_one() -> None:
    assert rules_for("unknown") is None
    assert choose(build("unknown"), chain(3)).gomaxprocs is None
    assert choose(build("unknown"), chain(None)).gomaxprocs == 16
    assert choose(build("unknown"), chain(3), GOMAXPROCS="5").gomaxprocs == 5


# Observed with 16 CPUs on 1.25.5, 1.26.6 and 1.27.3.
@pytest.mark.parametrize(
    ("quota", "procs"),
    [(0.1, 2), (0.5, 2), (1, 2), (1.1, 2), (2, 2), (2.01, 3), (2.5, 3), (3.99, 4), (8.5, 9), (24, 16), (None, 16)],
)
@pytest.mark.parametrize("version", ["go1.25.5", "go1.26.6", "go1.27.3"])
def test_an_aware_runtime_rounds_up_and_never_goes_below_two(version: str, quota: float | None, procs: int) -> None:
    assert choose(build(version), chain(quota)).gomaxprocs == procs


@pytest.mark.parametrize(("cpus", "procs"), [(1, 1), (2, 2), (3, 2)])
def test_the_floor_gives_way_to_the_cpus(cpus: int, procs: int) -> None:
    assert choose(build(), chain(0.5), cpus).gomaxprocs == procs


@pytest.mark.parametrize("version", ["go1.4", "go1.18.1", "go1.21.13", "go1.24.11"])
def test_an_older_runtime_takes_all_cpus(version: str) -> None:
    seen = choose(build(version), chain(3), GODEBUG="containermaxprocs=1")
    assert (seen.gomaxprocs, seen.follows_cpu_max, seen.aware) == (16, False, False)


def test_only_the_quota_of_the_own_cgroup_is_seen() -> None:
    seen = choose(build(), chain(None, 3))
    assert seen.gomaxprocs == 16
    assert any("cannot see the quota of 3 CPUs at level-1" in why for why in seen.why)
    assert choose(build(), chain(4, 2)).gomaxprocs == 4
    assert choose(build(), chain(2, 4)).gomaxprocs == 2


@pytest.mark.parametrize(
    ("default", "variable", "procs", "follows"),
    [
        (None, "", 3, True),
        (OFF, "", 16, False),
        (OFF, "containermaxprocs=1", 3, False),
        (OFF, "containermaxprocs=1,updatemaxprocs=1", 3, True),
        (None, "containermaxprocs=0", 16, False),
        (None, "updatemaxprocs=0", 3, False),
        (None, "containermaxprocs=0,containermaxprocs=1", 3, True),
        (None, "containermaxprocs=yes,updatemaxprocs=", 3, True),
        (None, "containermaxprocs=-1", 16, False),
        (None, "containermaxprocs", 3, True),
        (None, "gctrace=1", 3, True),
    ],
)
def test_switches(default: str | None, variable: str, procs: int, *, follows: bool) -> None:
    seen = choose(build(default=default), chain(3), GODEBUG=variable)
    assert (seen.gomaxprocs, seen.follows_cpu_max) == (procs, follows)


@pytest.mark.parametrize(
    ("text", "procs"),
    [
        ("7", 7),
        ("100", 100),
        ("0", 3),
        ("-1", 3),
        ("abc", 3),
        ("1.5", 3),
        ("", 3),
        (" 7", 3),
        ("007", 7),
        ("2147483647", 2147483647),
        ("2147483648", 3),
        ("1_0", 3),
        ("٣", 3),
    ],
)
def test_the_number_of_the_environment_is_taken_literally_or_ignored(text: str, procs: int) -> None:
    seen = choose(build(), chain(3), GOMAXPROCS=text)
    assert seen.gomaxprocs == procs
    assert seen.from_environment is (procs != 3)
    assert seen.follows_cpu_max is (procs == 3)


def test_a_plus_sign_is_a_number_since_1_26_only() -> None:
    assert choose(build("go1.25.5"), chain(3), GOMAXPROCS="+7").gomaxprocs == 3
    assert choose(build("go1.26.6"), chain(3), GOMAXPROCS="+7").gomaxprocs == 7
    assert choose(build("go1.25.5"), chain(3), GOMEMLIMIT="+7MiB").fatal
    assert choose(build("go1.26.6"), chain(3), GOMEMLIMIT="+7MiB").gomemlimit_bytes == 7 << 20


def test_the_mask_of_cpus_narrows_level_by_level() -> None:
    inner = Level(name="unit", allowed_cpus=frozenset({0, 1, 2}))
    outer = Level(name="slice", allowed_cpus=frozenset({2, 3}))
    nothing = Level(name="unit", allowed_cpus=frozenset({9}))
    assert choose(build("go1.21.13"), Chain(levels=(inner, outer))).gomaxprocs == 1
    assert choose(build("go1.21.13"), Chain(levels=(nothing, outer))).gomaxprocs == 2


def test_a_line_of_version_1_wins() -> None:
    limits = Chain(levels=chain(8).levels, v1_cpu=True, v1_cpus=3)
    assert choose(build(), limits).gomaxprocs == 3
    assert choose(build(), Chain(levels=chain(8).levels, v1_cpu=True)).gomaxprocs == 16


def test_a_missing_file_is_no_limit_and_nothing_to_follow() -> None:
    absent = choose(build(), chain(None))
    unlimited = choose(build(), Chain(levels=(Level(name="unit", has_cpu_max=True),)))
    assert (absent.gomaxprocs, absent.follows_cpu_max) == (16, False)
    assert (unlimited.gomaxprocs, unlimited.follows_cpu_max) == (16, True)
    assert choose(build(), Chain(levels=())).gomaxprocs == 16


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("900MiB", 900 << 20),
        ("1000000", 1000000),
        ("1TiB", 1 << 40),
        ("7B", 7),
        ("0", 0),
        ("64KiB", 64 << 10),
        ("2GiB", 2 << 30),
        ("off", None),
        ("", None),
        (str((1 << 63) - 1), None),
    ],
)
def test_memory_limits_that_go_reads(text: str, count: int | None) -> None:
    seen = choose(build(), chain(None), GOMEMLIMIT=text)
    assert (seen.gomemlimit_bytes, seen.fatal) == (count, "")


@pytest.mark.parametrize(
    "text",
    ["900M", "900MB", "0.9GiB", "90%", "1 GiB", "-1", "1PiB", "iB", "B", "KiB", str(1 << 63), "9999999TiB", "１MiB"],
)
def test_memory_limits_that_end_the_program(text: str) -> None:
    assert "ends at once" in choose(build(), chain(None), GOMEMLIMIT=text).fatal
    assert not choose(build("go1.18.9"), chain(None), GOMEMLIMIT=text).fatal


def test_before_1_19_there_is_no_memory_limit() -> None:
    seen = choose(build("go1.18.9"), chain(None), GOMEMLIMIT="900MiB")
    assert seen.gomemlimit_bytes is None
    assert any("1.19" in why for why in seen.why)


def test_no_version_takes_its_memory_limit_from_the_cgroup() -> None:
    limits = Chain(levels=(Level(name="unit", memory_max=1 << 30, memory_high=1 << 29),))
    assert choose(build(), limits).gomemlimit_bytes is None
