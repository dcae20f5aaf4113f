"""Writes the JSON report: the fields of `fields`, in their order."""

import enum
import json
import math

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Report
from cgroup_preflight.report.escape import log_lines
from cgroup_preflight.report.fields import RECORDS, SCHEMA_VERSION, TOOL, Field

if TYPE_CHECKING:
    from typing import Any


def render(report: Report, *, indent: int | None = 2) -> str:
    """The whole report as JSON with a newline at the end; on one line without `indent`, which takes a fifth of the time."""
    return json.dumps(document(report), indent=indent, ensure_ascii=True, allow_nan=False) + "\n"


def document(report: Report) -> dict[str, object]:
    """The report as plain data."""
    head = {"schema_version": SCHEMA_VERSION, "tool": {"name": TOOL, "version": report.tool_version}}
    rest = _record(report, Report)
    return {**head, **rest, "host": rest["host"] or {}}


def _record(item: object, kind: type) -> "dict[str, Any]":
    values = ((field, getattr(item, field.name)) for field in RECORDS[kind])
    return {field.name: _field(value, field) for field, value in values if value is not None or not field.is_left_out}


def _field(value: "Any", field: Field) -> object:  # noqa: ANN401 - `field` says what it is
    if value is None:
        return None
    return [_value(entry, field.kind) for entry in value] if field.many else _value(value, field.kind)


def _value(value: "Any", kind: type | str) -> object:  # noqa: ANN401 - `kind` says what it is
    if not isinstance(kind, str):
        return value.value if isinstance(value, enum.Enum) else _record(value, kind)
    if kind == "evidence":
        return {key: _finite(entry) for key, entry in value.items()}
    if kind == "seconds":
        return round(value, 3)
    if kind == "log":
        return log_lines(value)
    return list(value) if kind == "argv" else value


def _finite(value: str | float | bool | None) -> str | float | bool | None:  # noqa: FBT001 - evidence may be one
    """JSON has no infinity and no NaN: both are written as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
