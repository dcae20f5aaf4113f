"""Readings for tests: cgroups as the text of their files, from a few numbers."""

from collections.abc import Mapping

from cgroup_preflight.metrics.moment import Moment
from cgroup_preflight.metrics.samples import Sample, Snapshot

#: Files of a cgroup in which nothing happens.
QUIET = {
    "cpu.stat": "usage_usec 0\nuser_usec 0\nsystem_usec 0\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
    "cpu.stat.local": "throttled_usec 0\n", "cpu.max": "max 100000\n", "cpu.weight": "100\n",
    "cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "memory.current": "1048576\n", "memory.max": "max\n", "memory.high": "max\n", "pids.current": "2\n",
    "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n",
    "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
}  # fmt: skip
HOST = {"/proc/stat": b"cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0\ncpu1 0 0\n", "/proc/meminfo": b"MemTotal: 4194304 kB\n"}


def sample(path: str, seconds: float, identity: int = 7, **files: str) -> Sample:
    """A cgroup at a moment; `cpu_stat` names the file `cpu.stat`."""
    texts = {**QUIET, **{name.replace("_", "."): text for name, text in files.items()}}
    return Sample(
        cgroup=path,
        cgroup_id=identity,
        stamp_ns=int(seconds * 1e9),
        files={name: text.encode() for name, text in texts.items()},
    )


def moment(seconds: float, samples: Mapping[str, Sample], *, wall: float | None = None, host: Mapping[str, bytes] = HOST,
           threads: Mapping[str, tuple[int, ...]] | None = None) -> Moment:  # fmt: skip
    """A reading of these cgroups."""
    return Moment(
        snapshot=Snapshot(
            started_ns=int(seconds * 1e9), stamp_ns=int(seconds * 1e9), wall=1e9 + seconds if wall is None else wall,
            samples=samples, errors={},
        ),
        host=host, threads=threads or {},
    )  # fmt: skip


def throttled(
    path: str, seconds: float, *, periods: int, stopped: int, identity: int = 7, used: float = 0.05
) -> Sample:
    """A cgroup with a quota of half a CPU, of whose periods so many were used up; each costs 150 ms on two CPUs."""
    stat = (
        f"usage_usec {int(periods * used * 1e6)}\nuser_usec 0\nsystem_usec 0\nnr_periods {periods}\nnr_throttled {stopped}\n"
        f"throttled_usec {stopped * 150_000}\n"
    )
    waits = f"some avg10=0.00 avg60=0.00 avg300=0.00 total={stopped * 90_000}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    return sample(
        path, seconds, identity, cpu_stat=stat, cpu_max="50000 100000\n", cpu_pressure=waits,
        cpu_stat_local=f"throttled_usec {stopped * 150_000}\n",
    )  # fmt: skip


def contended(count: int = 6) -> list[Moment]:
    """Readings a second apart, in which `/api.slice/a.service` is throttled."""
    return [
        moment(100 + n, {
            "": sample("", 100 + n, 1),
            "/api.slice": sample("/api.slice", 100 + n, 2),
            "/api.slice/a.service": throttled("/api.slice/a.service", 100 + n, periods=10 * n, stopped=10 * n),
            "/api.slice/calm.service": sample("/api.slice/calm.service", 100 + n, 9),
        }, threads={"/api.slice/a.service": (4001, 4002)})
        for n in range(count)
    ]  # fmt: skip
