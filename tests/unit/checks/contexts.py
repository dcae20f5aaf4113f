"""A context for checks from fabricated facts, as the command line would make it."""

import dataclasses

from cgroup_preflight.checks import CHECKS
from cgroup_preflight.checks.base import Context
from cgroup_preflight.checks.runner import load_check
from cgroup_preflight.config.model import Require
from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.core.report import Finding, Location
from cgroup_preflight.engines.choice import choose_engine
from cgroup_preflight.host.facts import Facts, UserManager
from cgroup_preflight.plan.build import build_plan
from tests.unit.core.making import config_of
from tests.unit.host.fabricate import facts

REQUIRED = ("memory", "cpu")


def context(
    found: Facts, *, wanted: str = "auto", required: tuple[str, ...] = REQUIRED, config: str = "", **require: str
) -> Context:
    """Everything the checks look at; `config` is TOML text, `require` versions."""
    return Context(
        facts=found,
        engine=choose_engine(found, wanted, required),
        required=required,
        require=Require(location=Location(file="c.toml", line=3), **require),
        plan=build_plan(config_of(config)) if config else None,
    )


def run(code: str, found: Facts, **how: object) -> list[Finding]:
    """The findings of one check."""
    check = load_check(code)
    findings = list(check.run(context(found, **how)))
    assert all(item.code == check.code.code == code and item.name == check.code.name for item in findings)
    return findings


def one(code: str, found: Facts, **how: object) -> Finding:
    """The only finding of one check."""
    (finding,) = run(code, found, **how)
    return finding


def manager(
    socket: object = "/run/user/1000/systemd/private", controllers: object = frozenset({"cpu", "memory", "pids"})
) -> UserManager:
    """The user manager of a good host, with another socket or list of controllers."""

    def reading(value, source):
        return value if isinstance(value, Known | Missing) else Known(value=value, source=source)

    return dataclasses.replace(
        facts(1000).user_manager,
        socket=reading(socket, "socket"),
        controllers=reading(controllers, "user@1000.service/cgroup.controllers"),
    )


CODES = tuple(CHECKS)
