"""Which machine a config gets."""

import pytest

from cgroup_preflight.config.keys import DISTROS
from cgroup_preflight.guest.recipe import SUITES
from cgroup_preflight.guest.requirements import HostCapacity, choose_machine, requirements_of
from cgroup_preflight.guest.spec import GuestEngine
from tests.unit.core.making import config_of

BOTH = HostCapacity(uml=True, qemu=True, cpus=2, memory_mib=16_000)
ALONE = HostCapacity(uml=True, qemu=False, cpus=2, memory_mib=16_000)
SERVICE = '[services.web]\nbinary = "web"\n'


def machine(text: str, host: HostCapacity = BOTH, wanted: str = "auto"):
    return choose_machine(requirements_of(config_of(text)), wanted, host, input_bytes=0)


@pytest.mark.parametrize(
    ("text", "engine", "cpus"),
    [
        (SERVICE, GuestEngine.UML, 1),
        (SERVICE + 'CPUQuota = "99%"\n', GuestEngine.UML, 1),
        (SERVICE + 'CPUQuota = "100%"\n', GuestEngine.QEMU, 2),
        (SERVICE + 'CPUQuota = "350%"\n', GuestEngine.QEMU, 4),
        (SERVICE + 'AllowedCPUs = "0-2"\n', GuestEngine.QEMU, 3),
        (SERVICE + '[slices.a]\nCPUQuota = "150%"\n', GuestEngine.QEMU, 2),
        (SERVICE + "[target]\nnetwork = true\n", GuestEngine.QEMU, 2),
        ('[require]\ncontrollers = ["cpuset"]\n' + SERVICE, GuestEngine.QEMU, 2),
    ],
)
def test_qemu_only_for_what_the_other_lacks(text, engine, cpus):
    found = machine(text)
    assert (found.engine, found.cpus) == (engine, cpus)
    assert found.consequences == (() if engine is GuestEngine.QEMU else ("it has 1 CPU and no pressure information",))


def test_without_qemu_a_quota_is_told_to_be_unverified():
    found = machine(SERVICE + 'CPUQuota = "150%"\n', ALONE)
    assert found.engine is GuestEngine.UML
    assert "CPUQuota=150% needs more than one CPU: unverified without QEMU" in found.consequences[0]


def test_without_qemu_what_cannot_be_tried_at_all_asks_for_it():
    assert machine(SERVICE + 'AllowedCPUs = "0"\n', ALONE).engine is GuestEngine.QEMU


def test_more_cpus_than_can_be_had_is_a_consequence():
    found = machine(SERVICE + 'CPUQuota = "1200%"\n')
    assert found.cpus == 4
    assert found.consequences == ("it has 4 CPUs, so what needs more is unverified",)


def test_the_users_word_counts():
    assert machine(SERVICE, wanted="qemu").engine is GuestEngine.QEMU
    assert machine(SERVICE + 'CPUQuota = "150%"\n', wanted="uml").engine is GuestEngine.UML


@pytest.mark.parametrize("limit", [16, 192, 1024])
def test_memory_holds_the_largest_limit_and_is_bounded_by_the_host(limit):
    found = machine(SERVICE + f'MemoryMax = "{limit}M"\n')
    assert limit + 128 <= found.memory_mib <= limit + 512
    small = machine(SERVICE + 'MemoryMax = "64G"\n')
    assert small.memory_mib == BOTH.memory_mib // 2


def test_the_config_knows_the_guests_distributions():
    assert tuple(SUITES) == DISTROS
