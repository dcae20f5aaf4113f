"""The verdict on this host is right, both ways: in each environment of the matrix, on real kernels.

Beside the verdict each environment shows by itself what is true there: a unit is started with limits, and the
kernel's files are read. No pass where they do not act, no fail of the host where they do.
"""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from environments import ENVIRONMENTS, Environment, Run, Stage, command_environment

from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common
from cgroup_preflight.config.load import load
from cgroup_preflight.guest.session import input_path

_HOSTS = Path(__file__).parents[1] / "hosts"
_SHOP = "cgroup-preflight.toml"
_EXIT = {"pass": 0, "fail": 1, "unverified": 3}
_EXPECTED = tomllib.loads((_HOSTS / "expected.toml").read_text())
#: A unit with limits reads its own files.
_READ = 'own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); cat "$own/memory.max" "$own/cpu.max"'
_LIMITS = ("--quiet", "--wait", "--pipe", "--property=MemoryMax=64M", "--property=CPUQuota=50%", "sh", "-c", _READ)
_IN_FORCE = b"67108864\n50000 100000\n"


@pytest.fixture(scope="module")
def stage(lab_inputs: dict[str, Path]) -> Iterator[Stage]:
    """One guest at a time: the matrix has its own, and leaves none."""
    with Stage(lab_inputs) as made:
        yield made


@pytest.fixture(scope="module", params=ENVIRONMENTS, ids=lambda item: item.name)
def environment(request: pytest.FixtureRequest) -> Environment:
    """Each in turn; pytest runs all tests of one before it goes on to the next."""
    chosen: Environment = request.param
    return chosen


@pytest.fixture(scope="module")
def run(environment: Environment, stage: Stage) -> Iterator[Run]:
    """Runs a command inside the environment."""
    with environment.enter(stage.guest(environment)) as inside:
        yield inside


def _wanted(environment: Environment, config: str) -> dict[str, Any]:
    host = _EXPECTED[environment.name]
    return {"engine": "", "fail": [], "unverified": [], "warn": [], **host.get(config, host["bare"])}


def _said(findings: list[dict[str, Any]], status: str) -> list[str]:
    return sorted({item["code"] for item in findings if item["status"] == status})


def _preflight(run: Run, *words: str) -> tuple[int, bytes]:
    done = run(["python3", "-m", "cgroup_preflight", *words], command_environment())
    assert done.returncode in (0, 1, 3), done
    return done.returncode, done.stdout


@pytest.mark.parametrize("config", ["bare", "shop"])
def test_verdict_exit_status_engine_and_codes(environment: Environment, run: Run, config: str) -> None:
    words = ("--config", str(input_path("shop") / _SHOP)) if config == "shop" else ()
    status, out = _preflight(run, "check", "--format", "json", *words)
    report = json.loads(out)
    findings = report["findings"]
    seen = {
        "verdict": report["verdict"], "engine": report["host"]["engine"] or "",
        **{name: _said(findings, name) for name in ("fail", "unverified", "warn")},
    }  # fmt: skip
    wanted = _wanted(environment, config)
    assert seen == wanted, [item["message"] for item in findings if item["status"] in ("fail", "unverified", "warn")]
    assert status == _EXIT[wanted["verdict"]]
    for item in findings:
        if item["status"] in ("fail", "unverified", "warn"):
            assert item["remedies"], item
            assert item["evidence"], item


def test_recorded_here_and_judged_elsewhere_is_the_same(
    environment: Environment, run: Run, tmp_path: Path, lab_inputs: dict[str, Path]
) -> None:
    _, out = _preflight(run, "snapshot")
    recorded = tmp_path / "host.json"
    recorded.write_bytes(out)
    for name, config in (("bare", None), ("shop", load(lab_inputs["shop"] / _SHOP))):
        words = ("--config", str(input_path("shop") / _SHOP)) if config else ()
        _, live = _preflight(run, "check", "--format", "json", *words)
        there = [(item["code"], item["status"], item["subject"]) for item in json.loads(live)["findings"]]
        here = run_checks(common.context(config, "auto", (), root=str(recorded)))
        # Subjects name the job's own cgroup, and each call has another.
        assert [(item.code, item.status) for item in here] == [item[:2] for item in there], name


def test_nobody_is_named_in_the_recording(run: Run) -> None:
    _, out = _preflight(run, "snapshot")
    for name in (b"tester", b"runner", b"guest"):
        assert name not in out


def test_limits_act_where_it_says_pass_and_nowhere_else(environment: Environment, run: Run) -> None:
    done = run([*environment.starter, *_LIMITS], {})
    assert (done.stdout == _IN_FORCE) == environment.limits_act, done
    assert (_wanted(environment, "bare")["verdict"] == "pass") == environment.limits_act
