"""Windows for tests: cgroups with the numbers that a test names, and ordinary ones for the rest."""

from typing import Any

from cgroup_preflight.metrics.window import Cpu, Group, Host, Io, Memory, Pressure, Series, Window

GIB = 1 << 30


def pressure(waiting: float, stalled: float = 0.0) -> Pressure:
    return Pressure(waiting=waiting, stalled=stalled)


def group(path: str, usage: float = 0.0, waiting: float | None = 0.0, **values: Any) -> Group:
    """A cgroup; `memory` and `io` are records, the other values are those of `Cpu`."""
    memory, io, tasks = values.pop("memory", Memory(current=1 << 20)), values.pop("io", Io()), values.pop("tasks", 8)
    cpu = Cpu(usage=usage, pressure=None if waiting is None else pressure(waiting), **values)
    return Group(path=path, cpu=cpu, memory=memory, io=io, tasks=tasks)


def host(**values: Any) -> Host:
    """Four CPUs, half busy, with 4 GiB."""
    usual = {"cpus": 4, "busy": 0.5, "steal": 0.0, "memory_total": 4 * GIB, "memory_available": 3 * GIB,
             "cpu": pressure(0.0), "memory": pressure(0.0), "io": pressure(0.0)}  # fmt: skip
    return Host(**{**usual, **values})


def series(*groups: Group, seconds: float = 10.0, parts: int = 10, pressure: bool = True, local_stat: bool = True,
           **host_values: Any) -> Series:  # fmt: skip
    """The same in each part of the time."""
    members = {item.path: item for item in groups}
    machine = host(**host_values)

    def window(begin: float, end: float) -> Window:
        return Window(begin=begin, end=end, host=machine, groups=members)

    step = seconds / parts
    return Series(
        whole=window(100.0, 100.0 + seconds), parts=tuple(window(100 + n * step, 100 + (n + 1) * step) for n in range(parts)),
        pressure=pressure, local_stat=local_stat,
    )  # fmt: skip
