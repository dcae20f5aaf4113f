"""A host without a service manager: the engine cgroupfs with real processes, on cgroups that are played."""

import os
from dataclasses import replace

from cgroup_preflight.engines.base import Launch
from cgroup_preflight.engines.cgroup_shared import Shared
from cgroup_preflight.engines.cgroup_tree import Subtree
from cgroup_preflight.engines.cgroupfs import Cgroups
from cgroup_preflight.engines.hold import wait_until
from cgroup_preflight.host.local import LocalClock
from cgroup_preflight.plan.expect import HostNumbers
from cgroup_preflight.plan.model import UnitFile
from tests.unit.engines.cgroup_kernel import PlayedCgroups

NUMBERS = HostNumbers(page_size=4096, memory_bytes=1 << 30, tasks_max=1000)
SCOPE = "cgpf000000000001"
SLICES = (
    UnitFile(path=f"{SCOPE}.slice", content="[Slice]\n"),
    UnitFile(path=f"{SCOPE}-api.slice", content="[Slice]\nMemoryMax=64M\nCPUWeight=50\n"),
)
UNIT = f"{SCOPE}-web.service"


class Host:
    """One played cgroup file system, and the engine below its cgroup /job."""

    def __init__(self, tmp_path, controllers="cpu memory pids cpuset"):
        self.kernel = PlayedCgroups(tmp_path / "cgroup", controllers, root=True)
        for name in controllers.split():
            self.kernel.write(f"{self.kernel.mount}/cgroup.subtree_control", f"+{name}")
        self.kernel.make(f"{self.kernel.mount}/job")
        self.kernel.put("/job", os.getpid())
        self.kernel.written.clear()
        self.folder = str(tmp_path / "runs")
        self.output = str(tmp_path / "output")
        self.engine = self.another()

    def another(self):
        tree = Subtree(self.kernel, LocalClock(), self.kernel.mount, "/job")
        shared = Shared(LocalClock(), f"{self.kernel.mount}/job", f"{self.folder}/enabled")
        return Cgroups(tree, shared, NUMBERS, uid=os.geteuid(), unit_folder=self.folder)

    def up(self):
        return self.engine.create_slices(SLICES, [item.path for item in SLICES])

    def launch(self, *command, **changes):
        made = Launch(
            unit=UNIT, slice=f"{SCOPE}-api.slice", description="", command=command,
            settings=(("MemoryMax", "32M"),), output=self.output, folder="/",
        )  # fmt: skip
        return replace(made, **changes)

    def until(self, *phases, unit=UNIT):
        wait_until(LocalClock(), lambda: self.engine.states([unit])[unit].phase in phases, 20)
        state = self.engine.states([unit])[unit]
        assert state.phase in phases
        return state

    def wrote(self):
        with open(self.output) as file:
            return file.read()
