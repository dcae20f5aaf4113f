"""JSON Schema (2020-12) of the JSON report, made from `fields`: the schema has every field of the table, and no other.

Fields that an earlier version did not write are optional.
"""

import enum
from collections.abc import Mapping

from cgroup_preflight import ADDRESS
from cgroup_preflight.core.report import (
    CpuUsage,
    Finding,
    HostSummary,
    LimitResult,
    Location,
    Origin,
    Remedy,
    RemedyFile,
    Report,
    Ruling,
    ServiceResult,
)
from cgroup_preflight.report.fields import KINDS, RECORDS, SCHEMA_VERSION, TOOL, Field

Schema = dict[str, object]
_NAMES: Mapping[type, str] = {
    HostSummary: "host", Finding: "finding", Remedy: "remedy", RemedyFile: "file", Location: "location",
    ServiceResult: "service", LimitResult: "limit", CpuUsage: "cpu", Origin: "origin", Ruling: "ruling",
}  # fmt: skip


def schema(codes: Mapping[str, str] | None = None) -> Schema:
    """The schema as plain data; a new dictionary each time. `codes` are all codes of findings, each with its name."""
    top = _record(Report)
    tool = _object({"name": {"const": TOOL}, "version": {"type": "string", "description": "Version of the tool."}})
    version: Schema = {"const": SCHEMA_VERSION, "description": "A reader refuses any other number."}
    host = {"anyOf": [{"type": "object", "maxProperties": 0}, {"$ref": "#/$defs/host"}]}
    top["host"] = {"description": _about(Report, "host"), **host}
    top["started_at"] = {**top["started_at"], "format": "date-time"}
    finding = _record(Finding)
    known = {"oneOf": [{"const": code, "title": name} for code, name in codes.items()]} if codes else {}
    finding["code"] = {**finding["code"], "pattern": "^CGP[1-8][0-9]{2}$", **known}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{ADDRESS}/schema/report-{SCHEMA_VERSION}.json",
        "title": "Report of cgroup-preflight",
        "description": "What one command found on one host. Texts are as they were read: escape them before you show them.",
        **_object({"schema_version": version, "tool": tool, **top}, _optional(Report)),
        "$defs": {
            name: _object(finding if kind is Finding else _record(kind), _optional(kind)) for kind, name in _NAMES.items()
        },
    }  # fmt: skip


def _about(kind: type, name: str) -> str:
    return next(field.about for field in RECORDS[kind] if field.name == name)


def _optional(kind: type) -> frozenset[str]:
    return frozenset(field.name for field in RECORDS[kind] if field.optional)


def _object(properties: Mapping[str, Schema], optional: frozenset[str] = frozenset()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


def _record(kind: type) -> dict[str, Schema]:
    return {field.name: _field(field) for field in RECORDS[kind]}


def _field(field: Field) -> Schema:
    about: Schema = {"description": field.about} if field.about else {}
    shape = _shape(field.kind)
    if field.many:
        shape = {"type": "array", "items": shape}
    if not field.null:
        return {**shape, **about}
    if "type" in shape:
        return {**shape, "type": [shape["type"], "null"], **about}
    return {"anyOf": [shape, {"type": "null"}], **about}


def _shape(kind: type | str) -> Schema:
    if isinstance(kind, str):
        return dict(KINDS[kind][1])
    if issubclass(kind, enum.Enum):
        return {"enum": [item.value for item in kind]}
    return {"$ref": f"#/$defs/{_NAMES[kind]}"}
