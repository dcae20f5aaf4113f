"""The agent's pure part: where systemd put it."""

from pathlib import Path

import pytest

from cgroup_preflight.guest.inside.jobs import own_cgroup


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/system.slice/a.service\n", "/sys/fs/cgroup/system.slice/a.service"),
        ("2:pids:/\n1:name=systemd:/system.slice/a:b\n0::/x\n", "/sys/fs/cgroup/systemd/system.slice/a:b"),
        ("3:cpu,cpuacct:/\n1:name=systemd:/x\n", "/sys/fs/cgroup/systemd/x"),
    ],
)
def test_own_cgroup(text, expected):
    assert own_cgroup(text) == Path(expected)
