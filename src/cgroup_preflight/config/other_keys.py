"""Keys that a config cannot have, though they exist elsewhere: what to write instead. Pure, and only for mistakes."""

#: Of systemd: what was renamed, or has no effect any more (systemd.resource-control(5), "Deprecated options").
_RENAMED = {
    "MemoryLimit": "use MemoryMax, the name on cgroup v2",
    "CPUShares": "use CPUWeight, which has another scale: the default of 1024 shares is the weight 100",
    "StartupCPUShares": "use StartupCPUWeight, which has another scale: 1024 shares are the weight 100",
    "BlockIOWeight": "use IOWeight, which has another scale: the default of 500 is the weight 100",
    "StartupBlockIOWeight": "use StartupIOWeight, which has another scale: 500 is the weight 100",
    "BlockIOReadBandwidth": "use IOReadBandwidthMax, the name on cgroup v2",
    "BlockIOWriteBandwidth": "use IOWriteBandwidthMax, the name on cgroup v2",
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
    if name in _RENAMED:
        return _RENAMED[name]
    if name.endswith("Accounting"):
        return "remove it: systemd turns accounting on where a limit needs it"
    if name in _OF_UNITS:
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
