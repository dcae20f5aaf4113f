"""Reads a JSON report: the one reader, and strict, because a report may come from an untrusted job.

The shape is that of `fields`. Every difference is an error that names its place and never repeats what stood there, and
so is a report that contradicts itself (`contradictions`). Text in the report stays as it is; the renderers escape it.
"""

import enum
import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, TypeVar, cast

from cgroup_preflight.core.report import LimitResult, Report, ServiceResult
from cgroup_preflight.report.contradictions import contradictions
from cgroup_preflight.report.fields import KINDS, RECORDS, SCHEMA_VERSION, TOOL, Field

T = TypeVar("T")


class ReportShapeError(ValueError):
    """Not a report of schema_version 1, or one that contradicts itself; the text says where."""


def report_of(data: bytes) -> Report:
    """The report in `data`. Raises ReportShapeError."""
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise ReportShapeError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ReportShapeError(f"not JSON, or cut off: {error.msg} at line {error.lineno}") from None
    except (ValueError, RecursionError):
        raise ReportShapeError("JSON with a number, a nesting or a repeated key that no report has") from None
    return report_from(document)


def report_from(document: object) -> Report:
    """The report in plain data that was parsed before. Raises ReportShapeError."""
    top = _mapping(document, "the document")
    _check_version(top.get("schema_version"))
    tool = _mapping(_get(top, "tool", ""), "tool")
    if tool.get("name") != TOOL:
        raise ReportShapeError(f"tool.name is not {TOOL}")
    host = _mapping(_get(top, "host", ""), "host")
    version = _scalar(_get(tool, "version", "tool"), "text", "tool.version")
    report = _record(Report, {**top, "host": host or None}, "", tool_version=version)
    for contradiction in contradictions(report):
        raise ReportShapeError(contradiction)
    return report


def _no_constant(_text: str) -> object:
    raise ValueError


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of two equal keys, one reader would take the first and another one the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _check_version(version: object) -> None:
    again = "run again with this version of cgroup-preflight"
    if version is None:
        raise ReportShapeError(f"schema_version is missing: {again}")
    if not isinstance(version, int) or isinstance(version, bool) or abs(version) >= 10**6:
        raise ReportShapeError(f"schema_version is not a version number: {again}")
    if version > SCHEMA_VERSION:
        raise ReportShapeError(
            f"schema_version is {version}, newer than the {SCHEMA_VERSION} that this version reads: "
            "update cgroup-preflight"
        )
    if version < SCHEMA_VERSION:
        raise ReportShapeError(f"schema_version is {version}, older than {SCHEMA_VERSION}: {again}")


def _record(kind: type[T], value: object, at: str, **more: object) -> T:
    item = _mapping(value, at)
    for field in RECORDS[kind]:
        if field.name in item or not field.optional:
            more[field.name] = _field(_get(item, field.name, at), field, _join(at, field.name))
    if kind is ServiceResult and "memory_max_bytes" not in more:
        more["memory_max_bytes"] = _memory_max(cast("tuple[LimitResult, ...]", more["limits"]))
    return kind(**more)


def _field(value: object, field: Field, at: str) -> object:
    if value is None and field.null:
        return None
    if not field.many:
        return _value(value, field.kind, at)
    return tuple(
        _value(entry, field.kind, f"{at}[{number}]") for number, entry in enumerate(_list(value, at, field.most))
    )


def _value(value: object, kind: type | str, at: str) -> object:
    if isinstance(kind, str):
        return _scalar(value, kind, at)
    if not issubclass(kind, enum.Enum):
        return _record(kind, value, at)
    try:
        return kind(value)
    except ValueError:
        raise ReportShapeError(f"{at} is not a word that the schema allows") from None


def _memory_max(limits: tuple[LimitResult, ...]) -> int | None:
    """The tightest memory.max that the run expected; an earlier version did not write the one in force."""
    found = [item.expected for item in limits if item.file.endswith("/memory.max") and len(item.expected) < 20]
    return min((int(text) for text in found if text.isascii() and text.isdigit()), default=None)


def _get(item: Mapping[str, object], key: str, at: str) -> object:
    if key not in item:
        raise ReportShapeError(f"{_join(at, key)} is missing")
    return item[key]


def _join(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _mapping(value: object, at: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ReportShapeError(f"{at} is not an object")
    return value


def _list(value: object, at: str, most: int) -> list[object]:
    if not isinstance(value, list):
        raise ReportShapeError(f"{at} is not a list")
    if len(value) > most:
        raise ReportShapeError(f"{at} has {len(value)} entries; at most {most} are read")
    return value


def _scalar(value: object, kind: str, at: str) -> object:
    words, shape = KINDS[kind]
    if not _fits(value, shape):
        raise ReportShapeError(f"{at} is not {words}")
    if kind == "seconds":
        return float(cast("float", value))
    return tuple(value) if isinstance(value, list) else value


def _fits(value: object, shape: Mapping[str, Any]) -> bool:
    """Whether a value is what its JSON Schema says, as far as KINDS uses that language."""
    if isinstance(shape["type"], list):
        return any(_fits(value, {"type": name}) for name in shape["type"])
    if not isinstance(value, _TYPES[shape["type"]]) or (isinstance(value, bool) and shape["type"] != "boolean"):
        return False
    if isinstance(value, (int, float)):
        finite = isinstance(value, int) or isfinite(value)  # an integer too large for a float cannot be asked
        return finite and bool(shape.get("minimum", value) <= value <= shape.get("maximum", value))
    if isinstance(value, str):
        return bool(len(value) <= shape.get("maxLength", len(value)))
    if isinstance(value, dict):
        return all(_fits(entry, shape["additionalProperties"]) for entry in value.values())
    if isinstance(value, list):
        fits = bool(shape.get("minItems", 0) <= len(value) <= shape.get("maxItems", len(value)))
        return fits and all(_fits(entry, shape["items"]) for entry in value)
    return True


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str, "boolean": bool, "integer": int, "number": (int, float), "array": list, "object": dict,
    "null": type(None),
}  # fmt: skip
