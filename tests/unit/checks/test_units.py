"""systemd's word on the limits of units against the files of the kernel. systemctl is played; the lab has a real one."""

from collections.abc import Mapping

import pytest

from cgroup_preflight.checks.units import unit_findings
from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.host.command import Completed
from cgroup_preflight.host.units import ShownUnit, read_units

_SHOWN = {
    "Id": "api.slice", "ControlGroup": "/api.slice", "NeedDaemonReload": "no", "MemoryMin": "0", "MemoryLow": "0",
    "MemoryHigh": "infinity", "MemoryMax": "67108865", "MemorySwapMax": "infinity", "CPUQuotaPerSecUSec": "1.500000s",
    "CPUQuotaPeriodUSec": "infinity", "CPUWeight": "[not set]", "AllowedCPUs": "", "TasksMax": "99",
}  # fmt: skip
_FILES = {
    "memory.min": "0\n", "memory.low": "0\n", "memory.high": "max\n", "memory.max": "67108864\n",
    "memory.swap.max": "max\n", "cpu.max": "150000 100000\n", "cpu.weight": "100\n", "cpuset.cpus": "\n",
    "pids.max": "99\n",
}  # fmt: skip


class _Host:
    """One unit whose files are as given; a file with None is absent."""

    def __init__(self, shown: dict[str, str], files: Mapping[str, str | None], *, status: int = 0) -> None:
        self._shown, self._files, self._status = shown, files, status

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        assert argv[-3:] == ("*.service", "*.slice", "*.scope")
        text = "".join(f"{key}={value}\n" for key, value in self._shown.items())
        done = Completed(
            argv=argv, returncode=self._status, stdout=f"{text}\nId=gone.service\nControlGroup=\n", stderr="no"
        )
        return Known(value=done, source="systemctl")

    def exists(self, path: str) -> Reading[bool]:
        return Known(value=path == "/sys/fs/cgroup/api.slice/cgroup.procs", source=path)

    def read(self, path: str) -> Reading[str]:
        text = self._files.get(path.rpartition("/")[2])
        return Missing(source=path, why=Why.ABSENT) if text is None else Known(value=text, source=path)


def _units(
    shown: dict[str, str] | None = None, files: Mapping[str, str | None] | None = None
) -> Reading[tuple[ShownUnit, ...]]:
    host = _Host({**_SHOWN, **(shown or {})}, {**_FILES, **(files or {})})
    return read_units(host, host, "/sys/fs/cgroup")  # type: ignore[arg-type]


def _one(units: Reading[tuple[ShownUnit, ...]], *, systemd: int = 252) -> Finding:
    (found,) = unit_findings(units, page_size=4096, systemd=systemd)
    return found


def test_a_unit_with_its_limits_in_the_kernel_passes() -> None:
    found = _one(_units())
    assert found.status is Status.PASS
    assert found.message == "the kernel has the 3 limits and weights that systemd has for 1 unit"


@pytest.mark.parametrize(
    ("shown", "files", "text"),
    [
        ({}, {"memory.max": "max\n"}, "memory.max is 'max', systemd says '67108864'"),
        ({"MemoryMax": "infinity"}, {}, "memory.max is '67108864', systemd says 'max'"),
        ({}, {"cpu.max": "50000 100000\n"}, "cpu.max is '50000 100000', systemd says '150000 100000'"),
        ({"CPUQuotaPerSecUSec": "infinity"}, {}, "cpu.max is '150000 100000', systemd says 'max'"),
        ({"CPUQuotaPeriodUSec": "10ms"}, {}, "systemd says '15000 10000'"),
        ({}, {"pids.max": "100\n"}, "pids.max is '100', systemd says '99'"),
        ({"CPUWeight": "50"}, {}, "cpu.weight is '100', systemd says '50'"),
        ({"AllowedCPUs": "0-1"}, {"cpuset.cpus": "0\n"}, "cpuset.cpus is '0', systemd says '0-1'"),
        ({}, {"memory.max": None}, "memory.max is 'no such file', systemd says '67108864'"),
    ],
)
def test_each_difference_fails(shown: dict[str, str], files: Mapping[str, str | None], text: str) -> None:
    found = _one(_units(shown, files))
    assert (found.status, found.subject) == (Status.FAIL, "api.slice")
    assert text in found.message


@pytest.mark.parametrize(
    ("shown", "files"),
    [
        ({"CPUWeight": "50"}, {"cpu.weight": "50\n"}),
        ({"MemorySwapMax": "infinity"}, {"memory.swap.max": None}),
        ({"MemoryMax": "infinity", "CPUQuotaPerSecUSec": "infinity"}, {"memory.max": None, "cpu.max": "max 250000\n"}),
        ({"CPUWeight": "idle"}, {"cpu.weight": "1\n"}),
        ({"MemoryMax": str((1 << 64) - 1)}, {"memory.max": "max\n"}),
    ],
)
def test_no_limit_and_no_file_agree(shown: dict[str, str], files: Mapping[str, str | None]) -> None:
    assert _one(_units(shown, files)).status is Status.PASS


def test_the_cause_and_the_remedy() -> None:
    stale = {"memory.max": "1048576\n"}
    reload = _one(_units({"NeedDaemonReload": "yes"}, stale))
    assert reload.remedies[0].commands == (("systemctl", "daemon-reload"),)
    again = _one(_units({}, stale), systemd=257)
    assert "systemd 257 keeps the old limits" in again.message
    command = ("systemctl", "set-property", "--runtime", "api.slice", "MemoryMax=67108864")
    assert again.remedies[0].commands == (command,)
    assert "something else wrote the file" in _one(_units({}, stale)).message
    quota = _one(_units({}, {"cpu.max": "max 100000\n"}))
    assert quota.remedies[0].commands[0][-1] == "CPUQuota=150%"
    absent = _one(_units({}, {"memory.max": None}))
    assert "the controller is not enabled" in absent.message


def test_units_that_cannot_be_read_are_unverified() -> None:
    missing = Missing(source="systemctl", why=Why.ABSENT)
    assert _one(missing).status is Status.UNVERIFIED
    host = _Host({}, {}, status=1)
    assert _one(read_units(host, host, "/sys/fs/cgroup")).status is Status.UNVERIFIED  # type: ignore[arg-type]
    elsewhere = _one(_units({"ControlGroup": "/elsewhere.slice"}))
    assert elsewhere.status is Status.UNVERIFIED and "no unit" in elsewhere.message
    units = _units()
    assert isinstance(units, Known)
    denied = Missing(source="memory.max", why=Why.DENIED)
    files = tuple((name, denied if name == "memory.max" else reading) for name, reading in units.value[0].files)
    unit = ShownUnit(unit="a.service", cgroup="/a", needs_reload=False, shown=units.value[0].shown, files=files)
    assert _one(Known(value=(unit,), source="x")).status is Status.UNVERIFIED


@pytest.mark.parametrize(
    ("current", "status"),
    [(64 << 20, Status.PASS), ((64 << 20) + (1 << 20), Status.PASS), (100 << 20, Status.FAIL), (None, Status.PASS)],
)
def test_a_usage_above_a_limit_that_reads_back(current: int | None, status: Status) -> None:
    """systemd 262 writes it without waiting, and kernels from 6.16 on leave the usage above it."""
    text = None if current is None else f"{current}\n"
    finding = _one(_units(files={"memory.current": text}), systemd=262)
    assert finding.status is status
    if status is Status.FAIL:
        assert f"memory.current is {current} (100M)" in finding.message
        assert finding.evidence == {"/api.slice/memory.max": 64 << 20, "/api.slice/memory.current": current}
        assert finding.remedies[0].commands == (("systemctl", "restart", "--", "api.slice"),)


def test_without_a_limit_no_usage_is_above_it() -> None:
    units = _units({"MemoryMax": "infinity"}, {"memory.max": "max\n", "memory.current": f"{1 << 40}\n"})
    assert _one(units, systemd=262).status is Status.PASS


def test_a_list_of_cpus_that_the_kernel_refused() -> None:
    for text, says in (("", "refuses the whole list"), ("0-1", "something else wrote the file")):
        finding = _one(_units({"AllowedCPUs": "0-7"}, {"cpuset.cpus": f"{text}\n"}), systemd=262)
        assert finding.status is Status.FAIL
        assert says in finding.message
