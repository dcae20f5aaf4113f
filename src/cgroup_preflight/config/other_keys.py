"""Keys that a config cannot have, though they exist elsewhere: what to write instead. Pure, and only for mistakes."""

import re

#: Names of cgroup v1 to those of cgroup v2, where the value stays as it is (systemd.resource-control(5), "Deprecated
#: options").
RENAMED = {
    "MemoryLimit": "MemoryMax",
    "BlockIODeviceWeight": "IODeviceWeight",
    "BlockIOReadBandwidth": "IOReadBandwidthMax",
    "BlockIOWriteBandwidth": "IOWriteBandwidthMax",
}
#: The same with another scale: the range of the old one, and its default, which is 100 on the new one.
SCALED = {
    "CPUShares": ("CPUWeight", range(2, 262145), 1024),
    "StartupCPUShares": ("StartupCPUWeight", range(2, 262145), 1024),
    "BlockIOWeight": ("IOWeight", range(10, 1001), 500),
    "StartupBlockIOWeight": ("StartupIOWeight", range(10, 1001), 500),
}
#: Settings that have another name here, or that a run sets itself.
_OTHERS = {
    "Slice": "use slice, the name of one of [slices]",
    "ExecStart": "use binary for the program and smoke.args for its arguments, or unit for a whole unit file",
    "TimeoutStartSec": "use smoke.start_timeout for the run, or unit for a whole unit file",
    "TimeoutStopSec": "use smoke.stop_timeout for the run, or unit for a whole unit file",
    "RestartSec": "leave it in the unit file: a run never starts a service again",
    "Restart": "leave it in the unit file: a run never starts a service again",
}
#: Longest value that is shown again in a hint, characters.
_VALUE_MAX = 60
#: Keys of the tables below a service.
_OF_SMOKE = ("args", "env", "ready", "ready_ca", "duration", "start_timeout", "stop_timeout")
_OF_POLICY = ("headroom_min", "throttled_max")
#: Settings of systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5) and systemd.resource-control(5) that
#: a config leaves to unit files.
_OF_UNITS = frozenset(
    [
        "Description",
        "Documentation",
        "Wants",
        "Requires",
        "Requisite",
        "BindsTo",
        "PartOf",
        "Upholds",
        "Conflicts",
        "Before",
        "After",
        "OnFailure",
        "OnSuccess",
        "DefaultDependencies",
        "StartLimitIntervalSec",
        "StartLimitBurst",
        "WantedBy",
        "RequiredBy",
        "Alias",
        "Also",
        "ConditionPathExists",
        "RequiresMountsFor",
        "PIDFile",
        "BusName",
        "ExecStartPre",
        "ExecStartPost",
        "ExecCondition",
        "ExecReload",
        "ExecStop",
        "ExecStopPost",
        "TimeoutSec",
        "TimeoutAbortSec",
        "RuntimeMaxSec",
        "WatchdogSec",
        "RemainAfterExit",
        "GuessMainPID",
        "NotifyAccess",
        "Sockets",
        "RestartPreventExitStatus",
        "RestartForceExitStatus",
        "FileDescriptorStoreMax",
        "DynamicUser",
        "SupplementaryGroups",
        "PAMName",
        "UMask",
        "RootDirectory",
        "RootImage",
        "BindPaths",
        "BindReadOnlyPaths",
        "CapabilityBoundingSet",
        "NoNewPrivileges",
        "SecureBits",
        "LimitCPU",
        "LimitFSIZE",
        "LimitDATA",
        "LimitSTACK",
        "LimitCORE",
        "LimitRSS",
        "LimitAS",
        "LimitNPROC",
        "LimitMEMLOCK",
        "LimitLOCKS",
        "LimitSIGPENDING",
        "LimitMSGQUEUE",
        "LimitNICE",
        "LimitRTPRIO",
        "LimitRTTIME",
        "Nice",
        "CPUSchedulingPolicy",
        "CPUSchedulingPriority",
        "CPUAffinity",
        "NUMAPolicy",
        "NUMAMask",
        "IOSchedulingClass",
        "IOSchedulingPriority",
        "OOMScoreAdjust",
        "CoredumpFilter",
        "KeyringMode",
        "ProtectSystem",
        "ProtectHome",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ProtectClock",
        "ProtectHostname",
        "ProtectProc",
        "ProcSubset",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateNetwork",
        "PrivateUsers",
        "PrivateIPC",
        "PrivateMounts",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "InaccessiblePaths",
        "ExecPaths",
        "NoExecPaths",
        "TemporaryFileSystem",
        "MountFlags",
        "NetworkNamespacePath",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "RemoveIPC",
        "SystemCallFilter",
        "SystemCallErrorNumber",
        "SystemCallArchitectures",
        "PassEnvironment",
        "UnsetEnvironment",
        "StandardInput",
        "StandardOutput",
        "StandardError",
        "SyslogIdentifier",
        "LogRateLimitIntervalSec",
        "LogRateLimitBurst",
        "StateDirectoryMode",
        "RuntimeDirectoryMode",
        "CacheDirectoryMode",
        "LogsDirectoryMode",
        "ConfigurationDirectoryMode",
        "RuntimeDirectoryPreserve",
        "LoadCredential",
        "SetCredential",
        "KillMode",
        "KillSignal",
        "FinalKillSignal",
        "SendSIGHUP",
        "SendSIGKILL",
        "Delegate",
        "DisableControllers",
        "DeviceAllow",
        "DevicePolicy",
        "IPAddressAllow",
        "IPAddressDeny",
        "SocketBindAllow",
        "SocketBindDeny",
        "IODeviceWeight",
        "IODeviceLatencyTargetSec",
        "ManagedOOMPreference",
        "DefaultMemoryMin",
        "DefaultMemoryLow",
    ]
)


def renewed(old: str, text: str) -> tuple[str, str] | None:
    """The name on cgroup v2 of a key of cgroup v1, and its value there; None for a number that systemd ignores.

    Source of the scales: src/basic/cgroup-util.h of systemd 252 (`cgroup_cpu_shares_to_weight`,
    `cgroup_weight_blkio_to_io`).
    """
    if old in RENAMED:
        return RENAMED[old], text
    new, scale, default = SCALED[old]
    if not re.fullmatch(r"[0-9]{1,7}", text, re.ASCII) or int(text) not in scale:
        return None
    return new, str(min(max(int(text) * 100 // default, 1), 10000))


def _translated(old: str, value: object) -> str:
    """The line that means the same on cgroup v2; the name alone where the value would be a mistake, too."""
    new = RENAMED[old] if old in RENAMED else SCALED[old][0]
    scale = f"; its scale is another one: {SCALED[old][2]} becomes 100" if old in SCALED else ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        found = renewed(old, str(value)[:_VALUE_MAX].strip(" "))
        if found is not None and _is_value(new, found[1]):
            quoted = found[1] if found[1].isdigit() else f'"{found[1]}"'
            return f"use {new} = {quoted}, the name on cgroup v2{scale}"
    return f"use {new}, the name on cgroup v2{scale}"


def _is_value(name: str, text: str) -> bool:
    from cgroup_preflight.config.properties import BY_NAME
    from cgroup_preflight.core.quantities import QuantityError

    try:
        BY_NAME[name].parse(text)
    except QuantityError:
        return False
    return True


def instead_of(section: str, name: str, value: object = None) -> str:
    """What to write instead of the key `name` in a table of `section`, a key of `SECTIONS`; empty for an unknown one.

    `value` is what the key has in the file.
    """
    if section == "services.*" and name in _OF_SMOKE:
        return f"write it into the table [services.NAME.smoke], as smoke.{name} = ..."
    if section == "services.*" and name in _OF_POLICY:
        return f"write it into the table [services.NAME.policy], as policy.{name} = ..."
    if name in SCALED or (name in RENAMED and RENAMED[name] not in _OF_UNITS):
        return _translated(name, value)
    if name in _OTHERS:
        return _OTHERS[name]
    if name.endswith("Accounting"):
        return "remove it: systemd turns accounting on where a limit needs it"
    if name in _OF_UNITS or name in RENAMED:
        return (
            "write it into the unit file of the service, and name that file with `unit`"
            if section.startswith("services")
            else "leave it to the unit files of the system: a slice here has limits alone"
        )
    return ""


def of_the_other_section(section: str, name: str) -> str:
    """What to do with a property that units of the other kind have."""
    from cgroup_preflight.config.properties import BY_NAME, SERVICE, SLICE

    if name not in BY_NAME:
        return ""
    sections = BY_NAME[name].sections
    if section == "slices.*" and sections == SERVICE:
        return "move it to the services of the slice: systemd has it in [Service] only"
    if section == "services.*" and sections == SLICE:
        return "move it to a slice: systemd has it in [Slice] only"
    return ""
