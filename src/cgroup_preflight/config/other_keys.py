"""Keys that a config cannot have, though they exist elsewhere: what to write instead. Pure, and only for mistakes."""

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


def instead_of(section: str, name: str) -> str:
    """What to write instead of the key `name` in a table of `section`, a key of `SECTIONS`; empty for an unknown one."""
    if section == "services.*" and name in _OF_SMOKE:
        return f"write it into the table [services.NAME.smoke], as smoke.{name} = ..."
    if section == "services.*" and name in _OF_POLICY:
        return f"write it into the table [services.NAME.policy], as policy.{name} = ..."
    if name in RENAMED and RENAMED[name] not in _OF_UNITS:
        return f"use {RENAMED[name]}, the name on cgroup v2"
    if name in SCALED:
        new, _, default = SCALED[name]
        return f"use {new}, which has another scale: {default} is the weight 100"
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
