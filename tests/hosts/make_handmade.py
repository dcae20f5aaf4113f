"""Writes the hosts that cannot be booted in the lab, from a recorded one: `python tests/hosts/make_handmade.py`.

They are made by hand from public documentation and issue threads, and say so in `made_by_hand`; a recording of the
real thing (`cgroup-preflight snapshot -o FILE`) is welcome in place of each.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
Answers = dict[str, Any]
_ABSENT = {"missing": "absent", "errno": "ENOENT"}
_FS = "/sys/fs/cgroup"
_SHOW = "systemctl show --property=Version,SystemState"
_GRUB = {"value": ["grub"]}
_PRIVATE = {"value": "cgroup:[4026532278]"}
_ALL = "cpuset cpu io memory hugetlb pids rdma misc\n"


class Host:
    """A recording that is changed step by step."""

    def __init__(self, base: str, why: str) -> None:
        recorded = json.loads((FOLDER / f"{base}.json").read_text())
        self.document: Answers = {"format": recorded["format"], "made_by_hand": f"{why} (from the recording {base})"}
        self.document |= {key: copy.deepcopy(value) for key, value in recorded.items() if key != "format"}
        self.host: Answers = self.document["host"]
        self.commands: Answers = self.document["commands"]

    def texts(self, **by_path: str) -> "Host":
        """Files with their text, under a short name of _PATHS."""
        for name, text in by_path.items():
            self.host[f"read {_PATHS[name]}"] = {"value": text}
        return self

    def answers(self, answers: Answers) -> "Host":
        """Answers by question."""
        self.host |= answers
        return self

    def pieces(self, path: str, value: list[str]) -> "Host":
        """Of a file that is kept in pieces, those kept."""
        keep = next(entry["keep"] for question, entry in self.host.items() if question == f"pieces {path}")
        self.host[f"pieces {path}"] = {"value": value, "keep": keep}
        return self

    def kernel(self, release: str) -> "Host":
        """Another kernel, and the places where its configuration would be."""
        old = self.host["read /proc/sys/kernel/osrelease"]["value"].strip()
        for question in [question for question in self.host if old in question]:
            self.host[question.replace(old, release)] = self.host.pop(question)
        self.document["kernel"] = release
        return self.texts(kernel=f"{release}\n")

    def systemd(self, version: int) -> "Host":
        """Another systemd."""
        self.commands[_SHOW] = {"status": 0, "out": f"Version={version}\nSystemState=running\n", "err": ""}
        self.document["systemd"] = version
        return self

    def boot(self, *names: str, firmware: tuple[str, ...] = (), like: str = "debian") -> "Host":
        """What the boot loader is told by."""
        self.host["names /boot cmdline.txt,firmware,grub"] = {"value": list(names)}
        self.host["names /boot/firmware cmdline.txt"] = {"value": list(firmware)}
        self.host["pieces /etc/os-release"] = {"value": [f"ID={like}"], "keep": ["ID=", "ID_LIKE="]}
        return self

    def job_in(self, path: str) -> "Host":
        """The caller's cgroup, with all its levels like system.slice."""
        old = self.host["read /proc/self/cgroup"]["value"].strip().removeprefix("0::")
        for question in [item for item in self.host if f"{_FS}{old}/" in item]:
            self.host[question.replace(f"{_FS}{old}/", f"{_FS}{path}/")] = self.host.pop(question)
        return self.texts(own=f"0::{path}\n")

    def container(self, mark: str, *, namespace: bool = True) -> "Host":
        """Inside a container without systemd, its cgroup file system read-only."""
        stat = self.host[f"read {_FS}/system.slice/cpu.stat"]
        self.job_in("")
        self.answers({mark: {"value": True}, "exists /run/systemd/system": {"value": False}})
        self.answers({"exists /run/dbus/system_bus_socket": {"value": False}})
        for question in [item for item in self.host if f"{_FS}/system.slice/" in item and item.startswith("read ")]:
            self.host[question] = _ABSENT
        self.document["systemd"] = None
        mounts = [line.replace("/sys/fs/cgroup rw", "/sys/fs/cgroup ro")
                  for line in self.host["pieces /proc/self/mountinfo"]["value"]]  # fmt: skip
        self.pieces("/proc/self/mountinfo", mounts).answers({"read_only /sys/fs/cgroup": {"value": True}})
        self.texts(controllers=_ALL, control="", type="domain\n", pid1="sh\n", own="0::/\n")
        self.texts(memory="max\n", cpu="max 100000\n", pids="max\n")
        self.answers({"link /proc/self/ns/cgroup": _PRIVATE} if namespace else {})
        # The container's own cgroup is the root that it sees.
        sample = self.host.pop(f"names {_FS}/system.slice cgroup.,cpu.,cpuset.,io.,memory.,pids.")
        self.host[f"names {_FS}/system.slice cgroup.,cpu.,cpuset.,io.,memory.,pids."] = _ABSENT
        self.host[f"names {_FS} cgroup.,cpu.,cpuset.,io.,memory.,pids."] = sample
        self.host[f"read {_FS}/cpu.stat"] = stat
        self.commands.clear()
        return self

    def user(self, uid: int, *, sudo: bool, controllers: str, linger: bool) -> "Host":
        """An ordinary user with a running user manager."""
        above = f"{_FS}/user.slice/user-{uid}.slice"
        service = f"{above}/user@{uid}.service"
        for folder in (above, service):
            self.host |= {
                f"read {folder}/cgroup.controllers": {"value": controllers},
                f"read {folder}/cgroup.subtree_control": {"value": controllers},
                f"read {folder}/cgroup.type": {"value": "domain\n"},
                f"read {folder}/memory.max": {"value": "max\n"}, f"read {folder}/pids.max": {"value": "max\n"},
                f"read {folder}/cpu.max": {"value": "max 100000\n"} if "cpu " in controllers else _ABSENT,
            }  # fmt: skip
        self.host[f"read {_FS}/user.slice/cgroup.subtree_control"] = {"value": controllers}
        self.host["pieces /proc/self/status"] = {"value": [f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}"], "keep": ["Uid:"]}
        self.host["pieces /etc/passwd"] = {"value": [f"user:x:{uid}::::"], "keep": [f":{uid}:"]}
        self.host["exists /var/lib/systemd/linger/user"] = {"value": linger}
        self.host[f"exists /run/user/{uid}/systemd/private"] = {"value": True}
        self.host[f"exists /run/user/{uid}/bus"] = {"value": True}
        refused = {"status": 1, "out": "", "err": "sudo: a password is required\n"}
        self.commands["sudo -n true"] = {"status": 0, "out": "", "err": ""} if sudo else refused
        return self


_PATHS = {
    "kernel": "/proc/sys/kernel/osrelease", "own": "/proc/self/cgroup", "pid1": "/proc/1/comm",
    "controllers": f"{_FS}/cgroup.controllers", "control": f"{_FS}/cgroup.subtree_control",
    "type": f"{_FS}/cgroup.type", "memory": f"{_FS}/memory.max", "cpu": f"{_FS}/cpu.max", "pids": f"{_FS}/pids.max",
    "pressure": "/proc/pressure/memory",
}  # fmt: skip
_RUNNER_IMAGES = "actions/runner-images readme of 2026-08: kernel and systemd; passwordless sudo, lingering runner user"
_CONTAINER = "docs.gitlab.com and moby#46763: private cgroup namespace, cgroup file system read-only, no systemd"
_PI = "raspberrypi/linux#6980: the firmware puts cgroup_disable=memory first on the kernel command line"
_OPTIONS = ["CONFIG_CGROUPS=y", "CONFIG_MEMCG=y", "CONFIG_CGROUP_SCHED=y", "CONFIG_FAIR_GROUP_SCHED=y",
            "CONFIG_CFS_BANDWIDTH=y", "# CONFIG_RT_GROUP_SCHED is not set", "CONFIG_CGROUP_PIDS=y", "CONFIG_CPUSETS=y",
            "CONFIG_PSI=y", "CONFIG_BLK_CGROUP=y", "CONFIG_BLK_CGROUP_IOCOST=y", "CONFIG_SWAP=y"]  # fmt: skip
_V1 = ("cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "net_cls", "pids")


def _github(release: str, systemd: int, controllers: str) -> Host:
    host = Host("debian-13", _RUNNER_IMAGES).kernel(release).systemd(systemd).boot("grub", like="ubuntu")
    host.user(1001, sudo=True, controllers=controllers, linger=True)
    host.job_in("/system.slice/hosted-compute-agent.service")
    return host.pieces(f"/boot/config-{release}", _OPTIONS)


def _wsl(release: str, why: str) -> Host:
    host = Host("debian-13", why).kernel(release).systemd(255)
    return host.user(1000, sudo=False, controllers="cpuset cpu io memory pids\n", linger=True)


def _wsl_hybrid() -> Host:
    host = _wsl("5.15.167.4-microsoft-standard-WSL2", "microsoft/WSL#6662, #10515: v1 controllers, v2 at unified")
    proc = host.host["pieces /proc/self/mountinfo"]["value"][:1]
    tmpfs = "40 30 0:33 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755"
    unified = "41 40 0:34 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw,nsdelegate"
    old = [f"{50 + n} 40 0:{40 + n} / /sys/fs/cgroup/{name} rw,nosuid,nodev,noexec,relatime - cgroup cgroup rw,{name}"
           for n, name in enumerate(_V1)]  # fmt: skip
    host.pieces("/proc/self/mountinfo", [*proc, tmpfs, unified, *old])
    host.answers({"pieces /proc/1/mountinfo": host.host["pieces /proc/self/mountinfo"]})
    del host.host[f"device {_FS}"]
    for question in [question for question in host.host if question.startswith(f"read {_FS}/")]:
        host.host[question] = _ABSENT
    return host


def _rhel() -> Host:
    why = "Red Hat documentation: systemd 252, cgroup v2, PSI built and off unless psi=1, grubby, swap"
    release = "5.14.0-570.12.1.el9_6.x86_64"
    host = Host("debian-13", why).kernel(release).boot("grub2", like="rhel")
    host.systemd(252)
    host.pieces(f"/boot/config-{release}", [*_OPTIONS, "CONFIG_PSI_DEFAULT_DISABLED=y"])
    host.answers({"read /proc/pressure/memory": {"missing": "unsupported", "errno": "EOPNOTSUPP"}})
    meminfo = ["MemTotal:       16111004 kB", "MemFree:         9000000 kB", "MemAvailable:   12000000 kB",
               "SwapTotal:       8388604 kB", "SwapFree:        8388604 kB"]  # fmt: skip
    return host.pieces("/proc/meminfo", meminfo)


def _raspberry(*words: str) -> Host:
    host = Host("debian-13", _PI).kernel("6.6.51+rpt-rpi-v8").boot("cmdline.txt", "firmware", firmware=("cmdline.txt",))
    host.pieces("/proc/cmdline", ["cgroup_disable=memory", *words]).answers({"machine": {"value": "aarch64"}})
    host.systemd(252)
    if not words:
        host.texts(controllers=_ALL.replace("memory ", ""), control="cpuset cpu io pids\n")
        for question in [item for item in host.host if item.endswith("/memory.max")]:
            host.host[question] = _ABSENT
        sample = host.host[f"names {_FS}/system.slice cgroup.,cpu.,cpuset.,io.,memory.,pids."]
        sample["value"] = [name for name in sample["value"] if not name.startswith("memory.")]
    return host


def _alpine() -> Host:
    why = "Alpine with OpenRC: cgroup v2 mounted without options, no systemd"
    host = Host("debian-13", why).container("exists /.dockerenv", namespace=False).boot("grub", like="alpine")
    host.answers({"exists /.dockerenv": {"value": False}, "read_only /sys/fs/cgroup": {"value": False}})
    mounts = [line.replace(" ro,", " rw,").replace(",nsdelegate,memory_recursiveprot", "")
              for line in host.host["pieces /proc/self/mountinfo"]["value"]]  # fmt: skip
    host.pieces("/proc/self/mountinfo", mounts).texts(pid1="init\n")
    return host.answers({f"read {_PATHS[name]}": _ABSENT for name in ("type", "memory", "cpu", "pids")})


def hosts() -> dict[str, Answers]:
    """Each document by its name."""
    docker = Host("debian-13", _CONTAINER)
    pod = Host("debian-13", _CONTAINER.replace("moby#46763", "kubernetes#121190"))
    made = {
        "github-ubuntu-22.04": _github("6.8.0-1044-azure", 249, "memory pids\n"),
        "github-ubuntu-24.04": _github("6.17.0-1010-azure", 255, "cpu memory pids\n"),
        "gitlab-docker": docker.container("exists /.dockerenv"),
        "kubernetes-pod": pod.container("exists /run/secrets/kubernetes.io"),
        "wsl2-hybrid": _wsl_hybrid(),
        "wsl2": _wsl("6.6.87.2-microsoft-standard-WSL2", "microsoft/WSL#13546: cgroup v2 alone, [boot] systemd=true"),
        "rhel-9": _rhel(),
        "raspberry-pi-memory-off": _raspberry(),
        "raspberry-pi-memory-on": _raspberry("cgroup_enable=memory"),
        "alpine": _alpine(),
    }
    for host in made.values():
        host.document["host"] = dict(sorted(host.host.items()))
    return {name: host.document for name, host in made.items()}


def text_of(document: Answers) -> str:
    """As `snapshot` writes it."""
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def main() -> int:
    """Writes them all."""
    for name, document in hosts().items():
        (FOLDER / f"{name}.json").write_text(text_of(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
