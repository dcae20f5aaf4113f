"""The pages of codes about hosts that no check of every run owns."""

from cgroup_preflight.checks.page import Page
from cgroup_preflight.core import codes
from cgroup_preflight.core.codes import Code

HOST_PAGES: dict[Code, Page] = {
    codes.HOST: Page(
        what="Checks that each host of `--host` can be read, and says what its own verdict is.",
        fails=(
            "fail and unverified are the verdict of the host's own findings, which have its name before their subject. "
            "A host that ssh does not reach, that does not answer in time, or whose answers are odd, is unverified with the "
            "reason: nothing is known of it, and nothing is a pass."
        ),
        fix="Log in once with ssh -o BatchMode=yes HOST true: what works there without a question works here.",
        about=("ssh", "remote", "unreachable", "--host"),
        sources=("https://man.openbsd.org/ssh_config",),
    ),
    codes.UNIT_LIMITS: Page(
        what="Checks that the kernel has the limits that systemd shows for each unit of the host, with `check --units`.",
        fails=(
            "systemctl show prints what systemd wants. The kernel has something else: a changed unit file is not loaded, "
            "systemd 257 kept the old limits after a reload, the controller is missing, or something wrote the file. Or the "
            "file has MemoryMax and memory.current is above it: newer systemd and kernels accept a limit below the usage "
            "without a kill and without an event."
        ),
        fix="Have systemd write the limits again with systemctl set-property, or restart the unit; then check again.",
        about=("set-property", "daemon-reload", "NeedDaemonReload", "MemoryMax", "CPUQuota", "stale"),
        sources=(
            "https://www.freedesktop.org/software/systemd/man/latest/systemctl.html#set-property%20UNIT%20PROPERTY=VALUE%E2%80%A6",
            "https://github.com/systemd/systemd/pull/38190",
        ),
    ),
}
