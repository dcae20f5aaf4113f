"""The settings that a Go service gets: what, why, when not, and how the drop-in says it."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.golang.modinfo import BuildInfo, Module
from cgroup_preflight.golang.program import Binary
from cgroup_preflight.plan.build import build_plan, scoped
from cgroup_preflight.plan.go_settings import procs_for
from cgroup_preflight.plan.model import ServicePlan
from cgroup_preflight.plan.unitfile import drop_in_files
from tests.unit.core.making import config_of, mistakes_of

OFF = (("DefaultGODEBUG", "containermaxprocs=0,updatemaxprocs=0"),)


def program(version: str = "go1.27.3", settings: tuple[tuple[str, str], ...] = (), **deps: str) -> Binary:
    modules = tuple(Module(path=path, version=number) for path, number in deps.items())
    return Binary(path="/src/bin", info=BuildInfo(go_version=version, settings=settings, deps=modules))


def planned(text: str, binary: Binary | None = None) -> tuple[ServicePlan, str]:
    """The service and its drop-in; `text` are lines of [services.app], and tables behind them."""
    config = config_of(f'[services.app]\nbinary = "bin"\nslice = "s"\n{text}')
    plan = build_plan(config, programs={"app": binary or program()})
    return plan.services[0], drop_in_files(plan)[0].content


def variables(text: str, binary: Binary | None = None) -> dict[str, str]:
    return dict(planned(text, binary)[0].smoke.env)


def test_memory_limit_is_nine_tenths_in_bytes_rounded_down() -> None:
    assert variables('MemoryMax = "512M"\n[slices.s]') == {"GOMEMLIMIT": str(512 * 2**20 * 9 // 10)}
    assert variables('MemoryMax = "512M"\ngomemlimit_ratio = 0.5\n[slices.s]') == {"GOMEMLIMIT": str(256 << 20)}
    assert variables('MemoryMax = "100M"\nMemoryHigh = "90M"\n[slices.s]') == {"GOMEMLIMIT": str(90 * 2**20 * 9 // 10)}
    assert variables('MemoryMax = "512M"\n[slices.s]\nMemoryMax = "100M"') == {"GOMEMLIMIT": str(100 * 2**20 * 9 // 10)}


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('MemoryMax = "64M"\n[slices.s]', "below 64M"),
        ('MemoryMax = "50%"\n[slices.s]', "is a percentage of the host's memory"),
        ('MemoryMax = "512M"\nEnvironment = { GOMEMLIMIT = "1MiB" }\n[slices.s]', "GOMEMLIMIT stays as it was set"),
    ],
)
def test_no_memory_limit_and_why(text: str, note: str) -> None:
    service, drop_in = planned(text)
    assert "GOMEMLIMIT" not in dict(service.go.environment(())) if service.go else False
    assert note in re.sub(r"\s*\n#\s+", " ", drop_in)


def test_nothing_is_set_where_there_is_no_limit() -> None:
    service, drop_in = planned("[slices.s]")
    assert service.go is not None
    assert (service.go.items, service.go.notes, "Environment" in drop_in) == ((), (), False)


def test_a_quota_of_one_cpu_or_less_becomes_a_number() -> None:
    assert variables('CPUQuota = "40%"\n[slices.s]') == {"GOMAXPROCS": "1"}
    assert variables('CPUQuota = "100%"\n[slices.s]') == {"GOMAXPROCS": "1"}


@pytest.mark.parametrize("quota", ["150%", "200%", "250%"])
def test_an_aware_runtime_is_left_to_itself(quota: str) -> None:
    service, drop_in = planned(f'CPUQuota = "{quota}"\n[slices.s]')
    assert service.smoke.env == ()
    assert drop_in.count("CPUQuota") == 1


@pytest.mark.parametrize(
    ("quota", "procs"), [("110%", "1"), ("150%", "2"), ("200%", "2"), ("250%", "2"), ("399%", "3")]
)
def test_an_older_one_gets_a_number(quota: str, procs: str) -> None:
    assert variables(f'CPUQuota = "{quota}"\n[slices.s]', program("go1.24.1")) == {"GOMAXPROCS": procs}
    assert variables(f'CPUQuota = "{quota}"\n[slices.s]', program("unknown")) == {"GOMAXPROCS": procs}


@pytest.mark.parametrize(
    ("quota", "words"), [("110%", "rounded down"), ("150%", "rounded up"), ("200%", "in whole CPUs")]
)
def test_a_number_says_how_it_was_rounded(quota: str, words: str) -> None:
    service, _ = planned(f'CPUQuota = "{quota}"\n[slices.s]', program("go1.24.1"))
    assert service.go is not None
    (item,) = service.go.items
    assert [word for word in ("rounded down", "rounded up", "in whole CPUs") if word in item.why] == [words]


@given(st.floats(min_value=0.01, max_value=1000))
def test_a_number_is_never_a_cpu_above_the_quota_and_uses_three_quarters_of_it(quota: float) -> None:
    assert procs_for(quota) < quota + 1
    assert procs_for(quota) >= min(quota, 1) * 0.75
    assert procs_for(quota) >= quota * 0.75


@pytest.mark.parametrize("version", ["go1.24.1", "go1.27.3", "unknown"])
def test_a_number_never_exceeds_the_mask(version: str) -> None:
    masked = 'AllowedCPUs = "0-1"\n[slices.s]\nCPUQuota = "300%"'
    service, drop_in = planned(masked, program(version))
    assert (service.smoke.env, len(service.settings)) == ((), 1)
    assert "the 2 CPUs that AllowedCPUs leaves" in re.sub(r"\s*\n#\s+", " ", drop_in)
    loose, _ = planned(masked.replace("0-1", "0-3"), program(version))
    assert dict(loose.smoke.env).get("GOMAXPROCS") == (None if version == "go1.27.3" else "3")


@pytest.mark.parametrize("quota", ["50%", "300%"])
def test_what_the_source_of_the_program_decides_stays(quota: str) -> None:
    own = program(settings=(("DefaultGODEBUG", "containermaxprocs=0,tlssha1=1"),))
    service, drop_in = planned(f'CPUQuota = "{quota}"\n[slices.s]', own)
    assert service.smoke.env == ()
    assert "the program's own source" in re.sub(r"\s*\n#\s+", " ", drop_in)


def test_a_go_line_below_1_25_is_switched_on() -> None:
    text = 'CPUQuota = "300%"\n[slices.s]'
    assert variables(text, program(settings=OFF)) == {"GODEBUG": "containermaxprocs=1,updatemaxprocs=1"}


def test_godebug_is_appended_to_and_never_replaced() -> None:
    text = 'CPUQuota = "300%"\nEnvironment = { GODEBUG = "gctrace=1,updatemaxprocs=0" }\n[slices.s]'
    service, drop_in = planned(text, program(settings=OFF))
    assert dict(service.smoke.env)["GODEBUG"] == "gctrace=1,updatemaxprocs=0,containermaxprocs=1"
    lines = [line for line in drop_in.splitlines() if line.startswith("Environment=GODEBUG")]
    assert lines[-1] == "Environment=GODEBUG=gctrace=1,updatemaxprocs=0,containermaxprocs=1"


@pytest.mark.parametrize(
    "env", ['Environment = { GOMAXPROCS = "9" }', 'Environment = { GODEBUG = "containermaxprocs=0" }']
)
def test_what_the_user_set_stays(env: str) -> None:
    for quota in ("50%", "300%"):
        service, _ = planned(f'CPUQuota = "{quota}"\n{env}\n[slices.s]', program(settings=OFF))
        assert service.smoke.env == service.environment


def test_the_environment_of_the_smoke_table_is_the_users_too() -> None:
    text = 'MemoryMax = "512M"\n[services.app.smoke]\nenv = { GOMEMLIMIT = "1GiB", A = "b" }\n[slices.s]'
    service, drop_in = planned(text)
    assert dict(service.smoke.env) == {"GOMEMLIMIT": "1GiB", "A": "b"}
    assert "Environment" not in drop_in


def test_a_quota_of_the_slice_is_repeated_with_its_period() -> None:
    service, drop_in = planned('[slices.s]\nCPUQuota = "300%"\nCPUQuotaPeriodSec = "50ms"')
    assert [(item.property, item.text) for item in service.settings] == [
        ("CPUQuota", "300%"),
        ("CPUQuotaPeriodSec", "50ms"),
    ]
    assert service.own_settings == ()
    assert service.settings[0].location.line == 5
    assert re.search(
        r"# CPUQuota and CPUQuotaPeriodSec: the quota of s.slice again.*\n(#.*\n)*"
        r"CPUQuota=300%\nCPUQuotaPeriodSec=50ms",
        drop_in,
    )


def test_only_the_quota_of_the_slice_is_repeated() -> None:
    service, _ = planned('[slices.s]\nCPUQuota = "300%"\nTasksMax = 100\nCPUWeight = 50')
    assert [item.property for item in service.settings] == ["CPUQuota"]


def test_a_looser_quota_of_the_unit_is_not_touched() -> None:
    service, _ = planned('CPUQuota = "400%"\n[slices.s]\nCPUQuota = "300%"')
    assert [item.text for item in service.settings] == ["400%"]
    assert dict(service.smoke.env) == {"GOMAXPROCS": "3"}


def test_automemlimit_keeps_its_say() -> None:
    linked = Binary(
        path="/src/bin",
        info=BuildInfo(
            go_version="go1.27.3", deps=(Module(path="github.com/KimMachineGun/automemlimit", version="v0.7.5"),)
        ),
    )
    assert variables('MemoryMax = "512M"\n[slices.s]', linked) == {}
    assert "GOMEMLIMIT" in variables('MemoryMax = "512M"\nMemoryHigh = "300M"\n[slices.s]', linked)


@pytest.mark.parametrize("binary", [Binary(path="/src/bin", why_not="is a script"), None])
def test_other_programs_get_nothing(binary: Binary | None) -> None:
    config = config_of('[services.app]\nbinary = "bin"\nMemoryMax = "512M"\nCPUQuota = "50%"')
    plan = build_plan(config, programs={"app": binary} if binary else None)
    assert (plan.services[0].go, plan.services[0].smoke.env) == (None, ())
    assert drop_in_files(plan) == drop_in_files(build_plan(config))


def test_one_key_switches_it_off() -> None:
    service, drop_in = planned('MemoryMax = "512M"\nCPUQuota = "50%"\ngo_settings = false\n[slices.s]')
    assert (service.go, service.smoke.env, "Environment" in drop_in) == (None, (), False)


def test_each_generated_line_has_a_reason_above_it_and_the_text_is_stable() -> None:
    text = 'MemoryMax = "512M"\nCPUQuota = "50%"\n[slices.s]'
    _, drop_in = planned(text)
    lines = drop_in.splitlines()
    for before, line in pairwise(lines):
        assert not line.startswith("Environment=") or before.startswith("#")
    assert planned(text)[1] == drop_in
    assert max(map(len, lines)) <= 120


def test_a_hostile_version_cannot_break_out_of_its_comment() -> None:
    _, drop_in = planned("[slices.s]", program("go1.27.3\nExecStartPre=/bin/evil\\"))
    assert not any(line.startswith("ExecStartPre") for line in drop_in.splitlines())
    assert not any(line.startswith("#") and line.endswith("\\") for line in drop_in.splitlines())


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("plain", "Environment=A=plain"),
        ("", 'Environment="A="'),
        ("two words", 'Environment="A=two words"'),
        ('q"b\\', 'Environment="A=q\\"b\\\\"'),
        ("100%", 'Environment="A=100%%"'),
        ("a\nb", 'Environment="A=a\\x0ab"'),
    ],
)
def test_variables_are_quoted_as_systemd_reads_them(value: str, line: str) -> None:
    config = config_of('[services.app]\nbinary = "bin"')
    plan = build_plan(replace(config, services=(replace(config.services[0], environment=(("A", value),)),)))
    assert line in drop_in_files(plan)[0].content.splitlines()


@pytest.mark.parametrize("value", ["0", "1.01", "-0.5", "nan", "inf", '"0.9"', "true"])
def test_a_ratio_is_a_share(value: str) -> None:
    assert mistakes_of(f'[services.app]\nbinary = "bin"\ngomemlimit_ratio = {value}')


def test_a_scope_changes_none_of_it() -> None:
    config = config_of('[services.app]\nbinary = "bin"\nslice = "s"\nMemoryMax = "1G"\n[slices.s]\nCPUQuota = "300%"')
    shipped = build_plan(config, programs={"app": program()})
    (plain,), (run,) = shipped.services, scoped(shipped, "cgpf1").services
    assert (plain.settings, plain.smoke, plain.go) == (run.settings, run.smoke, run.go)
