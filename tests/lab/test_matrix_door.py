"""The matrix through the door of its guests: from outside, over lines, with the findings that the command has inside.

Guests here have no agent. The command runs in each environment as it does in test_matrix.py; then the same checks ask the
same environment from this host, as `check --host` does: a shell and a file server are all that runs there. Whole findings
are compared, with their messages, evidence and remedies; what differs and may differ is in `_TRUE`.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli import common, policy
from cgroup_preflight.config.load import load
from cgroup_preflight.guest import lines as guest_lines
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.rounds import Rounds
from cgroup_preflight.report.codec import document
from tests.lab.doors import door_into
from tests.lab.environments import ENVIRONMENTS, Environment, Stage, after, command_environment, runner, service
from tests.lab.test_matrix import BAD, SHOP, said, wanted_of, words_for

#: They share a guest, and the door to each leads through something else; all others take minutes.
_ORDINARY = ("debian-12-sudo", "debian-12-user-delegated", "debian-12-read-only")
_CONFIGS = ("bare", "shop")
#: What is different and true: each program that runs somewhere has a cgroup of its own there, and is the first process of
#: a container that was made for it.
_TRUE = (
    (r"preflight-lines\.service/(run-[0-9]+|host)|run-(u[0-9]+|p[0-9]+-i[0-9]+)\.service|libpod-[0-9a-f]{64}", "OWN"),
    (r'(PID 1 is |"/proc/1/comm": ")(python3|sftp-server|sh)\b', r"\1PROGRAM"),
)
#: A job whose cgroup is its own: who asks from outside has to find out that systemd gave it away, without getfattr(1).
_DELEGATED = Environment(
    name="debian-12-job-delegated", limits_act=False,
    enter=after("loginctl disable-linger tester; systemctl stop user@1000.service", ":",
                service("User=tester", "Delegate=yes")),
)  # fmt: skip


@pytest.fixture(scope="module")
def stage(lab_inputs: dict[str, Path]) -> Iterator[Stage]:
    """Guests without an agent, one at a time."""
    with Stage(lab_inputs, bare=True) as made:
        yield made


def _marks(environment: Environment) -> list[pytest.MarkDecorator]:
    measured = [] if environment.name in _ORDINARY else [pytest.mark.measured]
    return [*measured, *([pytest.mark.newest] if environment.newest else [])]


@pytest.fixture(scope="module", params=[pytest.param(item, id=item.name, marks=_marks(item)) for item in ENVIRONMENTS])
def environment(request: pytest.FixtureRequest) -> Environment:
    """Each in turn."""
    chosen: Environment = request.param
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The reports by config: of the command in the environment, and of the checks of this host through the door."""

    inside: dict[str, dict[str, Any]]
    outside: dict[str, dict[str, Any]]
    round_trips: int


@pytest.fixture(scope="module")
def told(environment: Environment, stage: Stage, lab_inputs: dict[str, Path]) -> Told:
    """Both, in the same environment."""
    return _told(environment, stage, lab_inputs)


def _told(environment: Environment, stage: Stage, inputs: dict[str, Path]) -> Told:
    guest = stage.guest(environment)
    with environment.enter(guest) as inside, pytest.MonkeyPatch.context() as patch:
        run, reports = runner(guest, inside), dict[str, dict[str, Any]]()
        for name in _CONFIGS:
            words = ["python3", "-m", "cgroup_preflight", "check", "--format", "json", *words_for(name)]
            done = run(words, command_environment())
            assert done.returncode in (0, 1, 3), done
            reports[name] = json.loads(done.stdout)
        # Long texts for the shell become files: the usual place for them is for root alone, and not in a container.
        patch.setattr(guest_lines, "_PLACE", f"/tmp/{environment.name}-{{}}")
        with door_into(guest, inside, environment.name) as asker:
            outside = {name: _asked(asker, name, inputs) for name in _CONFIGS}
            return Told(inside=reports, outside=outside, round_trips=asker.round_trips)


def _asked(asker: Asker, name: str, inputs: dict[str, Path]) -> dict[str, Any]:
    """The report of the checks of this host, as `check --host` makes it."""
    started = common.start()
    config = load(inputs["shop"] / SHOP) if name == "shop" else None
    plan, engine = common.planned(config), config.engine if config else "auto"
    context = Rounds(asker).read(lambda fs, runner: common.context_on(fs, runner, config, engine, (), plan))
    findings = (*run_checks(context), *common.plan_findings(context, config))
    if config is not None:
        findings = policy.judged(findings, policy.rules_of(config, started))
    report: dict[str, Any] = document(common.report(started, context, findings))
    return report


def _comparable(report: dict[str, Any]) -> list[str]:
    """Verdict, host and findings, one text each, without what may differ."""
    texts = [json.dumps(item, sort_keys=True) for item in (report["verdict"], report["host"], *report["findings"])]
    for pattern, word in _TRUE:
        texts = [re.sub(pattern, word, text) for text in texts]
    return texts


@pytest.mark.parametrize("config", _CONFIGS)
def test_the_door_shows_what_the_command_finds_inside(
    environment: Environment, told: Told, config: str, say: Callable[..., None]
) -> None:
    inside, outside = told.inside[config], told.outside[config]
    say(environment.name, config, "inside", inside["verdict"], "through the door", outside["verdict"])
    assert _comparable(outside) == _comparable(inside)
    assert told.round_trips <= 40


@pytest.mark.parametrize("config", _CONFIGS)
def test_verdict_engine_and_codes_are_those_expected(environment: Environment, told: Told, config: str) -> None:
    report = told.outside[config]
    found = {
        "verdict": report["verdict"], "engine": report["host"]["engine"] or "",
        **{name: said(report["findings"], name) for name in BAD},
    }  # fmt: skip
    assert found == wanted_of(environment, config)


def test_a_delegated_job_is_seen_from_outside(stage: Stage, lab_inputs: dict[str, Path]) -> None:
    told = _told(_DELEGATED, stage, lab_inputs)
    assert _comparable(told.outside["bare"]) == _comparable(told.inside["bare"])
    assert (told.outside["bare"]["verdict"], told.outside["bare"]["host"]["engine"]) == ("pass", "cgroupfs")
