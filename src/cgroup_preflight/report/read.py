"""A JSON report back into the vocabulary: the one reader, strict, since a report may come from an untrusted job.

The shape is `render.report_fields`; every difference is an error that names its place and never repeats what
stood there, and so is a report that contradicts itself (`report_rules`). Text in the report stays as it is: making it harmless is the renderers' work.
"""

import enum
import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import TypeVar, cast

from cgroup_preflight.core.report import LimitResult, Report, ServiceResult
from cgroup_preflight.report.contradictions import contradictions
from cgroup_preflight.report.escape import LOG_LINE_MAX, LOG_LINES
from cgroup_preflight.report.fields import RECORDS, SCHEMA_VERSION, TOOL, Field

#: Largest number taken, so that sums and fractions of them stay in the range of a float.
_NUMBER_MAX = 2**63
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
        raise ReportShapeError("JSON with numbers, nesting or repeated keys that no report has") from None
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
    """Of a key that is there twice, each reader would take the one it likes."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _check_version(version: object) -> None:
    again = "run again with this version of cgroup-preflight"
    if version is None:
        raise ReportShapeError(f"schema_version is missing: {again}")
    if not isinstance(version, int) or isinstance(version, bool) or abs(version) >= 10**6:
        raise ReportShapeError(f"schema_version is no version number: {again}")
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
        raise ReportShapeError(f"{at} is none of the words of the schema") from None


def _memory_max(limits: tuple[LimitResult, ...]) -> int | None:
    """The tightest memory.max that the run expected, for a report of a version that did not write the one in force."""
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
    test, words = _SCALARS[kind]
    if not test(value):
        raise ReportShapeError(f"{at} is not {words}")
    if kind == "seconds":
        return float(cast("float", value))
    return tuple(value) if isinstance(value, list) else value


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _NUMBER_MAX


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _NUMBER_MAX


def _is_texts(value: object, longest: int | None = None) -> bool:
    return isinstance(value, list) and all(
        isinstance(text, str) and (longest is None or len(text) <= longest) for text in value
    )


def _is_evidence(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(entry, (str, int, type(None))) or (isinstance(entry, float) and isfinite(entry))
        for entry in value.values()
    )


#: Of each kind what it has to be, and the words for that.
_SCALARS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "text": (lambda value: isinstance(value, str), "a text"),
    "flag": (lambda value: isinstance(value, bool), "true or false"),
    "whole": (lambda value: _is_whole(value, -_NUMBER_MAX), "a whole number"),
    "count": (lambda value: _is_whole(value, 0), "a whole number of 0 or more"),
    "line": (lambda value: _is_whole(value, 1), "a line number"),
    "seconds": (_is_seconds, "a number of 0 or more"),
    "argv": (_is_texts, "a list of texts"),
    "evidence": (_is_evidence, "an object of texts, numbers, true, false and null"),
    "log": (
        lambda value: _is_texts(value, LOG_LINE_MAX) and len(cast("list[str]", value)) <= LOG_LINES,
        f"a list of at most {LOG_LINES} texts of at most {LOG_LINE_MAX} characters",
    ),
}
