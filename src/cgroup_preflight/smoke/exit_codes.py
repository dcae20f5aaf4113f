"""Exit statuses that systemd gives a process that it could not set up (systemd.exec(5), "Process Exit Codes")."""

from cgroup_preflight.plan.model import ServicePlan
from cgroup_preflight.plan.unit_syntax import setting_pairs
from cgroup_preflight.smoke.evidence import ServiceEvidence

#: EXIT_EXEC.
NOT_EXECUTED = 203
_SETTINGS = {
    200: "CHDIR: WorkingDirectory=", 203: "EXEC: the program of ExecStart=", 205: "LIMITS: a limit such as LimitNOFILE=",
    206: "OOM_ADJUST: OOMScoreAdjust=", 208: "STDIN: StandardInput=", 209: "STDOUT: StandardOutput=",
    210: "CHROOT: RootDirectory=", 213: "SECUREBITS: SecureBits=", 214: "SETSCHEDULER: CPUSchedulingPolicy=",
    215: "CPUAFFINITY: CPUAffinity=", 216: "GROUP: Group= or SupplementaryGroups=", 217: "USER: User=",
    218: "CAPABILITIES: CapabilityBoundingSet= or AmbientCapabilities=", 219: "CGROUP: its cgroup",
    222: "STDERR: StandardError=", 224: "PAM: PAMName=", 225: "NETWORK: PrivateNetwork=",
    226: "NAMESPACE: its sandbox (ProtectSystem=, PrivateTmp=, ReadWritePaths= and others)",
    228: "SECCOMP: SystemCallFilter= and others", 229: "SELINUX_CONTEXT: SELinuxContext=",
    231: "APPARMOR_PROFILE: AppArmorProfile=", 232: "ADDRESS_FAMILIES: RestrictAddressFamilies=",
    233: "RUNTIME_DIRECTORY: RuntimeDirectory=", 238: "STATE_DIRECTORY: StateDirectory=",
    239: "CACHE_DIRECTORY: CacheDirectory=", 240: "LOGS_DIRECTORY: LogsDirectory=",
    241: "CONFIGURATION_DIRECTORY: ConfigurationDirectory=", 242: "NUMA_POLICY: NUMAPolicy=",
    243: "CREDENTIALS: LoadCredential= and others", 245: "BPF: RestrictFileSystems=",
}  # fmt: skip


def setting_of(status: int) -> str:
    """Systemd's name of the status and the setting that it stands for; empty for a status of the program's own."""
    return _SETTINGS.get(status, "")


def not_set_up(seen: ServiceEvidence, status: int) -> tuple[str, str] | None:
    """What systemd could not do, and what to do then (empty: nothing else than for any program); None for no such status."""
    setting, service = setting_of(status), seen.service
    if not setting:
        return None
    if status != NOT_EXECUTED:
        fix = (
            f"correct this setting in {service.path}"
            if service.source is not None
            else "correct this key in the config"
        )
        return f"could not set up {setting}", f"{fix}, or give the guest what it names ([target] paths and packages)"
    if not seen.absent:
        why = "it is not executable, its interpreter is missing, or it is for another architecture"
        return f"could not execute {service.binary}: {why}", ""
    ways = "name the built file with binary, or give the guest the package that has it ([target] packages)"
    return f"could not execute {seen.absent}: there is no such file", f"correct ExecStart= in {service.path}, {ways}"


def needs_file(service: ServicePlan) -> bool:
    """Whether the service has a file of variables that must exist; without it systemd does not start a process at all."""
    files = [*(service.source.values("EnvironmentFile") if service.source is not None else ())]
    files += [text for name, text in setting_pairs(service.own_settings) if name == "EnvironmentFile"]
    return any(not file.startswith("-") for file in files)
