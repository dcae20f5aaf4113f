"""Kernel configuration (/proc/config.gz, /boot/config-RELEASE): the options that cgroups depend on."""

OPTIONS = (
    "CONFIG_CGROUPS", "CONFIG_MEMCG", "CONFIG_CGROUP_SCHED", "CONFIG_FAIR_GROUP_SCHED", "CONFIG_CFS_BANDWIDTH",
    "CONFIG_RT_GROUP_SCHED", "CONFIG_CGROUP_PIDS", "CONFIG_CPUSETS", "CONFIG_PSI", "CONFIG_PSI_DEFAULT_DISABLED",
    "CONFIG_BLK_CGROUP", "CONFIG_BLK_CGROUP_IOCOST", "CONFIG_SWAP", "CONFIG_ZSWAP",
)  # fmt: skip


def parse_kernel_config(lines: tuple[str, ...]) -> dict[str, str]:
    """`y`, `m`, `n` or a value for each of OPTIONS that the lines mention. Raises ValueError when none is."""
    found: dict[str, str] = {}
    for line in lines:
        words = line.removeprefix("# ")
        if words.endswith(" is not set"):
            name, value = words.removesuffix(" is not set"), "n"
        else:
            name, _, value = words.partition("=")
        if name in OPTIONS and value:
            found[name] = value
    if not found:
        raise ValueError("no CONFIG_ line of cgroups in it")
    return found
