"""Makes the engine of a choice."""

import os

from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.choice import EngineChoice

if TYPE_CHECKING:
    from cgroup_preflight.engines.base import Engine
    from cgroup_preflight.host.door import Door
    from cgroup_preflight.host.facts import Facts
    from cgroup_preflight.plan.expect import HostNumbers


def make_engine(choice: EngineChoice, facts: "Facts", door: "Door", numbers: "HostNumbers") -> "Engine":
    """The engine; `numbers` are those of the host, with the devices that the plan names."""
    uid = value_or(facts.uid, 0)
    # Each loads only what it needs: the one its words for systemd, the other its files.
    if choice.place is not None:
        from cgroup_preflight.engines.cgroup_shared import Shared
        from cgroup_preflight.engines.cgroup_tree import CgroupFiles, Subtree
        from cgroup_preflight.engines.cgroupfs import Cgroups, run_folder

        tree = Subtree(CgroupFiles(), door.clock, facts.mount_point, choice.place.path)
        folder = run_folder(os.geteuid(), choice.place.path)
        shared = Shared(door.clock, tree.path(tree.base), f"{folder}/enabled")
        return Cgroups(tree, shared, numbers, uid=os.geteuid(), unit_folder=folder)
    from cgroup_preflight.engines.systemd import Manager, private_bus

    return Manager(choice, door, private_bus(choice, door.manager), uid=uid, systemd=value_or(facts.systemd_version, 0))
