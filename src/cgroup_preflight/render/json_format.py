"""The JSON report of the contract, `schema_version` 1."""

import json
import math

from cgroup_preflight.report import Finding, LimitResult, Remedy, Report, ServiceResult

SCHEMA_VERSION = 1


def render(report: Report) -> str:
    """The whole report as indented JSON with a newline at the end."""
    return json.dumps(document(report), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def document(report: Report) -> dict[str, object]:
    """The report as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "cgroup-preflight", "version": report.tool_version},
        "verdict": report.verdict.value,
        "host": _host(report),
        "findings": [_finding(item) for item in report.findings],
        "services": [_service(item) for item in report.services],
        "started_at": report.started_at,
        "duration_seconds": round(report.duration_seconds, 3),
    }


def _host(report: Report) -> dict[str, object]:
    host = report.host
    if host is None:
        return {}
    return {
        "kernel": host.kernel, "systemd": host.systemd, "hierarchy": host.hierarchy, "mount_point": host.mount_point,
        "controllers": list(host.controllers) if host.controllers is not None else None, "machine": host.machine,
        "engine": host.engine, "cpus": host.cpus, "memory_bytes": host.memory_bytes,
    }  # fmt: skip


def _finding(item: Finding) -> dict[str, object]:
    location = {"file": item.location.file, "line": item.location.line} if item.location else None
    return {
        "code": item.code, "name": item.name, "status": item.status.value, "subject": item.subject,
        "message": item.message, "evidence": {key: _finite(value) for key, value in item.evidence.items()},
        "remedies": [_remedy(remedy) for remedy in item.remedies], "location": location,
    }  # fmt: skip


def _finite(value: str | float | bool | None) -> str | float | bool | None:  # noqa: FBT001 - evidence may be one
    """JSON has no infinity; what was read as one is kept as its word."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _remedy(item: Remedy) -> dict[str, object]:
    return {
        "title": item.title, "why": item.why, "commands": [list(command) for command in item.commands],
        "files": [{"path": file.path, "content": file.content} for file in item.files],
        "needs_root": item.needs_root, "persistent": item.persistent, "docs": item.docs,
    }  # fmt: skip


def _service(item: ServiceResult) -> dict[str, object]:
    cpu = item.cpu
    return {
        "name": item.name, "engine": item.engine, "unit": item.unit, "cgroup": item.cgroup,
        "limits": [_limit(limit) for limit in item.limits],
        "memory_peak_bytes": item.memory_peak_bytes,
        "cpu": {
            "usage_usec": cpu.usage_usec, "nr_periods": cpu.nr_periods, "nr_throttled": cpu.nr_throttled,
            "throttled_usec": cpu.throttled_usec,
        } if cpu else None,
        "oom_kills": item.oom_kills, "result": item.result, "exit_status": item.exit_status,
        "duration_seconds": item.duration_seconds,
    }  # fmt: skip


def _limit(item: LimitResult) -> dict[str, object]:
    return {"file": item.file, "expected": item.expected, "actual": item.actual, "ok": item.ok}
