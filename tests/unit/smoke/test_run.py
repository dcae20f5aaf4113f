"""What a run takes of a host's facts."""

from dataclasses import replace

import pytest

from cgroup_preflight.core.reading import Known
from cgroup_preflight.smoke.run import host_numbers
from tests.unit.host.fabricate import facts, unreadable

GIB = 1 << 30


def numbers(memory, pids):
    """Memory and tasks with these limits at the root cgroup; `absent` for no file there."""
    limits = {
        name: unreadable() if value == "absent" else Known(value=value, source="fake")
        for name, value in (("memory_max", memory), ("pids_max", pids))
    }
    host = facts(
        meminfo={"MemTotal": 4 * GIB}, pid_max=4194304, threads_max=63000, root=replace(facts().root, **limits)
    )
    found = host_numbers(host)
    return found.memory_bytes, found.tasks_max


@pytest.mark.parametrize(
    ("memory", "pids", "expected"),
    [
        ("absent", "absent", (4 * GIB, 63000)),  # the real root has no limits
        (None, None, (4 * GIB, 63000)),
        (GIB, 500, (GIB, 500)),
        (GIB + 100, 70000, (GIB, 63000)),
        (8 * GIB, 500, (4 * GIB, 500)),
    ],
)
def test_parts_are_of_the_least_of_machine_and_root_cgroup(memory, pids, expected):
    assert numbers(memory, pids) == expected
