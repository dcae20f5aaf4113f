"""Subjects of the checks from a config text, through the loader and the plan that users go through."""

from dataclasses import replace

from cgroup_preflight.checks.go.base import Measured, Subject
from cgroup_preflight.checks.go.runner import run_go_checks
from cgroup_preflight.checks.go.subjects import GoTarget, bare_subject, fitted_subject
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.golang.executable import ElfType, Executable, FileKind, Machine
from cgroup_preflight.golang.modinfo import BuildInfo, Module
from cgroup_preflight.golang.program import Binary
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.model import Plan
from tests.unit.core.making import config_of

OFF = "containermaxprocs=0,updatemaxprocs=0"
STAMP = (("vcs.revision", "0123456789abcdef"), ("vcs.modified", "false"))
AMD64 = Machine(number=62, bits=64, big_endian=False, goarch="amd64", uname="x86_64")
TARGET = GoTarget(cpus=frozenset(range(8)), machine="x86_64", swap=False)


def go_program(
    version: str = "go1.27.3",
    *settings: tuple[str, str],
    deps: tuple[tuple[str, str], ...] = (),
    interpreter: str | None = None,
    names: frozenset[str] = frozenset(),
    stamp: tuple[tuple[str, str], ...] = STAMP,
) -> Binary:
    info = BuildInfo(
        go_version=version,
        settings=(*settings, *stamp),
        deps=tuple(Module(path=path, version=number) for path, number in deps),
    )
    executable = Executable(kind=FileKind.ELF, machine=AMD64, elf_type=ElfType.EXEC, entry=1, interpreter=interpreter)
    return Binary(path="/src/bin", executable=executable, info=info, names=names)


def plan_of(text: str, program: Binary) -> Plan:
    return build_plan(config_of(text), programs={"app": program})


def subjects(text: str, program: Binary, target: GoTarget = TARGET) -> tuple[Subject, Subject | None]:
    plan = plan_of(text, program)
    return bare_subject(plan.services[0], plan, target), fitted_subject(plan.services[0], plan, target)


def app(*lines: str, slices: str = "", env: str = "", go_settings: bool = False) -> str:
    """A config with one service `app` in the slice `s`; its own lines begin at line 5."""
    own = "\n".join(lines)
    head = f'[slices.s]\n{slices}\n[services.app]\nbinary = "bin"\n'
    more = f'\nslice = "s"\ngo_settings = {str(go_settings).lower()}\n' + (
        f"Environment = {{ {env} }}\n" if env else ""
    )
    return f"{head}{own}{more}"


def findings(
    text: str, program: Binary | None = None, *, measured: Measured | None = None, target: GoTarget = TARGET
) -> list[Finding]:
    bare, fitted = subjects(text, program or go_program(), target)
    if measured is not None:
        bare = replace(bare, measured=measured)
    return list(run_go_checks(bare, fitted))


def of(found: list[Finding], code: str) -> list[Finding]:
    return [item for item in found if item.code == code]


def statuses(found: list[Finding]) -> dict[str, Status]:
    """Code to status of what is more than information."""
    return {item.code: item.status for item in found if item.status not in (Status.PASS, Status.SKIP)}
