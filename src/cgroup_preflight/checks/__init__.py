"""The checks, in order: code to module. Text only, so that `--help` and `explain` import no check they do not use."""

CHECKS: dict[str, str] = {
    "CGP101": "hierarchy",
    "CGP102": "controllers",
    "CGP103": "systemd_pid1",
    "CGP104": "systemd_version",
    "CGP105": "engine",
    "CGP106": "kernel_version",
}
