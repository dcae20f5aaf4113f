"""What both ways of the differential share: the values as a config, the guests, and how a reading is judged."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from cgroup_preflight.config.keys import DISTROS
from cgroup_preflight.config.load import parse
from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.core.records import replace
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import GuestEngine
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.model import Plan
from tests.lab.arithmetic_values import ATTRIBUTES, Case, cases
from tests.lab.configs import ENVIRONMENT
from tests.lab.conftest import KINDS

SEED = 20261129
#: user-mode-linux is many times faster, and has neither cpuset nor io.weight: values of those go to QEMU.
_IN_QEMU = ("AllowedCPUs", "IOWeight")
SYSTEMS = {
    f"{distro}-{spec.engine}": replace(spec, distro=distro)
    for distro in DISTROS for spec in (KINDS[0].spec, KINDS[1].spec)
}  # fmt: skip


def marks_of(system: str) -> tuple[pytest.MarkDecorator, ...]:
    """What is not part of the ordinary run: the newest distribution, and the older one in QEMU."""
    return (pytest.mark.newest,) if system.startswith("debian-14") or system == "debian-12-qemu" else ()


def parameters(systems: Iterable[str]) -> list[ParameterSet]:
    """Systems as parameters of a fixture."""
    return [pytest.param(name, marks=marks_of(name)) for name in systems]


_ATTRIBUTES = (
    *ATTRIBUTES,
    "cpu.idle",
    "cpuset.cpus.effective",
)
UNEXPLAINED = "unexplained"
AGREES = "agrees"
#: So many random values at least are compared with each systemd, as file and as run: what it does not know does not count.
SEEDED_MIN = 1000
NO_FILE = "no such file in this kernel"


def cases_for(guest: Guest) -> list[Case]:
    """The values whose files the guest's kernel has."""
    in_qemu = guest.spec.engine is GuestEngine.QEMU
    return [case for case in cases(SEED) if (case.about in _IN_QEMU) is in_qemu]


def config_text(found: list[Case]) -> str:
    """A config with a slice for each case."""
    lines = ['[project]\nname = "values"\n[smoke]\nallow_tiny_limits = true']
    for case in found:
        lines.append(f"[slices.{case.name}]")
        lines += [f"{name} = {json.dumps(text, ensure_ascii=False)}" for name, text in case.settings.items()]
    return "\n".join(lines) + "\n"


def judged(found: list[Case]) -> tuple[Plan, dict[str, str]]:
    """The plan of what the config accepts, and why it refuses the others, by case."""
    refused: dict[str, str] = {}
    try:
        parse(config_text(found).encode(), shown="values.toml", folder="/")
    except ConfigError as error:
        refused = {item.subject.split(".")[1]: f"{item.code} {item.message}" for item in error.findings}
    good = [case for case in found if case.name not in refused]
    return build_plan(parse(config_text(good).encode(), shown="values.toml", folder="/")), refused


def seen_in(guest: Guest, way: str, work: Mapping[str, Any], *, user: str | None = None) -> dict[str, Any]:
    """What `arithmetic_inside.py` prints."""
    script = Path(__file__).with_name("arithmetic_inside.py").read_bytes()
    guest.write_file("/var/tmp/arithmetic_inside.py", script, mode=0o755)
    guest.write_file("/var/tmp/arithmetic.json", json.dumps({**work, "attributes": _ATTRIBUTES}).encode(), mode=0o644)
    words = ("python3", "/var/tmp/arithmetic_inside.py", way, "/var/tmp/arithmetic.json")
    done = guest.run(words, env=ENVIRONMENT, user=user, timeout=800.0)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def outcome(known: bool, right: bool, actual: str, impossible: bool) -> str:
    """Why a reading is as it is: `known` is whether this systemd has the property, `right` whether it agrees with the plan.

    `impossible`: the plan says beforehand that the kernel refuses the value.
    """
    if not known:
        return "property too new for this systemd"
    if actual.startswith("!"):
        return NO_FILE
    if right:
        return AGREES
    return "the plan says that the kernel refuses it" if impossible else UNEXPLAINED
