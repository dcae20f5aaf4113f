"""The verdict on this host is right, both ways: in each environment of the matrix, on real kernels.

In addition to the verdict, each environment shows by itself what is true there: a unit is started with limits, and the
kernel's files are read. No pass where they do not act, no fail of the host where they do.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common
from cgroup_preflight.config.load import load
from cgroup_preflight.guest.session import input_path
from tests.lab.environments import ENVIRONMENTS, Environment, Run, Stage, command_environment

_HOSTS = Path(__file__).parents[1] / "hosts"
SHOP = "cgroup-preflight.toml"
BAD = ("fail", "unverified", "warn")
_EXIT = {"pass": 0, "fail": 1, "unverified": 3}
_EXPECTED = tomllib.loads((_HOSTS / "expected.toml").read_text())
#: A unit with limits reads its own files.
_READ = 'own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); cat "$own/memory.max" "$own/cpu.max"'
_LIMITS = (
    "--quiet",
    "--wait",
    "--pipe",
    "--collect",
    "--property=MemoryMax=64M",
    "--property=CPUQuota=50%",
    "sh",
    "-c",
    _READ,
)
_IN_FORCE = b"67108864\n50000 100000\n"
#: A unit with parts of the whole reads its own files; and what the command expects there.
_PARTS = (
    "--quiet", "--wait", "--pipe", "--collect", "--property=MemoryMax=33.3%", "--property=TasksMax=12.5%", "sh", "-c",
    'own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); cat "$own/memory.max" "$own/pids.max"',
)  # fmt: skip
_EXPECTED_PARTS = """
from cgroup_preflight.core import quantities as q
from cgroup_preflight.host.gather import gather
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.plan.expect import memory_bytes
from cgroup_preflight.checks.numbers import host_numbers
numbers = host_numbers(gather(LiveFs(), LiveRunner()))
print(memory_bytes(q.Permyriad(value=3330), numbers))
print(numbers.tasks_max * 1250 // 10000)
"""
#: What the remedy for the hierarchy must be, where it is not v2.
_NO_V1 = "remove systemd.unified_cgroup_hierarchy=0 from the kernel command line and reboot"
_HIERARCHY = {
    "debian-12-hybrid": {_NO_V1},
    "debian-12-legacy": {_NO_V1},
    "nspawn-legacy": {
        "start the container with cgroup v2: SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn",
    },
}
_REMOVES = re.compile(r"remove (\S+) from the kernel command line")


@pytest.fixture(scope="module")
def stage(lab_inputs: dict[str, Path]) -> Iterator[Stage]:
    """One guest at a time: the matrix has its own, and leaves none."""
    with Stage(lab_inputs) as made:
        yield made


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(item, id=item.name, marks=[pytest.mark.newest] if item.newest else []) for item in ENVIRONMENTS
    ],
)
def environment(request: pytest.FixtureRequest) -> Environment:
    """Each in turn; pytest runs all tests of one before it goes on to the next."""
    chosen: Environment = request.param
    return chosen


@pytest.fixture(scope="module")
def run(environment: Environment, stage: Stage) -> Iterator[Run]:
    """Runs a command inside the environment."""
    with environment.run(stage.guest(environment)) as inside:
        yield inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the command said in an environment: exit status and report by config, and a recording."""

    status: dict[str, int]
    report: dict[str, dict[str, Any]]
    recording: bytes


@pytest.fixture(scope="module")
def seen(run: Run) -> Seen:
    """Three calls of the command, which all tests of an environment share."""
    checks = {name: _preflight(run, "check", "--format", "json", *words_for(name)) for name in ("bare", "shop")}
    return Seen(
        status={name: status for name, (status, _) in checks.items()},
        report={name: json.loads(out) for name, (_, out) in checks.items()},
        recording=_preflight(run, "snapshot")[1],
    )


def _preflight(run: Run, *words: str) -> tuple[int, bytes]:
    done = run(["python3", "-m", "cgroup_preflight", *words], command_environment())
    assert done.returncode in (0, 1, 3), done
    return done.returncode, done.stdout


def words_for(config: str) -> tuple[str, ...]:
    return ("--config", str(input_path("shop") / SHOP)) if config == "shop" else ()


def wanted_of(environment: Environment, config: str) -> dict[str, Any]:
    host = _EXPECTED[environment.name]
    return {"engine": "", "fail": [], "unverified": [], "warn": [], **host.get(config, host["bare"])}


def said(findings: list[dict[str, Any]], status: str) -> list[str]:
    return sorted({item["code"] for item in findings if item["status"] == status})


@pytest.mark.parametrize("config", ["bare", "shop"])
def test_verdict_exit_status_engine_and_codes(environment: Environment, seen: Seen, config: str) -> None:
    report = seen.report[config]
    findings = report["findings"]
    found = {
        "verdict": report["verdict"], "engine": report["host"]["engine"] or "",
        **{name: said(findings, name) for name in BAD},
    }  # fmt: skip
    wanted = wanted_of(environment, config)
    assert found == wanted, [item["message"] for item in findings if item["status"] in BAD]
    assert seen.status[config] == _EXIT[wanted["verdict"]]
    for item in findings:
        if item["status"] in BAD:
            assert item["remedies"], item
            assert item["evidence"], item


def test_every_remedy_is_possible_there(environment: Environment, run: Run, seen: Seen) -> None:
    """Its programs exist, what it removes from the kernel's command line is in it, and no word is added that does nothing.

    That a host passes without the words that are removed is shown by the environments that were booted without them.
    """
    found = [item for report in seen.report.values() for item in report["findings"] if item["status"] in BAD]
    remedies = [remedy for item in found for remedy in item["remedies"]]
    hierarchy = {remedy["title"] for item in found for remedy in item["remedies"] if item["code"] == "CGP101"}
    assert hierarchy == _HIERARCHY.get(environment.name, set())
    # Here v1 is always asked for, by the kernel's command line or by systemd-nspawn.
    assert "systemd.unified_cgroup_hierarchy=1" not in json.dumps(remedies)
    removed = {match[1] for remedy in remedies if (match := _REMOVES.match(remedy["title"]))}
    programs = {command[0] for remedy in remedies for command in remedy["commands"]}
    if removed or programs:
        script = 'for name; do command -v "$name" >&2 || echo "lacks:$name"; done; cat /proc/cmdline'
        words = run(["sh", "-c", script, "sh", *sorted(programs)], {}).text.split()
        assert removed <= set(words)
        assert not [word for word in words if word.startswith("lacks:")]


@pytest.mark.parametrize("config", ["bare", "shop"])
def test_recorded_here_and_judged_elsewhere_is_the_same(
    seen: Seen, config: str, tmp_path: Path, lab_inputs: dict[str, Path]
) -> None:
    recorded = tmp_path / "host.json"
    recorded.write_bytes(seen.recording)
    # The checks of a plan (CGP2xx) are of the config, and not of a host.
    there = [(item["code"], item["status"]) for item in seen.report[config]["findings"] if item["code"] < "CGP2"]
    chosen = load(lab_inputs["shop"] / SHOP) if config == "shop" else None
    # Not the subjects: they name the job's own cgroup, and each call has another.
    here = run_checks(common.context(chosen, "auto", (), root=str(recorded)))
    assert [(item.code, item.status) for item in here] == there


def test_nobody_is_named_in_the_recording(seen: Seen) -> None:
    for name in (b"tester", b"runner", b"guest"):
        assert name not in seen.recording


def test_limits_act_where_it_says_pass_and_nowhere_else(environment: Environment, run: Run) -> None:
    done = run([*environment.starter, *_LIMITS], {})
    assert (done.stdout == _IN_FORCE) == environment.limits_act, done
    assert (wanted_of(environment, "bare")["verdict"] == "pass") == environment.limits_act


def test_a_percentage_is_of_what_the_manager_takes_it_of(environment: Environment, run: Run) -> None:
    """Of the machine's memory and tasks, and in a container with limits of those."""
    if not environment.limits_act:
        pytest.skip("no limit acts here, of whatever it is a part")
    done = run([*environment.starter, *_PARTS], {})
    expected = run(["python3", "-c", _EXPECTED_PARTS], command_environment())
    assert done.stdout == expected.stdout, (done, expected)
    assert len(done.stdout.split()) == 2
