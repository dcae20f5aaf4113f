"""The parts of the model: environment texts, chains of limits, linked libraries, the look at a file."""

from pathlib import Path

import pytest

from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.golang import runtime_env as env
from cgroup_preflight.golang.modinfo import BuildInfo, Module
from cgroup_preflight.golang.program import read_program
from cgroup_preflight.golang.runtime_libs import AUTOMAXPROCS, AUTOMEMLIMIT, Effect, effects
from tests.unit.golang.binaries import Part, elf, framed, inline_blob


def test_godebug_texts() -> None:
    assert env.parse_godebug("a=1,b=2,a=3,c") == {"a": "3", "b": "2"}
    assert env.parse_godebug("") == {}
    assert env.append_godebug("", "a=1") == "a=1"
    assert env.append_godebug("x=2", "a=1") == "x=2,a=1"
    assert env.append_godebug("x=2", "") == "x=2"


def test_a_number_that_does_not_fit_changes_nothing() -> None:
    assert env.godebug_numbers("containermaxprocs=0", "containermaxprocs=9999999999")["containermaxprocs"] == 0
    assert env.godebug_numbers("containermaxprocs=0", "containermaxprocs=00000000000001")["containermaxprocs"] == 1


def test_the_environment_wins_over_the_build() -> None:
    assert env.godebug_numbers("containermaxprocs=0,updatemaxprocs=0", "containermaxprocs=1") == {
        "containermaxprocs": 1,
        "updatemaxprocs": 0,
    }


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("900M", "900MiB"),
        ("900MB", "900MiB"),
        ("2g", "2GiB"),
        ("1 GiB", "1GiB"),
        ("512k", "512KiB"),
        ("1.5G", "1536MiB"),
        ("0.9GiB", "921MiB"),
    ],
)
def test_the_hint_is_a_limit_that_works(text: str, hint: str) -> None:
    assert env.gomemlimit_hint(text) == hint
    assert env.parse_gomemlimit(hint) is not None


@pytest.mark.parametrize("text", ["90%", "0.5k", "1.5", "9" * 40 + "M", "lots", "-1"])
def test_where_there_is_no_near_spelling_the_hint_says_what_is_allowed(text: str) -> None:
    assert "900MiB" in env.gomemlimit_hint(text)


LEVELS = (
    Level(name="unit", cpus=3, memory_max=300, tasks_max=64),
    Level(name="slice", cpus=2, memory_max=400, memory_high=200),
    Level(name="top", cpus=2, tasks_max=32),
)


def test_the_tightest_limit_counts_and_of_equal_ones_the_innermost() -> None:
    whole = Chain(levels=LEVELS)
    assert whole.cpus() == (2, LEVELS[1])
    assert whole.memory() == (200, LEVELS[1], "MemoryHigh")
    assert whole.memory_max() == (300, LEVELS[0])
    assert whole.memory_high() == (200, LEVELS[1])
    assert whole.tasks() == (32, LEVELS[2])


def test_how_many_cpus_the_masks_leave() -> None:
    inner, outer = (
        Level(name="unit", allowed_cpus=frozenset({1, 2})),
        Level(name="slice", allowed_cpus=frozenset({2, 3})),
    )
    assert Chain(levels=(inner, outer)).allowed_cpus() == 1
    assert Chain(levels=(Level(name="unit"), outer)).allowed_cpus() == 2
    assert Chain(levels=(Level(name="unit"),)).allowed_cpus() is None


def test_no_level_is_no_limit() -> None:
    assert Chain(levels=()).cpus() == (None, None)
    assert Chain(levels=()).memory() == (None, None, "")


def linked(*modules: tuple[str, str]) -> BuildInfo:
    return BuildInfo(go_version="go1.24.1", deps=tuple(Module(path=path, version=version) for path, version in modules))


def effect(info: BuildInfo, limits: Chain, **variables: str) -> Effect:
    (found,) = effects(info, variables, limits)
    return found


@pytest.mark.parametrize(("quota", "procs"), [(0.5, 1), (1.9, 1), (2.5, 2), (3, 3)])
def test_automaxprocs_rounds_down(quota: float, procs: int) -> None:
    limits = Chain(levels=(Level(name="unit", cpus=quota),))
    assert effect(linked((AUTOMAXPROCS, "v1.6.0")), limits).gomaxprocs == procs


def test_automaxprocs_steps_aside_or_sees_nothing() -> None:
    info, on_slice = linked((AUTOMAXPROCS, "v1.6.0")), Chain(levels=(Level(name="unit"), Level(name="slice", cpus=2)))
    assert effect(info, on_slice).gomaxprocs is None
    assert "does nothing, because" in effect(info, on_slice, GOMAXPROCS="nonsense").words
    assert effects(linked(), {}, on_slice) == ()


@pytest.mark.parametrize(
    ("version", "limit"), [("v0.7.5", 90), ("v0.7.10", 90), ("v1.0.0", 90), ("v0.7.4", None), ("v0.6.1", None)]
)
def test_automemlimit_looks_above_its_own_cgroup_since_0_7_5(version: str, limit: int | None) -> None:
    on_slice = Chain(levels=(Level(name="unit"), Level(name="slice", memory_max=100, memory_high=50)))
    assert effect(linked((AUTOMEMLIMIT, version)), on_slice).gomemlimit_bytes == limit


@pytest.mark.parametrize(("replaced", "limit"), [("(devel)", 90), ("", 90), ("v0.7.1", None), ("v0.8.0", 90)])
def test_the_version_of_a_replacement_counts_if_it_has_one(replaced: str, limit: int | None) -> None:
    module = Module(path=AUTOMEMLIMIT, version="v0.7.5", replace=Module(path="./own", version=replaced))
    on_slice = Chain(levels=(Level(name="unit"), Level(name="slice", memory_max=100)))
    assert effect(BuildInfo(go_version="go1.24.1", deps=(module,)), on_slice).gomemlimit_bytes == limit


@pytest.mark.parametrize(
    ("variables", "limit"),
    [
        ({}, 90),
        ({"AUTOMEMLIMIT": "0.5"}, 50),
        ({"AUTOMEMLIMIT": "off"}, None),
        ({"AUTOMEMLIMIT": "7"}, 90),
        ({"AUTOMEMLIMIT": "x"}, 90),
        ({"GOMEMLIMIT": "off"}, None),
    ],
)
def test_automemlimit_and_its_variables(variables: dict[str, str], limit: int | None) -> None:
    own = Chain(levels=(Level(name="unit", memory_max=100),))
    assert effect(linked((AUTOMEMLIMIT, "v0.7.5")), own, **variables).gomemlimit_bytes == limit


def go_program(*, interpreter: str | None = None, more: bytes = b"") -> bytes:
    blob = inline_blob(b"go1.25.5", framed(b"path\texample.com/x\n"))
    segments = [Part(data=interpreter.encode() + b"\0", kind=3)] if interpreter else []
    return elf(segments=segments, sections=[Part(data=blob, name=".go.buildinfo")]) + more


def test_reading_a_go_program(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(go_program(more=b"\0runtime/cgo.init\0" + bytes(5 << 20) + b"\0runtime/debug.SetMemoryLimit\0"))
    seen = read_program(str(path))
    assert seen.info is not None
    assert seen.info.go_version == "go1.25.5"
    assert seen.names == {"cgo", "set_memory_limit"}
    assert seen.interpreter_here


def test_names_are_found_across_the_pieces_it_reads(tmp_path: Path) -> None:
    path, name = tmp_path / "program", b"\0runtime/debug.SetMemoryLimit\0"
    start = go_program()
    for shift in (1, 15, len(name) - 1):
        path.write_bytes(start + bytes((4 << 20) - len(start) - shift) + name)
        assert read_program(str(path)).names == {"set_memory_limit"}


def test_what_is_no_go_program(tmp_path: Path) -> None:
    script, packed, nothing = tmp_path / "script", tmp_path / "packed", tmp_path / "nothing"
    script.write_bytes(b"#!/bin/sh\nexec true\n")
    packed.write_bytes(elf() + b"UPX!")
    assert "is a script" in read_program(str(script)).why_not
    assert (read_program(str(packed)).unreadable, read_program(str(packed)).info) == (True, None)
    assert "No such file" in read_program(str(nothing)).why_not


def test_an_interpreter_that_is_not_here_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(go_program(interpreter="/nowhere/ld.so"))
    assert not read_program(str(path)).interpreter_here
    path.write_bytes(go_program(interpreter="/bin/sh"))
    assert read_program(str(path)).interpreter_here
