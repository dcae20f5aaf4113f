"""JSON Schema (2020-12) of the JSON report, `json_format`: every field is there, and no other."""

from collections.abc import Mapping

from cgroup_preflight.render.json_format import SCHEMA_VERSION
from cgroup_preflight.report import Status, Verdict

Schema = dict[str, object]


def schema(codes: Mapping[str, str] | None = None) -> Schema:
    """The schema as plain data; a new dictionary each time. `codes` are all that there are, each with its name."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of cgroup-preflight",
        "description": "What one command found on one host. Text in it is as it was read: escape it to show it.",
        **_object({
            "schema_version": {"const": SCHEMA_VERSION, "description": "A reader refuses any other number."},
            "tool": _object({
                "name": {"const": "cgroup-preflight"}, "version": _text("Version of the tool."),
            }),
            "verdict": {"enum": [item.value for item in Verdict], "description": "fail beats unverified beats pass."},
            "host": {
                "description": "Where the report was made; empty where no host was looked at.",
                "anyOf": [{"type": "object", "maxProperties": 0}, {"$ref": "#/$defs/host"}],
            },
            "findings": _list("finding", "One or more of each check, those that passed included."),
            "services": _list("service", "One of each service that was run."),
            "started_at": {"type": "string", "format": "date-time", "description": "RFC 3339, in UTC."},
            "duration_seconds": _number("Time that the command took.", minimum=0),
        }),
        "$defs": {
            "host": _host(), "finding": _finding(codes or {}), "remedy": _remedy(), "location": _location(),
            "service": _service(), "limit": _limit(), "cpu": _cpu(),
        },
    }  # fmt: skip


def _object(properties: Mapping[str, Schema], description: str = "") -> Schema:
    about = {"description": description} if description else {}
    return {
        "type": "object", **about, "properties": dict(properties), "required": list(properties),
        "additionalProperties": False,
    }  # fmt: skip


def _text(description: str, *, null: bool = False) -> Schema:
    return {"type": ["string", "null"] if null else "string", "description": description}


def _count(description: str, *, null: bool = True) -> Schema:
    return {"type": ["integer", "null"] if null else "integer", "minimum": 0, "description": description}


def _number(description: str, *, minimum: int) -> Schema:
    return {"type": "number", "minimum": minimum, "description": description}


def _flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def _list(name: str, description: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/$defs/{name}"}, "description": description}


def _or_null(name: str, description: str) -> Schema:
    return {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}], "description": description}


def _host() -> Schema:
    return _object({
        "kernel": _text("Release of the kernel.", null=True),
        "systemd": _text("Version of systemd.", null=True),
        "hierarchy": _text("unified, hybrid, legacy or none.", null=True),
        "mount_point": _text("Where cgroup v2 is mounted.", null=True),
        "controllers": {
            "type": ["array", "null"], "items": {"type": "string"},
            "description": "Controllers that units of the engine can get.",
        },
        "machine": _text("Architecture in the spelling of `uname -m`.", null=True),
        "engine": _text("Who can start units here; null for nobody.", null=True),
        "cpus": _count("CPUs online."),
        "memory_bytes": _count("Memory of the host."),
    }, "Where the report was made; null where it could not be read.")  # fmt: skip


def _finding(codes: Mapping[str, str]) -> Schema:
    known = {"oneOf": [{"const": code, "title": name} for code, name in codes.items()]} if codes else {}
    return _object({
        "code": {
            "type": "string", "pattern": "^CGP[1-6][0-9]{2}$", **known,
            "description": "CGP1xx host, 2xx config and plan, 3xx artifacts, 4xx Go, 5xx smoke, 6xx publishing.",
        },
        "name": _text("Name of the check."),
        "status": {"enum": [item.value for item in Status]},
        "subject": _text("What was judged: a service, a controller, a key of the config."),
        "message": _text("The answer in one sentence."),
        "evidence": {
            "type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "description": "What was read, not what was concluded.",
        },
        "remedies": _list("remedy", "What to do, the best first."),
        "location": _or_null("location", "The line of the config that causes it."),
    })  # fmt: skip


def _remedy() -> Schema:
    command = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    file = _object({"path": _text("Where it goes."), "content": _text("The whole of it.")})
    return _object({
        "title": _text("What to do."),
        "why": _text("Why that helps; may be empty."),
        "commands": {"type": "array", "items": command, "description": "Argument lists, never shell text."},
        "files": {"type": "array", "items": file, "description": "Files to write."},
        "needs_root": _flag("Whether the commands need root."),
        "persistent": _flag("Whether it outlasts a reboot."),
        "docs": _text("Address of a page with more; may be empty."),
    })  # fmt: skip


def _location() -> Schema:
    line = {"type": "integer", "minimum": 1, "description": "Line, from 1."}
    return _object({"file": _text("The file as the user named it."), "line": line})


def _service() -> Schema:
    return _object({
        "name": _text("Its name in the config."),
        "engine": _text("Who started it."),
        "unit": _text("Its unit."),
        "cgroup": _text("Its cgroup below the mount."),
        "limits": _list("limit", "Every limit of the unit and of the slices above it."),
        "memory_peak_bytes": _count("memory.peak of the unit."),
        "cpu": _or_null("cpu", "cpu.stat of the unit."),
        "oom_kills": _count("oom_kill of memory.events."),
        "result": _text("systemd's Result.", null=True),
        "exit_status": {"type": ["integer", "null"], "description": "systemd's ExecMainStatus."},
        "duration_seconds": _number("How long it ran.", minimum=0),
    })  # fmt: skip


def _limit() -> Schema:
    return _object({
        "file": _text("The attribute file below the cgroup mount."),
        "expected": _text("What it must hold."),
        "actual": _text("The kernel's own text; null where it could not be read.", null=True),
        "ok": _flag("Whether both are the same."),
    })  # fmt: skip


def _cpu() -> Schema:
    return _object({
        "usage_usec": _count("CPU time used, microseconds.", null=False),
        "nr_periods": _count("Periods with a quota; null without the cpu controller, as the next two."),
        "nr_throttled": _count("Periods in which it was throttled."),
        "throttled_usec": _count("Time it was throttled, microseconds."),
    })  # fmt: skip
