"""Recorded hosts, changed or not, and what the checks say of them."""

import copy
import functools
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgroup_preflight.checks.base import Context
from cgroup_preflight.checks.runner import run_checks
from cgroup_preflight.cli.common import context_of
from cgroup_preflight.config.load import parse
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.host.facts import Facts
from cgroup_preflight.host.gather import gather
from cgroup_preflight.host.snapshot import SnapshotFs, SnapshotRunner

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "tests" / "hosts"
SHOP = REPOSITORY / "examples" / "shop" / "cgroup-preflight.toml"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
CONFIGS = ("bare", "shop")
BAD = (Status.FAIL, Status.UNVERIFIED, Status.WARN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must be said of a host with one config."""

    verdict: str
    engine: str = ""
    fail: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    warn: list[str] = field(default_factory=list)


@functools.cache
def expected() -> dict[str, dict[str, Expected]]:
    """By host and config; `shop` is as `bare` where nothing else is said."""
    table = tomllib.loads((FOLDER / "expected.toml").read_text())
    return {
        name: {config: Expected(**host.get(config, host["bare"])) for config in CONFIGS} for name, host in table.items()
    }


@functools.cache
def _text(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text()


def recording(name: str) -> dict[str, Any]:
    """A copy of a recording, to be changed at will."""
    loaded: dict[str, Any] = json.loads(_text(name))
    return loaded


def changed(document: dict[str, Any], **parts: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """A copy with answers replaced, or taken out with None; `parts` are host and commands."""
    result = copy.deepcopy(document)
    for part, answers in parts.items():
        for question, entry in answers.items():
            assert entry is not None or question in result[part], question
            if entry is None:
                del result[part][question]
            else:
                result[part][question] = entry
    return result


def facts_of(document: dict[str, Any]) -> Facts:
    """What gathering makes of a recording."""
    return gather(SnapshotFs(document["host"]), SnapshotRunner(document["commands"]))


@functools.cache
def shop() -> Config:
    """The example's config."""
    return config_of(SHOP.read_text())


@functools.cache
def config_of(text: str) -> Config:
    """A config from its text."""
    return parse(text.encode(), shown="cgroup-preflight.toml", folder=str(REPOSITORY))


def judge(facts: Facts, config: Config | None = None, *, engine: str = "auto") -> tuple[Context, tuple[Finding, ...]]:
    """As the command line does it."""
    context = context_of(facts, config, engine)
    return context, run_checks(context)


def codes(findings: tuple[Finding, ...], status: Status) -> list[str]:
    """The codes with at least one finding of `status`."""
    return sorted({item.code for item in findings if item.status is status})


def summary(context: Context, findings: tuple[Finding, ...]) -> Expected:
    """What was said, in the form of `expected`."""
    return Expected(
        verdict=verdict_of(findings).value, engine=context.engine.name or "",
        fail=codes(findings, Status.FAIL), unverified=codes(findings, Status.UNVERIFIED),
        warn=codes(findings, Status.WARN),
    )  # fmt: skip
