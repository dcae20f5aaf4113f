"""The example through the door of a guest without an agent: the services run there, and everything else runs here.

`smoke` runs in the guest first, and then from this host in the same guest, in each distribution under each machine. Both
must find the same, limit by limit.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.cli import guest_outside
from cgroup_preflight.config.load import load
from cgroup_preflight.guest import image
from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.lines import GuestLines
from cgroup_preflight.guest.outside import Outside
from cgroup_preflight.guest.project import Project, project_of
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.requirements import GuestMachine
from cgroup_preflight.guest.run import GuestTask, booted
from cgroup_preflight.guest.spec import GuestEngine, GuestSpec
from cgroup_preflight.report.codec import document
from tests.lab.configs import Outcome
from tests.lab.environments import PYTHON, command_environment

_CONFIG = Path(__file__).parents[2] / "examples/shop/cgroup-preflight.toml"
_GUESTS = [
    pytest.param(distro, engine, id=f"{distro}-{engine}", marks=[] if (distro, engine) == ("debian-12", "uml") else [pytest.mark.newest])
    for distro in ("debian-12", "debian-13", "debian-14") for engine in GuestEngine
]  # fmt: skip
_MACHINES = {
    GuestEngine.UML: GuestMachine(engine=GuestEngine.UML, cpus=1, memory_mib=512),
    GuestEngine.QEMU: GuestMachine(engine=GuestEngine.QEMU, cpus=2, memory_mib=768),
}


def _inside(guest: BareGuest, project: Project) -> dict[str, Any]:
    argv = ["python3", "-m", "cgroup_preflight", "smoke", "--inside", "--engine=systemd", "--format=json",
            f"--config={project.folder}/{project.config_name}"]  # fmt: skip
    done = guest.run(argv, env=command_environment(), timeout=400)
    assert done.returncode in (0, 1, 3), done
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _found(report: dict[str, Any]) -> Counter[tuple[str, str, str, str]]:
    """What was found, with the limit that a message begins with."""
    return Counter(
        (item["code"], item["subject"], item["status"], item["message"].partition(":")[0] if item["code"] == "CGP511" else "")
        for item in report["findings"]
    )  # fmt: skip


def _proven(report: dict[str, Any]) -> dict[str, dict[str, str | None]]:
    """By service the files of its limits, as the kernel has them."""
    outcome = Outcome(exit_status=0, report=report, text="", stderr="")
    return {item["name"]: outcome.limits(item["name"]) for item in report["services"]}


@pytest.mark.parametrize(("distro", "engine"), _GUESTS)
def test_the_example_has_the_same_verdict_from_outside(
    distro: str, engine: GuestEngine, lab_inputs: dict[str, Path], say: Callable[..., None]
) -> None:
    config, machine = load(_CONFIG), _MACHINES[engine]
    project = project_of(config)
    qemu = engine is GuestEngine.QEMU
    recipe = recipe_for(distro, with_kernel=qemu, packages=PYTHON, bare=True)
    root = image.ensure(recipe, image.cache_folder(os.environ))
    spec = GuestSpec(
        engine=engine, distro=distro, cpus=machine.cpus, memory_mib=machine.memory_mib, boot_timeout=240.0,
        inputs={**project.inputs, "src": lab_inputs["src"]},
    )  # fmt: skip
    with booted(lambda: BareGuest(spec, root), lambda _: None, time.monotonic) as (guest, _):
        inside = _inside(guest, project)
        ready = Outside(
            guest=guest, lines=GuestLines(guest), root=root, project=project, machine=machine, lost_boot="",
            task=GuestTask(config=config, words=("smoke",), names=(), distro=distro),
        )  # fmt: skip
        began = time.monotonic()
        outside: dict[str, Any] = document(guest_outside._report(ready, lambda _: None))
        seconds = time.monotonic() - began
    proven = _proven(outside)
    say(distro, engine, "inside", inside["verdict"], "through the door", outside["verdict"], f"{seconds:.0f} s",
        sum(map(len, proven.values())), "limits")  # fmt: skip
    assert outside["verdict"] == inside["verdict"] == "pass", outside["findings"]
    assert outside["host"] == inside["host"]
    assert proven == _proven(inside)
    assert _found(outside) == _found(inside)
