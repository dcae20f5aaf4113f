"""For each code a host that passes it and one of which it says otherwise, recorded or with one answer changed."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.unit.checks import hosts

_FS = "/sys/fs/cgroup"
_SAMPLE = f"names {_FS}/system.slice cgroup.,cpu.,cpuset.,io.,memory.,pids."
_USER = f"{_FS}/user.slice/user-1000.slice"
_HEAD = '[project]\nname = "case"\n'
_MEMORY = f'{_HEAD}[services.a]\nbinary = "a"\nMemoryMax = "64M"\n'
Change = dict[str, dict[str, Any] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A recorded host, answers of it changed, and the config it is judged with; `says` is the status expected."""

    host: str
    says: str
    config: str = ""
    change: Change = field(default_factory=dict)
    commands: Change = field(default_factory=dict)
    elsewhere: str = ""

    def document(self) -> dict[str, Any]:
        """The recording with its changes."""
        document = hosts.recording(self.host)
        if self.elsewhere:
            keep = document["host"]["pieces /proc/self/mountinfo"]["keep"]
            document = json.loads(json.dumps(document).replace(_FS, self.elsewhere))
            document["host"]["pieces /proc/self/mountinfo"]["keep"] = keep
        return hosts.changed(document, host=self.change, commands=self.commands)

    def statuses(self, code: str) -> set[str]:
        """What the check says."""
        config = hosts.config_of(self.config) if self.config else None
        _, findings = hosts.judge(hosts.facts_of(self.document()), config)
        return {item.status.value for item in findings if item.code == code}


def _config(unit: str = "", require: str = "") -> str:
    return f'{_HEAD}[require]\ncontrollers = ["memory"]\n{require}\n[services.a]\nbinary = "a"\n{unit}\n'


def _in_slice(setting: str) -> str:
    return f'{_HEAD}[slices.s]\n{setting}\n[services.a]\nbinary = "a"\nslice = "s"\n'


def _without(host: str, *names: str) -> dict[str, Any]:
    return {"value": [name for name in hosts.recording(host)["host"][_SAMPLE]["value"] if name not in names]}


def _pieces(host: str, path: str, *more: str, drop: str = "\0") -> Change:
    entry = hosts.recording(host)["host"][f"pieces {path}"]
    kept = [piece for piece in entry["value"] if drop not in piece]
    return {f"pieces {path}": {**entry, "value": [*kept, *more]}}


def _stray(controller: str) -> Change:
    line = f"99 1 0:99 / /mnt/v1 rw - cgroup cgroup rw,{controller}"
    return _pieces("debian-12", "/proc/self/mountinfo", line)


_KERNEL_INSTALL: Change = {"names /etc/kernel cmdline": {"value": ["cmdline"]}}
_ROOT_WITHOUT_MEMORY: Change = {f"read {_FS}/cgroup.controllers": {"value": "cpu io pids\n"}}
_SWAP = _pieces("debian-12", "/proc/meminfo", "SwapTotal:      1048576 kB", drop="SwapTotal")
_BFQ = {"read /sys/block/vda/queue/scheduler": {"value": "none [bfq]\n"}}
_THREADED = {f"read {_USER}/cgroup.type": {"value": "domain threaded\n"}}
_NO_BANDWIDTH = _pieces("rhel-9", "/boot/config-5.14.0-570.12.1.el9_6.x86_64", "# CONFIG_CFS_BANDWIDTH is not set",
                        drop="CFS_BANDWIDTH")  # fmt: skip
_RT = _pieces("rhel-9", "/boot/config-5.14.0-570.12.1.el9_6.x86_64", "CONFIG_RT_GROUP_SCHED=y", drop="RT_GROUP")
_ZSWAP = {_SAMPLE: {"value": [*_without("debian-13")["value"], "memory.zswap.max"]}}
_SHOW = "systemctl show --property=Version,SystemState"
_STARTING = {_SHOW: {"status": 0, "out": "Version=252\nSystemState=starting\n", "err": ""}}
_NO_ANSWER = {_SHOW: {"status": 1, "out": "", "err": "Failed to connect to bus: Host is down\n"}}

_NO_IO_COST = _pieces("rhel-9", "/boot/config-5.14.0-570.12.1.el9_6.x86_64",
                      "# CONFIG_BLK_CGROUP_IOCOST is not set", drop="IOCOST")  # fmt: skip
_IN_SLICE = f'{_HEAD}[slices.s]\nMemoryMax = "64M"\n[services.a]\nbinary = "a"\nslice = "s"\n'
_SERVICES_CAPPED: Change = {f"read {_FS}/system.slice/memory.max": {"value": "33554432\n"}}
_NO_MOUNT = _pieces("debian-12", "/proc/self/mountinfo", drop="cgroup2")
_UNIFIED = hosts.recording("debian-12")["host"]["pieces /proc/self/mountinfo"]
_PID_1_UNIFIED: Change = {"pieces /proc/1/mountinfo": _UNIFIED}
_PID_1_HYBRID: Change = {
    "pieces /proc/1/mountinfo": hosts.recording("debian-12-hybrid")["host"]["pieces /proc/self/mountinfo"]
}
_PID_1_HIDDEN: Change = {"pieces /proc/1/mountinfo": {"missing": "denied", "errno": "EACCES"}}

REAL_TIME_BUT_ENABLED = Case(host="rhel-9", says="pass", change=_RT)

NOT_IN_SYSTEM_SLICE = Case(host="debian-12", says="pass", config=_IN_SLICE, change=_SERVICES_CAPPED)

PASSES: dict[str, Case] = {
    **{code: Case(host="debian-12", says="pass") for code in (
        "CGP101", "CGP102", "CGP103", "CGP104", "CGP105", "CGP106", "CGP107", "CGP108", "CGP109", "CGP110", "CGP111",
        "CGP112", "CGP115", "CGP118", "CGP121", "CGP122", "CGP124", "CGP127")},
    "CGP113": Case(host="rhel-9", says="pass"),
    "CGP114": Case(host="rhel-9", says="pass"),
    "CGP116": Case(host="debian-13", says="pass", config=_config('MemoryZSwapMax = "1M"'), change=_ZSWAP),
    "CGP117": Case(host="debian-13", says="pass"),
    "CGP119": Case(host="debian-13", says="pass", config=_config("IOWeight = 60"), change=_BFQ),
    "CGP120": Case(host="debian-13", says="pass", config=_config('AllowedCPUs = "0-3"')),
    "CGP123": Case(host="debian-12-user-delegated", says="pass"),
    "CGP125": Case(host="debian-12", says="pass", config=_MEMORY),
    "CGP126": Case(host="debian-12", says="pass", config=_MEMORY),
}  # fmt: skip

SAYS_OTHERWISE: tuple[tuple[str, Case], ...] = (
    ("CGP101", Case(host="debian-12-hybrid", says="fail")),
    ("CGP101", Case(host="wsl2-hybrid", says="fail")),
    ("CGP101", Case(host="debian-12", says="unverified", change={f"device {_FS}": {"value": "0:99"}})),
    ("CGP101", Case(host="debian-12", says="unverified", change={**_NO_MOUNT, **_PID_1_UNIFIED})),
    ("CGP101", Case(host="debian-12", says="unverified", change={**_NO_MOUNT, **_PID_1_HIDDEN})),
    ("CGP101", Case(host="debian-12", says="fail", change={**_NO_MOUNT, **_PID_1_HYBRID})),
    ("CGP101", Case(host="alpine", says="fail", change=_NO_MOUNT)),
    ("CGP101", Case(host="debian-12-legacy", says="fail", change=_KERNEL_INSTALL)),
    ("CGP102", Case(host="debian-12", says="fail", change={f"read {_FS}/cgroup.controllers": {"value": "cpuset\n"}})),
    ("CGP102", Case(host="debian-12-memory-off", says="fail", change=_KERNEL_INSTALL)),
    ("CGP102", Case(host="debian-12", says="fail", change={**_stray("memory"), **_ROOT_WITHOUT_MEMORY})),
    ("CGP102", Case(host="podman-rootless", says="unverified",
                    change={f"read {_FS}/cgroup.controllers": {"value": "memory pids\n"}})),
    ("CGP103", Case(host="podman-rootful", says="unverified")),
    ("CGP103", Case(host="podman-with-host-folder", says="unverified")),
    ("CGP104", Case(host="debian-12", says="fail", config=_config(require='systemd = ">=255"'))),
    ("CGP104", Case(host="debian-12", says="fail", config=_config('MemoryZSwapMax = "1M"'))),
    ("CGP105", Case(host="debian-12", says="unverified", commands=_NO_ANSWER)),
    ("CGP105", Case(host="debian-12", says="unverified", commands={_SHOW: {"missing": "absent", "errno": "ENOENT"}})),
    ("CGP105", Case(host="debian-12-user-no-manager", says="unverified")),
    ("CGP105", Case(host="debian-12-user-without-cpu", says="fail")),
    ("CGP106", Case(host="debian-12", says="fail", config=_config(require='kernel = ">=6.6"'))),
    ("CGP106", Case(host="debian-12", says="unverified",
                    change={"read /proc/sys/kernel/osrelease": {"value": "unheard-of\n"}})),
    ("CGP107", Case(host="podman-host-namespace", says="warn")),
    ("CGP108", Case(host="debian-12-read-only", says="fail")),
    ("CGP108", Case(host="debian-12-read-only-mount", says="fail")),
    ("CGP108", Case(host="podman-rootful", says="unverified")),
    ("CGP108", Case(host="debian-12-job-sees-read-only", says="unverified",
                    change={"pieces /proc/1/mountinfo": {"missing": "denied", "errno": "EACCES"}})),
    ("CGP109", Case(host="debian-12", says="unverified", elsewhere="/cgroup2")),
    ("CGP109", Case(host="debian-12", says="unverified", elsewhere="/cgroup2", change=_PID_1_HYBRID)),
    ("CGP109", Case(host="debian-12", says="warn", elsewhere="/cgroup2", change=_PID_1_UNIFIED)),
    ("CGP109", Case(host="alpine", says="warn", elsewhere="/cgroup2")),
    ("CGP110", Case(host="debian-12-root-slice-without-cpu", says="fail")),
    ("CGP110", Case(host="debian-12-user-slice-without-cpu", says="fail")),
    ("CGP111", Case(host="debian-12-user-delegated", says="fail", change=_THREADED)),
    ("CGP111", Case(host="debian-12", says="fail",
                    change={f"read {_FS}/system.slice/cgroup.type": {"value": "domain threaded\n"}})),
    ("CGP112", Case(host="debian-12-cpu-off", says="fail", change=_KERNEL_INSTALL)),
    ("CGP112", Case(host="debian-13-psi-off", says="warn", change=_KERNEL_INSTALL)),
    ("CGP113", Case(host="rhel-9", says="fail", change=_NO_BANDWIDTH)),
    ("CGP113", Case(host="debian-12", says="fail", change={_SAMPLE: _without("debian-12", "cpu.max")})),
    ("CGP113", Case(host="rhel-9", says="warn", config=_config("IOWeight = 60"), change=_NO_IO_COST)),
    ("CGP114", Case(host="rhel-9", says="unverified",
                    change={**_RT, f"read {_FS}/cgroup.subtree_control": {"value": "memory pids\n"}})),
    ("CGP115", Case(host="debian-12", says="warn", config=_MEMORY, change=_SWAP)),
    ("CGP115", Case(host="debian-12", says="warn", config=_IN_SLICE, change=_SWAP)),
    ("CGP115", Case(host="debian-12", says="warn",
                    change={**_SWAP, _SAMPLE: _without("debian-12", "memory.swap.max")})),
    ("CGP116", Case(host="debian-13", says="fail", config=_config('MemoryZSwapMax = "1M"'))),
    ("CGP117", Case(host="debian-12", says="warn")),
    ("CGP117", Case(host="debian-13-psi-off", says="warn", change=_KERNEL_INSTALL)),
    ("CGP118", Case(host="debian-12", says="warn", change={_SAMPLE: _without("debian-12", "memory.peak")})),
    ("CGP119", Case(host="debian-13", says="warn", config=_config("IOWeight = 60"))),
    ("CGP120", Case(host="debian-13", says="fail", config=_config('AllowedCPUs = "0-63"'))),
    ("CGP120", Case(host="debian-13", says="unverified", config=_config('AllowedCPUs = "0-63"'),
                    change={"read /sys/devices/system/cpu/possible": {"value": "0-127\n"}})),
    ("CGP121", Case(host="debian-12", says="warn", commands=_STARTING)),
    ("CGP122", Case(host="debian-12", says="warn", change={"exists /run/dbus/system_bus_socket": {"value": False}})),
    ("CGP123", Case(host="debian-12-user-delegated", says="warn",
                    change={"exists /var/lib/systemd/linger/user": {"value": False}})),
    ("CGP124", Case(host="gitlab-docker", says="warn")),
    ("CGP125", Case(host="debian-12", says="fail", config=_MEMORY, change=_SERVICES_CAPPED)),
    ("CGP125", Case(host="debian-12-user-slice-capped", says="fail", config=_config('MemoryMax = "96M"'))),
    ("CGP125", Case(host="debian-12-user-slice-capped", says="warn", config=_in_slice('MemoryMax = "96M"'))),
    ("CGP126", Case(host="debian-12", says="fail", config=_config('MemoryMin = "64G"'))),
    ("CGP126", Case(host="debian-12", says="warn", config=_config('CPUQuota = "800%"'))),
    ("CGP126", Case(host="debian-12", says="warn", config=_in_slice('MemoryMax = "64G"'))),
    ("CGP126", Case(host="debian-12", says="warn", config=_in_slice('CPUQuota = "800%"'))),
    ("CGP126", Case(host="debian-12", says="warn", config=_in_slice("TasksMax = 4194304"))),
    ("CGP126", Case(host="debian-12", says="warn", config=_config("TasksMax = 4194304"))),
    ("CGP127", Case(host="debian-12", says="fail", change=_stray("memory"))),
    ("CGP127", Case(host="debian-12", says="warn", change=_stray("net_cls"))),
)  # fmt: skip
