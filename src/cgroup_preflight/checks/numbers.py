"""The numbers of a host that percentages and rounding refer to, from its facts."""

from cgroup_preflight.core.reading import value_or
from cgroup_preflight.host.facts import Facts
from cgroup_preflight.plan.expect import HostNumbers


def host_numbers(facts: Facts) -> HostNumbers:
    """The numbers; 0 where the host's memory or tasks could not be read.

    systemd, limits-util.c: `system_tasks_max` and `physical_memory` take the least of what the kernel has and of what
    the root cgroup may have, which in a container can be less.
    """
    limits = (value_or(facts.pid_max, 0), value_or(facts.threads_max, 0), value_or(facts.root.pids_max, None))
    memory = value_or(facts.meminfo, {}).get("MemTotal", 0)
    most = value_or(facts.root.memory_max, None)
    if most is not None:
        memory = min(memory, most // facts.page_size * facts.page_size)
    return HostNumbers(
        page_size=facts.page_size, memory_bytes=memory, tasks_max=min((value for value in limits if value), default=0)
    )


def numbers_of(facts: Facts) -> HostNumbers | None:
    """As `host_numbers`; None where the host's memory or tasks could not be read."""
    numbers = host_numbers(facts)
    return numbers if numbers.memory_bytes and numbers.tasks_max else None
