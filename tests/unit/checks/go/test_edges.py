"""Programs of which little is known, and settings just outside the rule."""

from dataclasses import replace

import pytest

from cgroup_preflight.checks.go.binary_format import unrunnable_programs
from cgroup_preflight.core.reading import Missing, Why
from cgroup_preflight.core.report import Status
from cgroup_preflight.golang.program import read_programs
from cgroup_preflight.plan.build import binary_paths, build_plan
from tests.unit.checks.go.making import app, findings, go_program, of, subjects
from tests.unit.core.making import config_of
from tests.unit.host.fabricate import facts


def test_a_go_without_the_switch_is_not_told_to_use_it() -> None:
    old = go_program("go1.24.3")
    (item,) = of(findings(app('CPUQuota = "200%"'), old), "CGP404")
    titles = " ".join(remedy.title for remedy in item.remedies)
    assert "Go 1.25 or newer" in titles
    assert "GODEBUG" not in titles


def test_a_missing_interpreter_is_a_failure() -> None:
    program = replace(go_program(interpreter="/lib/ld-musl-x86_64.so.1"), interpreter_here=False)
    (item,) = of(findings(app(), program), "CGP401")
    assert item.status is Status.FAIL


def test_a_program_whose_file_is_not_known_has_no_c_code_that_could_be_shown() -> None:
    program = replace(go_program("go1.27.3", ("CGO_ENABLED", "1"), names=frozenset({"cgo"})), executable=None)
    assert not of(findings(app(), program), "CGP411")
    dynamic = go_program("go1.27.3", ("CGO_ENABLED", "1"), names=frozenset({"cgo"}), interpreter="/lib64/ld.so")
    assert of(findings(app(), dynamic), "CGP411")


def test_a_library_without_a_memory_limit_is_none_against_a_live_lock() -> None:
    linked = go_program(deps=(("go.uber.org/automaxprocs", "v1.6.0"),))
    (item,) = of(findings(app('MemoryHigh = "300M"'), linked), "CGP409")
    assert item.status is Status.WARN


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (app('CPUQuota = "200%"'), True),
        (app() + '[services.other]\nbinary = "o"\nslice = "s"\nCPUWeight = 20\n', True),
        (app() + '[services.other]\nbinary = "o"\nslice = "s"\nMemoryMax = "64M"\n', False),
        (app(), False),
    ],
    ids=["its own", "a neighbour's", "a neighbour's memory", "none"],
)
def test_cpu_max_exists_where_the_unit_or_a_neighbour_uses_cpu(text: str, has: bool) -> None:
    bare, _ = subjects(text, go_program())
    assert bare.chain.leaf.has_cpu_max is has


def test_programs_that_cannot_run_here_are_found_before_a_run(tmp_path) -> None:
    for name, content in (("other", b"MZ" + bytes(200)), ("text", b"hello\n")):
        (tmp_path / name).write_bytes(content)
    text = "".join(f'[services.{name}]\nbinary = "{tmp_path}/{name}"\n' for name in ("other", "text"))
    config = config_of(text)
    plan = build_plan(config, programs=read_programs(binary_paths(config)))
    found = unrunnable_programs(plan.services, facts())
    assert [(item.code, item.status, item.subject, item.location.line) for item in found] == [
        ("CGP401", "fail", "other", 1),
        ("CGP401", "fail", "text", 3),
    ]
    assert not unrunnable_programs((), facts())
    unknown = facts(machine=Missing(source="uname", why=Why.DENIED))
    assert not unrunnable_programs(plan.services, unknown), "not what this machine could run"
