"""From the config to what artifacts have to hold, and to the artifacts themselves."""

import glob
import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace

from cgroup_preflight.artifacts import checksums
from cgroup_preflight.artifacts.content import Tested, Wish
from cgroup_preflight.config.model import Config, Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy, Report, Status, Verdict
from cgroup_preflight.golang.program import survey_all
from cgroup_preflight.host.files import temporary_path
from cgroup_preflight.plan.build import binary_paths, build_plan
from cgroup_preflight.plan.model import Plan
from cgroup_preflight.report.read import ReportShapeError, report_of

_REPORT_MAX = 64 << 20


def wish_of(config: Config, tested: Tested | None = None) -> Wish:
    """What the config asks for. Raises UsageError if the config file cannot be read again."""
    settings, paths = config.artifacts, binary_paths(config)
    programs = survey_all(paths)
    asks = {service.name for service in config.services if service.go_settings}
    return Wish(
        plan=build_plan(config, programs=programs), config_sha256=config_hash(config), layout=settings.layout,
        prefix=settings.prefix, services=settings.services, service_units=settings.service_units, user=settings.user,
        tested=tested or Tested(),
        absent=frozenset(name for name, path in paths.items() if name in asks and not os.path.exists(path)),
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


def program_hashes(config: Config) -> dict[str, str]:
    """SHA-256 of each service's program as it is now; those that cannot be read are left out."""
    found = {}
    for service in config.services:
        try:
            found[service.name] = checksums.digests(os.path.join(config.folder, service.binary)).sha256
        except OSError:
            continue
    return found


def artifact_paths(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The artifacts that the config's globs find, sorted, and the globs that find none."""
    found: dict[str, None] = {}
    empty = []
    for pattern in config.inject:
        hits = sorted(glob.glob(os.path.join(glob.escape(config.folder), pattern), recursive=True))
        hits = [hit for hit in hits if not hit.endswith(temporary_path("")[1:])]
        if not hits:
            empty.append(pattern)
        found |= dict.fromkeys(os.path.relpath(hit) for hit in hits)
    return tuple(found), tuple(empty)


def tested_by_report(path: str, wish: Wish) -> Wish:
    """The wish with what a report of `run` proved. Raises UsageError where it proves nothing about this config."""
    try:
        with open(path, "rb") as file:
            report = report_of(file.read(_REPORT_MAX))
    except OSError as error:
        raise _useless(path, f"cannot read: {error.strerror}") from None
    except ReportShapeError as error:
        raise _useless(path, f"not a JSON report of `run`: {error}") from None
    if report.verdict is not Verdict.PASS:
        raise _useless(path, f"that run ended with {report.verdict}")
    facts = [item for item in report.findings if item.code == codes.TESTED_BINARY.code and item.status is Status.PASS]
    hashes = {item.subject: str(item.evidence.get("sha256")) for item in facts}
    configs = {item.evidence.get("config_sha256") for item in facts}
    if configs != {wish.config_sha256} and wish.plan.services:
        raise _useless(path, "that run was of another config" if configs else "that report names no tested program")
    if len(hashes) != len(facts):
        raise _useless(path, "that report names a tested program twice")
    if untested := _untested(report, wish.plan):
        raise _useless(path, untested)
    return replace(wish, tested=Tested(verdict=report.verdict.value, binaries=hashes))


def _untested(report: Report, plan: Plan) -> str:
    """Which service of the plan the report shows nothing of, or no limit where the plan has some; empty for none."""
    units = [(item.unit, item.settings) for item in plan.slices]
    units += [(item.unit, item.settings) for item in plan.services]
    limited = {unit for unit, settings in units if any(map(_has_file, settings))}
    for service in plan.services:
        # One of several guests has its name before that of the service.
        seen = [item for item in report.services if item.name.rpartition(": ")[2] == service.label]
        if not seen:
            return f"that report has no result of {service.label}"
        if limited & {service.unit, *service.slices} and not all(item.limits for item in seen):
            return f"that report shows no limit of {service.label}, and the config sets some"
    return ""


def _has_file(setting: Setting) -> bool:
    """Whether every kernel shows it in a file; without swap accounting it has none for swap."""
    attribute = BY_NAME[setting.property].attribute
    return bool(attribute) and "swap" not in attribute


def _useless(path: str, why: str) -> UsageError:
    again = Remedy(title="run again", commands=(("cgroup-preflight", "run", "--format", "json=report.json"),))
    return UsageError(f"cannot be used as a proof: {why}", where=path, remedy=again)


def source_date(environment: Mapping[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH (reproducible-builds.org). Raises UsageError where it is no time that tar and zip can hold."""
    text = environment.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 11 and int(text) < 1 << 33):
        raise UsageError(f"{text[:40]!r} is not a time in seconds", where="SOURCE_DATE_EPOCH",
                         remedy=Remedy(title="set it to a number such as `git log -1 --format=%ct` gives"))  # fmt: skip
    return int(text)
