"""What a reading of a limit leads to: each cause has its own way out."""

import re

import pytest

from cgroup_preflight.core.reading import Reading
from cgroup_preflight.smoke.limits import remedy_of
from tests.unit.smoke.fabricate import ABSENT, DENIED, limits

_CONFIG = '[services.web]\nbinary = "dist/web"\n{line}\n'


@pytest.mark.parametrize(
    ("line", "attribute", "actual", "title"),
    [
        ('MemoryMax = "64M"', "memory_max", ABSENT, "does not enable the memory controller"),
        ('MemoryMax = "64M"', "memory_max", DENIED, "does not enable the memory controller"),
        ('MemoryMax = "64M"', "memory_max", "max", "what else writes the file"),
        ('MemoryMax = "64M"', "memory_max", "67108864", "without waiting|which waits"),
        ('IOReadIOPSMax = "/dev/absent 7"', "io_max", "", "name a device of this machine"),
        ('AllowedMemoryNodes = "7"', "cpuset_mems", "", "name only CPUs and nodes of memory"),
        ('AllowedCPUs = "7"', "cpuset_cpus", "", "name only CPUs and nodes of memory"),
    ],
)
def test_a_limit_that_is_not_in_force_has_the_remedy_of_its_cause(
    line: str, attribute: str, actual: "Reading[str] | str", title: str
) -> None:
    found = limits(_CONFIG.format(line=line), **{attribute: actual})
    (item,) = [one for one in found if one.expected.attribute == attribute.replace("_", ".", 1)]
    assert re.search(title, remedy_of(item).title)
    without = remedy_of(item, manager=False)
    # Nothing of a service manager, where there is none.
    assert "systemd" not in f"{without.title} {without.why}"
    assert "journal" not in f"{without.title} {without.commands}"
