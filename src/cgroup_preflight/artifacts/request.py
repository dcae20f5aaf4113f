"""From the config to what artifacts must contain, and to the artifacts themselves."""

import hashlib
import os
from collections.abc import Mapping

from cgroup_preflight.artifacts.content import ContentRequest, Tested
from cgroup_preflight.artifacts.inject import OUTSIDE
from cgroup_preflight.config.model import AUTO_PREFIX, Config, Setting
from cgroup_preflight.config.places import allows
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Finding, Remedy, Report, Status, Verdict
from cgroup_preflight.host import globs
from cgroup_preflight.host.files import temporary_path
from cgroup_preflight.plan.build import binary_paths, build_plan
from cgroup_preflight.plan.model import Plan

_REPORT_MAX = 64 << 20


def request_of(config: Config, plan: Plan, tested: Tested | None = None) -> ContentRequest:
    """What the config requires; `plan` is its plan. Raises UsageError if the config file cannot be read again."""
    settings = config.artifacts
    programs = {service.label: service.program for service in plan.services if service.program is not None}
    with_go = {service.name for service in config.services if service.go_settings}
    return ContentRequest(
        plan=plan, config_sha256=config_hash(config), layout=settings.layout,
        prefix="" if settings.prefix == AUTO_PREFIX else settings.prefix,
        auto_prefix=settings.prefix == AUTO_PREFIX, services=settings.services, service_units=settings.service_units, user=settings.user,
        tested=tested or Tested(),
        absent=frozenset(
            name for name, path in binary_paths(config).items() if name in with_go and not os.path.exists(path)
        ),
        replan=lambda found: build_plan(config, programs={**programs, **found}),
    )  # fmt: skip


def config_hash(config: Config) -> str:
    """SHA-256 of the config file, as sha256sum prints it. Raises UsageError."""
    path = os.path.join(config.folder, os.path.basename(config.path))
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        remedy = Remedy(title="make it readable")
        raise UsageError(f"cannot read: {error.strerror}", where=path, remedy=remedy) from None


def artifact_paths(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The artifacts that match the patterns of the config, sorted, and the patterns without a match.

    Raises ConfigError where one is a link out of the folder of the config.
    """
    found: dict[str, None] = {}
    empty, outside = [], list[str]()
    for pattern in config.inject:
        # An artifact may also be a folder.
        hits = sorted((*globs.files(config.folder, pattern), *globs.folders(config.folder, pattern)))
        hits = [hit for hit in hits if not hit.endswith(temporary_path("")[1:])]
        if not hits:
            empty.append(pattern)
        found |= dict.fromkeys(os.path.relpath(hit) for hit in hits)
        outside += [hit for hit in hits if not allows(config, hit)]
    if outside:
        raise ConfigError(
            f"{len(outside)} artifact(s) are outside of the folder of the config", where=config.path, remedy=OUTSIDE,
            findings=tuple(_outside(config, os.path.relpath(hit)) for hit in dict.fromkeys(outside)),
        )  # fmt: skip
    return tuple(found), tuple(empty)


def _outside(config: Config, path: str) -> Finding:
    message = f"inject: {path!r} is a link out of the folder of the config"
    return codes.NOT_INJECTED.finding(Status.FAIL, path, message, OUTSIDE, location=config.inject_location)


def with_report(path: str, request: ContentRequest) -> ContentRequest:
    """The request with the proof in a report of `run`. Raises UsageError where it proves nothing about this config."""
    from cgroup_preflight.report.read import ReportShapeError, report_of

    try:
        with open(path, "rb") as file:
            report = report_of(file.read(_REPORT_MAX))
    except OSError as error:
        raise _useless(path, f"cannot read: {error.strerror}") from None
    except ReportShapeError as error:
        raise _useless(path, f"not a JSON report of `run`: {error}") from None
    if report.verdict is not Verdict.PASS:
        raise _useless(path, f"its run ended with {report.verdict}")
    facts = [item for item in report.findings if item.code == codes.TESTED_BINARY.code and item.status is Status.PASS]
    hashes = {item.subject: str(item.evidence.get("sha256")) for item in facts}
    configs = {item.evidence.get("config_sha256") for item in facts}
    if configs != {request.config_sha256} and request.plan.services:
        raise _useless(path, "its run used another config" if configs else "it names no tested program")
    if len(hashes) != len(facts):
        raise _useless(path, "it names a tested program twice")
    if untested := _untested(report, request.plan):
        raise _useless(path, untested)
    return replace(request, tested=Tested(verdict=report.verdict.value, binaries=hashes))


def _untested(report: Report, plan: Plan) -> str:
    """Which service of the plan has no result in the report, or no limit where the plan has some; empty for none."""
    units = [(item.unit, item.settings) for item in plan.slices]
    units += [(item.unit, item.settings) for item in plan.services]
    limited = {unit for unit, settings in units if any(map(_has_file, settings))}
    for service in plan.services:
        # One of several guests has its name before that of the service.
        seen = [item for item in report.services if item.name.rpartition(": ")[2] == service.label]
        if not seen:
            return f"it has no result of {service.label}"
        if limited & {service.unit, *service.slices} and not all(item.limits for item in seen):
            return f"it shows no limit of {service.label}, but the config sets some"
    return ""


def _has_file(setting: Setting) -> bool:
    """Whether every kernel shows it in a file; without swap accounting there is none for swap."""
    attribute = BY_NAME[setting.property].attribute
    return bool(attribute) and "swap" not in attribute


def _useless(path: str, why: str) -> UsageError:
    again = Remedy(title="run again", commands=(("cgroup-preflight", "run", "--format", "json=report.json"),))
    return UsageError(f"cannot be used as a proof: {why}", where=path, remedy=again)


def source_date(environment: Mapping[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH (reproducible-builds.org). Raises UsageError where it is no time that tar and zip can store."""
    text = environment.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 11 and int(text) < 1 << 33):
        raise UsageError(f"{text[:40]!r} is not a time in seconds", where="SOURCE_DATE_EPOCH",
                         remedy=Remedy(title="set it to seconds since the epoch, as `git log -1 --format=%ct` prints"))  # fmt: skip
    return int(text)
