"""The only function that reads a host's facts; every file is read once."""

from cgroup_preflight.facts import manager, proc_files
from cgroup_preflight.facts.container import read_container
from cgroup_preflight.facts.flat_keyed import parse_flat_keyed
from cgroup_preflight.facts.kernel_config import OPTIONS, parse_kernel_config
from cgroup_preflight.facts.levels import read_levels
from cgroup_preflight.facts.model import Disks, Facts, Level, Sample
from cgroup_preflight.facts.mountinfo import Mount, mount_at, of_type, parse_mountinfo
from cgroup_preflight.facts.pressure import parse_pressure
from cgroup_preflight.facts.proc_cgroup import parse_proc_cgroup
from cgroup_preflight.host.command import CommandRunner
from cgroup_preflight.host.fs import HostFs
from cgroup_preflight.reading import Known, Missing, Reading, Why, parsed, value_or

CGROUP_ROOT = "/sys/fs/cgroup"
#: The kernel parameters that decide about cgroups; no other part of the command line is kept.
PARAMETERS = (
    "cgroup_disable=", "cgroup_enable=", "cgroup_no_v1=", "cgroup_memory=", "cgroup.memory=", "psi=", "swapaccount=",
    "systemd.unified_cgroup_hierarchy", "systemd.legacy_systemd_cgroup_controller", "rt_group_sched=",
)  # fmt: skip
_ATTRIBUTES = ("cgroup.", "cpu.", "cpuset.", "io.", "memory.", "pids.")
_DISKS_MAX = 32


def gather(fs: HostFs, runner: CommandRunner) -> Facts:
    """Everything the checks and engines ask for; nothing is written and no privilege is taken."""
    mounts = parsed(fs.pieces("/proc/self/mountinfo", (" cgroup ", " cgroup2 ", f" {CGROUP_ROOT}"), "\n"), _mounts)
    mount = _cgroup_mount(mounts)
    point = mount.value.point if isinstance(mount, Known) else CGROUP_ROOT
    kernel = parsed(fs.read("/proc/sys/kernel/osrelease"), proc_files.parse_line)
    uid = parsed(fs.pieces("/proc/self/status", ("Uid:",), "\n"), lambda lines: proc_files.parse_uid("\n".join(lines)))
    own_path = parsed(fs.read("/proc/self/cgroup"), parse_proc_cgroup)
    own = read_levels(fs, point, own_path.value) if isinstance(own_path, Known) else ()
    machine = fs.machine()
    running = manager.exists(fs, "/run/systemd/system")
    is_running = value_or(running, default=False)
    root = own[0] if own else read_levels(fs, point, "")[0]
    return Facts(
        kernel=kernel,
        machine=machine,
        uid=uid,
        mounts=mounts,
        cgroup_mount=mount,
        cgroup_read_only=fs.read_only(point),
        own_cgroup=own_path,
        own=own,
        root_controllers=root.controllers,
        root_subtree_control=root.subtree_control,
        cmdline=parsed(fs.pieces("/proc/cmdline", PARAMETERS, " "), lambda words: " ".join(words).strip()),
        kernel_config=_kernel_config(fs, kernel),
        systemd_running=running,
        systemd_version=manager.systemd_version(fs, runner, value_or(machine, "x86_64"), running=is_running),
        system_state=manager.system_state(runner, running=is_running),
        system_bus=manager.exists(fs, "/run/dbus/system_bus_socket", folder="/run/dbus"),
        pid1=parsed(fs.read("/proc/1/comm"), proc_files.parse_line),
        sudo=manager.sudo(runner, uid, running=is_running),
        user_manager=manager.user_manager(fs, point, uid, own),
        container=read_container(fs, kernel),
        sample=_sample(fs, point, own),
        pressure=parsed(fs.read("/proc/pressure/memory"), parse_pressure),
        disks=_disks(fs, point),
        online_cpus=parsed(fs.read("/sys/devices/system/cpu/online"), proc_files.parse_cpu_list),
        meminfo=parsed(fs.pieces("/proc/meminfo", ("Mem", "Swap"), "\n"), lambda l: proc_files.parse_meminfo("\n".join(l))),
        pid_max=parsed(fs.read("/proc/sys/kernel/pid_max"), proc_files.parse_number),
        threads_max=parsed(fs.read("/proc/sys/kernel/threads-max"), proc_files.parse_number),
        page_size=value_or(fs.page_size(), 4096),
    )


def _mounts(lines: tuple[str, ...]) -> tuple[Mount, ...]:
    return parse_mountinfo("\n".join(lines))


def _cgroup_mount(mounts: Reading[tuple[Mount, ...]]) -> Reading[Mount]:
    """The version 2 mount that services use: the one at /sys/fs/cgroup, else the only one elsewhere.

    A version 2 mount beside version 1 at /sys/fs/cgroup (hybrid) holds no controllers for services.
    """
    if isinstance(mounts, Missing):
        return mounts
    top = mount_at(mounts.value, CGROUP_ROOT)
    if top is not None and top.fs_type == "cgroup2":
        return Known(value=top, source=mounts.source)
    elsewhere = of_type(mounts.value, "cgroup2")
    if top is None and elsewhere and not of_type(mounts.value, "cgroup"):
        return Known(value=elsewhere[-1], source=mounts.source)
    detail = f"{CGROUP_ROOT} is {top.fs_type}" if top else f"nothing is mounted at {CGROUP_ROOT}"
    return Missing(source=mounts.source, why=Why.ABSENT, detail=detail)


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


def _sample(fs: HostFs, point: str, own: tuple[Level, ...]) -> Sample:
    """system.slice where systemd runs, else the caller's own cgroup: the real root lacks most files."""
    path = "/system.slice"
    # Folders are other people's cgroups, and their names nobody's business.
    files = fs.names(f"{point}{path}", _ATTRIBUTES)
    if isinstance(files, Missing) and own:
        path = own[-1].path
        files = fs.names(f"{point}{path}", _ATTRIBUTES)
    return Sample(path=path, files=files, cpu_stat=parsed(fs.read(f"{point}{path}/cpu.stat"), parse_flat_keyed))


def _disks(fs: HostFs, point: str) -> Disks:
    names = value_or(fs.names("/sys/block"), ())
    real = [name for name in names if not name.startswith(("loop", "ram", "zram"))][:_DISKS_MAX]
    return Disks(
        schedulers={name: parsed(fs.read(f"/sys/block/{name}/queue/scheduler"), proc_files.parse_line) for name in real},
        io_cost_qos=fs.read(f"{point}/io.cost.qos"),
    )
