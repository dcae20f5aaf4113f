"""The only function that reads the facts of a host; it reads every file once."""

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host import procfs, systemd
from cgroup_preflight.host.boot import read_boot_loader
from cgroup_preflight.host.cgroupfs import (
    CgroupReading,
    Mount,
    below_mount,
    mount_at,
    of_type,
    parse_flat_keyed,
    parse_mountinfo,
    parse_pressure,
    parse_proc_cgroup,
    read_levels,
)
from cgroup_preflight.host.container import read_container, read_namespace
from cgroup_preflight.host.facts import Disks, Facts, Sample
from cgroup_preflight.host.fs import HostFs
from cgroup_preflight.host.procfs import OPTIONS, parse_kernel_config, read_kernel
from cgroup_preflight.host.systemd import disabled_controllers

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner

_CGROUP_ROOT = "/sys/fs/cgroup"
#: The kernel parameters that decide about cgroups; no other part of the command line is kept.
_PARAMETERS = (
    "cgroup_disable=", "cgroup_enable=", "cgroup_no_v1=", "cgroup_memory=", "cgroup.memory=", "psi=", "swapaccount=",
    "systemd.unified_cgroup_hierarchy", "systemd.legacy_systemd_cgroup_controller", "rt_group_sched=",
)  # fmt: skip
#: Every complete mountinfo has the line of /proc: without it the file is cut off.
_MOUNTS = (" cgroup ", " cgroup2 ", f" {_CGROUP_ROOT} ", " / /proc ")
_ATTRIBUTES = ("cgroup.", "cpu.", "cpuset.", "io.", "memory.", "pids.")
_DISKS_MAX = 32
_NOT_NEEDED = Missing(source="/proc/1/mountinfo", why=Why.ABSENT, detail="not needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cgroups:
    """The mounts, the one in use, and the caller's place below it."""

    mounts: Reading[tuple[Mount, ...]]
    mount: Reading[Mount]
    point: str
    own_path: Reading[str]
    own: tuple[CgroupReading, ...]
    root: CgroupReading


def gather(fs: HostFs, runner: "CommandRunner") -> Facts:
    """Everything that the checks and engines need; writes nothing and takes no privilege."""
    cgroups = _cgroups(fs)
    point = cgroups.point
    kernel = read_kernel(fs, "/proc/sys/kernel/osrelease", procfs.parse_line)
    uid = parsed(fs.pieces("/proc/self/status", ("Uid:",), "\n"), lambda lines: procfs.parse_uid("\n".join(lines)))
    pid1 = read_kernel(fs, "/proc/1/comm", procfs.parse_line)
    running = systemd.systemd_running(fs, pid1)
    runs = value_or(running, default=False)
    read_only = fs.read_only(point)
    release, state = systemd.system_manager(runner, running=runs)
    return Facts(
        kernel=kernel, machine=fs.machine(), uid=uid, pid1=pid1,
        mounts=cgroups.mounts, cgroup_mount=cgroups.mount, own_cgroup=cgroups.own_path, own=cgroups.own,
        root=cgroups.root, cgroup_read_only=read_only,
        services=read_levels(fs, point, "/system.slice", (cgroups.root, *cgroups.own))[-1],
        manager_mount=_manager_mount(fs, cgroups.mount, read_only) if runs else _NOT_NEEDED,
        cgroup_namespace=read_namespace(fs),
        container=read_container(fs, kernel),
        cmdline=parsed(fs.pieces("/proc/cmdline", _PARAMETERS, " "), lambda words: " ".join(words).strip()),
        kernel_config=_kernel_config(fs, kernel),
        boot_loader=read_boot_loader(fs, kernel),
        systemd_running=running,
        systemd_release=release,
        systemd_version=parsed(release, systemd.version_of),
        system_state=state,
        system_bus=fs.exists("/run/dbus/system_bus_socket"),
        disabled_controllers=disabled_controllers(fs, runner, running=runs),
        sudo=systemd.sudo(runner, uid, running=runs),
        user_manager=systemd.user_manager(fs, point, uid, (cgroups.root, *cgroups.own)),
        sample=_sample(fs, point, cgroups.own),
        pressure=read_kernel(fs, "/proc/pressure/memory", parse_pressure),
        disks=_disks(fs, point),
        online_cpus=read_kernel(fs, "/sys/devices/system/cpu/online", procfs.parse_cpu_list),
        possible_cpus=read_kernel(fs, "/sys/devices/system/cpu/possible", procfs.parse_cpu_list),
        meminfo=parsed(fs.pieces("/proc/meminfo", ("Mem", "Swap"), "\n"), _meminfo),
        pid_max=read_kernel(fs, "/proc/sys/kernel/pid_max", procfs.parse_number),
        threads_max=read_kernel(fs, "/proc/sys/kernel/threads-max", procfs.parse_number),
        page_size=value_or(fs.page_size(), 4096),
    )  # fmt: skip


def read_mounts(fs: HostFs) -> tuple[Reading[tuple[Mount, ...]], Reading[Mount]]:
    """The mounts that matter for cgroups, and the cgroup v2 mount that services use."""
    mounts = parsed(fs.pieces("/proc/self/mountinfo", _MOUNTS, "\n"), _mounts)
    return mounts, _cgroup_mount(fs, mounts)


def _cgroups(fs: HostFs) -> _Cgroups:
    mounts, mount = read_mounts(fs)
    point = mount.value.point if isinstance(mount, Known) else _CGROUP_ROOT
    own_path = read_kernel(fs, "/proc/self/cgroup", parse_proc_cgroup)
    below = below_mount(own_path.value, value_or(mount, None)) if isinstance(own_path, Known) else None
    own = () if below is None else read_levels(fs, point, below)
    root = own[0] if own else read_levels(fs, point, "")[0]
    return _Cgroups(mounts=mounts, mount=mount, point=point, own_path=own_path, own=own, root=root)


def _mounts(lines: tuple[str, ...]) -> tuple[Mount, ...]:
    mounts = parse_mountinfo("\n".join(lines))
    if not mounts:
        raise ValueError("no mounts in it")
    return mounts


def _meminfo(lines: tuple[str, ...]) -> dict[str, int]:
    return procfs.parse_meminfo("\n".join(lines))


def _cgroup_mount(fs: HostFs, mounts: Reading[tuple[Mount, ...]]) -> Reading[Mount]:
    """The cgroup v2 mount that services use: the one at /sys/fs/cgroup, else the only one elsewhere.

    A cgroup v2 mount next to v1 at /sys/fs/cgroup (hybrid) has no controllers for services.
    """
    if isinstance(mounts, Missing):
        return mounts
    top = mount_at(mounts.value, _CGROUP_ROOT)
    if top is not None and top.fs_type == "cgroup2":
        return _seen(fs, top, mounts.source)
    # A mount that another one hides is in use by nobody.
    elsewhere = [mount for mount in of_type(mounts.value, "cgroup2") if mount_at(mounts.value, mount.point) is mount]
    if elsewhere and not of_type(mounts.value, "cgroup"):
        return _seen(fs, elsewhere[-1], mounts.source)
    detail = f"{_CGROUP_ROOT} is {top.fs_type}" if top else f"nothing is mounted at {_CGROUP_ROOT}"
    return Missing(source=mounts.source, why=Why.ABSENT, detail=detail)


def _seen(fs: HostFs, mount: Mount, source: str) -> Reading[Mount]:
    """The mount, if it is visible at its point: a mount over a parent folder would hide it."""
    device = fs.device(mount.point)
    if isinstance(device, Missing) and device.why is not Why.ABSENT:
        return device
    there = value_or(device, "nothing")
    if there != mount.device:
        detail = f"the cgroup2 ({mount.device}) of {source} is hidden: there is {there}"
        return Missing(source=mount.point, why=Why.FAILED, detail=detail)
    return Known(value=mount, source=source)


def _manager_mount(fs: HostFs, mount: Reading[Mount], read_only: Reading[bool]) -> Reading[Mount]:
    """What PID 1 has at /sys/fs/cgroup: PID 1 starts the units, and this job can have another view."""
    if isinstance(mount, Known):
        if mount.value.point == _CGROUP_ROOT and not (value_or(read_only, default=False) or mount.value.read_only):
            return _NOT_NEEDED
        if "ro" in mount.value.super_options:
            # The file system itself is read-only, for every process.
            return mount
    mounts = parsed(fs.pieces("/proc/1/mountinfo", _MOUNTS, "\n"), _mounts)
    if isinstance(mounts, Missing):
        return mounts
    seen = mount_at(mounts.value, _CGROUP_ROOT)
    if seen is None or seen.fs_type != "cgroup2":
        return Missing(source=mounts.source, why=Why.ABSENT, detail=f"PID 1 has no cgroup2 at {_CGROUP_ROOT}")
    return Known(value=seen, source=mounts.source)


def _kernel_config(fs: HostFs, kernel: Reading[str]) -> "Reading[dict[str, str]]":
    places = ["/proc/config.gz"]
    if isinstance(kernel, Known) and "/" not in kernel.value:
        places += [f"/boot/config-{kernel.value}", f"/lib/modules/{kernel.value}/config"]
    found: Reading[dict[str, str]] = Missing(source="kernel config", why=Why.ABSENT)
    for place in places:
        found = parsed(fs.pieces(place, OPTIONS, "\n"), parse_kernel_config)
        if isinstance(found, Known):
            return found
    return found


def _sample(fs: HostFs, point: str, own: tuple[CgroupReading, ...]) -> Sample:
    """system.slice where systemd runs, else the caller's own cgroup: the real root lacks most files."""
    path = "/system.slice"
    # Folders are the cgroups of others; their names must not get into a recording.
    files = fs.names(f"{point}{path}", _ATTRIBUTES)
    if isinstance(files, Missing) and own:
        path = own[-1].path
        files = fs.names(f"{point}{path}", _ATTRIBUTES)
    return Sample(path=path, files=files, cpu_stat=read_kernel(fs, f"{point}{path}/cpu.stat", parse_flat_keyed))


def _disks(fs: HostFs, point: str) -> Disks:
    names = fs.names("/sys/block")
    real = [name for name in value_or(names, ()) if not name.startswith(("loop", "ram", "zram"))][:_DISKS_MAX]
    return Disks(
        names=names,
        schedulers={name: read_kernel(fs, f"/sys/block/{name}/queue/scheduler", procfs.parse_line) for name in real},
        io_cost_qos=fs.read(f"{point}/io.cost.qos"),
    )
