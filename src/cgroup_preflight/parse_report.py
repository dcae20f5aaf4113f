"""A JSON report back into the vocabulary: strict, since it may come from an untrusted job.

The shape is `render.report_schema`; every difference is an error that names its place and never repeats what
stood there. Text in the report stays as it is: making it harmless is the renderers' work.
"""

import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import TypeVar, cast

from cgroup_preflight.render.json_format import SCHEMA_VERSION
from cgroup_preflight.report import (
    CpuUsage,
    Evidence,
    Finding,
    HostSummary,
    LimitResult,
    Location,
    Remedy,
    RemedyFile,
    Report,
    ServiceResult,
    Status,
    Verdict,
)
from cgroup_preflight.verdict import WORST_FIRST, verdict_of

#: Most findings taken from one report; a run makes about a hundred.
FINDINGS_MAX = 20_000
#: Largest number taken, so that sums and fractions of them stay in the range of a float.
_NUMBER_MAX = 2**63
T = TypeVar("T")


class ReportShapeError(ValueError):
    """Not a report of schema_version 1; the text says where it differs."""


def report_of(data: bytes) -> Report:
    """The report in `data`. Raises ReportShapeError."""
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ReportShapeError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ReportShapeError(f"not JSON, or cut off: {error.msg} at line {error.lineno}") from None
    except (ValueError, RecursionError):
        raise ReportShapeError("JSON with numbers or nesting that no report has") from None
    top = _mapping(document, "the document")
    version = top.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        shown = version if isinstance(version, int) and abs(version) < 10**6 else "none that can be read"
        raise ReportShapeError(f"schema_version is {shown}; this version reads {SCHEMA_VERSION}")
    return _report(top)


def _no_constant(_text: str) -> object:
    raise ValueError


def _report(top: Mapping[str, object]) -> Report:
    tool = _mapping(_get(top, "tool", ""), "tool")
    if tool.get("name") != "cgroup-preflight":
        raise ReportShapeError("tool.name is not cgroup-preflight")
    findings = _list(top, "findings", "", _finding, most=FINDINGS_MAX)
    verdict = _choice(top, "verdict", "", Verdict)
    if WORST_FIRST.index(verdict) > WORST_FIRST.index(verdict_of(findings)):
        raise ReportShapeError("the verdict is better than its findings")
    return Report(
        tool_version=_text(tool, "version", "tool"), verdict=verdict, host=_host(_get(top, "host", "")),
        findings=findings, services=_list(top, "services", "", _service), started_at=_text(top, "started_at", ""),
        duration_seconds=_number(top, "duration_seconds", ""),
    )  # fmt: skip


def _host(value: object) -> HostSummary | None:
    host = _mapping(value, "host")
    if not host:
        return None
    texts = {name: _text_or_none(host, name, "host")
             for name in ("kernel", "systemd", "hierarchy", "mount_point", "machine", "engine")}  # fmt: skip
    offered = None if _get(host, "controllers", "host") is None else _list(host, "controllers", "host", _plain_text)
    return HostSummary(
        kernel=texts["kernel"], systemd=texts["systemd"], hierarchy=texts["hierarchy"],
        mount_point=texts["mount_point"], controllers=offered, machine=texts["machine"], engine=texts["engine"],
        cpus=_count(host, "cpus", "host"), memory_bytes=_count(host, "memory_bytes", "host"),
    )  # fmt: skip


def _finding(value: object, at: str) -> Finding:
    item = _mapping(value, at)
    place = _get(item, "location", at)
    return Finding(
        code=_text(item, "code", at), name=_text(item, "name", at), status=_choice(item, "status", at, Status),
        subject=_text(item, "subject", at), message=_text(item, "message", at), evidence=_evidence(item, at),
        remedies=_list(item, "remedies", at, _remedy, most=100),
        location=None if place is None else _location(place, f"{at}.location"),
    )  # fmt: skip


def _evidence(item: Mapping[str, object], at: str) -> Evidence:
    evidence = _mapping(_get(item, "evidence", at), f"{at}.evidence")
    for value in evidence.values():
        if not isinstance(value, (str, int, float, type(None))) or (isinstance(value, float) and not isfinite(value)):
            raise ReportShapeError(f"{at}.evidence holds something else than texts, numbers, true, false and null")
    return cast("Evidence", evidence)


def _location(value: object, at: str) -> Location:
    item = _mapping(value, at)
    line = _count(item, "line", at)
    if not line:
        raise ReportShapeError(f"{at}.line is not a line number")
    return Location(file=_text(item, "file", at), line=line)


def _remedy(value: object, at: str) -> Remedy:
    item = _mapping(value, at)
    return Remedy(
        title=_text(item, "title", at), why=_text(item, "why", at), commands=_list(item, "commands", at, _command),
        files=_list(item, "files", at, _file), needs_root=_flag(item, "needs_root", at),
        persistent=_flag(item, "persistent", at), docs=_text(item, "docs", at),
    )  # fmt: skip


def _command(value: object, at: str) -> tuple[str, ...]:
    return _list({"argv": value}, "argv", at, _plain_text)


def _file(value: object, at: str) -> RemedyFile:
    item = _mapping(value, at)
    return RemedyFile(path=_text(item, "path", at), content=_text(item, "content", at))


def _service(value: object, at: str) -> ServiceResult:
    item = _mapping(value, at)
    limits = _list(item, "limits", at, _limit)
    cpu = _get(item, "cpu", at)
    return ServiceResult(
        name=_text(item, "name", at), engine=_text(item, "engine", at), unit=_text(item, "unit", at),
        cgroup=_text(item, "cgroup", at), limits=limits, memory_peak_bytes=_count(item, "memory_peak_bytes", at),
        cpu=None if cpu is None else _cpu(cpu, f"{at}.cpu"), oom_kills=_count(item, "oom_kills", at),
        result=_text_or_none(item, "result", at), exit_status=_whole(item, "exit_status", at),
        duration_seconds=_number(item, "duration_seconds", at), memory_max_bytes=_memory_max(limits),
    )  # fmt: skip


def _memory_max(limits: tuple[LimitResult, ...]) -> int | None:
    """The tightest memory.max that the run expected; the report has no field for it."""
    found = [item.expected for item in limits if item.file.endswith("/memory.max") and len(item.expected) < 20]
    return min((int(text) for text in found if text.isascii() and text.isdigit()), default=None)


def _limit(value: object, at: str) -> LimitResult:
    item = _mapping(value, at)
    return LimitResult(
        file=_text(item, "file", at), expected=_text(item, "expected", at), actual=_text_or_none(item, "actual", at),
        ok=_flag(item, "ok", at),
    )  # fmt: skip


def _cpu(value: object, at: str) -> CpuUsage:
    item = _mapping(value, at)
    usage = _count(item, "usage_usec", at)
    if usage is None:
        raise ReportShapeError(f"{at}.usage_usec is not a number")
    return CpuUsage(
        usage_usec=usage, nr_periods=_count(item, "nr_periods", at), nr_throttled=_count(item, "nr_throttled", at),
        throttled_usec=_count(item, "throttled_usec", at),
    )  # fmt: skip


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


def _list(
    item: Mapping[str, object], key: str, at: str, read: Callable[[object, str], T], *, most: int = 10_000
) -> tuple[T, ...]:
    value, place = _get(item, key, at), _join(at, key)
    if not isinstance(value, list):
        raise ReportShapeError(f"{place} is not a list")
    if len(value) > most:
        raise ReportShapeError(f"{place} has {len(value)} entries; at most {most} are read")
    return tuple(read(entry, f"{place}[{number}]") for number, entry in enumerate(value))


def _plain_text(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise ReportShapeError(f"{at} is not a text")
    return value


def _text(item: Mapping[str, object], key: str, at: str) -> str:
    return _plain_text(_get(item, key, at), _join(at, key))


def _text_or_none(item: Mapping[str, object], key: str, at: str) -> str | None:
    return None if _get(item, key, at) is None else _text(item, key, at)


def _flag(item: Mapping[str, object], key: str, at: str) -> bool:
    value = _get(item, key, at)
    if not isinstance(value, bool):
        raise ReportShapeError(f"{_join(at, key)} is not true or false")
    return value


def _whole(item: Mapping[str, object], key: str, at: str) -> int | None:
    value = _get(item, key, at)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or abs(value) > _NUMBER_MAX):
        raise ReportShapeError(f"{_join(at, key)} is not a whole number")
    return value


def _count(item: Mapping[str, object], key: str, at: str) -> int | None:
    value = _whole(item, key, at)
    if value is not None and value < 0:
        raise ReportShapeError(f"{_join(at, key)} is negative")
    return value


def _number(item: Mapping[str, object], key: str, at: str) -> float:
    value = _get(item, key, at)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= _NUMBER_MAX:
        raise ReportShapeError(f"{_join(at, key)} is not a number of 0 or more")
    return float(value)


def _choice(item: Mapping[str, object], key: str, at: str, kind: Callable[[str], T]) -> T:
    value = _text(item, key, at)
    try:
        return kind(value)
    except ValueError:
        raise ReportShapeError(f"{_join(at, key)} is none of the words of the schema") from None
