"""Reads the config file: TOML to the frozen model, or a `ConfigError` with every mistake."""

import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cgroup_preflight.config import FILE_NAME
from cgroup_preflight.config.keys import SECTIONS, parse_slice_name, parse_unit_name
from cgroup_preflight.config.model import (
    GOMEMLIMIT_RATIO,
    Artifacts,
    Config,
    Policy,
    Require,
    Rollout,
    Service,
    Setting,
    Slice,
    Smoke,
    Target,
)
from cgroup_preflight.config.places import path_of
from cgroup_preflight.config.properties import BY_NAME, Value
from cgroup_preflight.config.rules import check_rules
from cgroup_preflight.config.tables import Mistakes, Parsed, read_table, unknown_key
from cgroup_preflight.config.toml_lines import locate
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.records import TYPE_CHECKING, replace
from cgroup_preflight.core.report import Location, Remedy, Status

if TYPE_CHECKING:
    from cgroup_preflight.config.unit_source import UnitSource

_SIZE_MAX = 1 << 20
_DOTS_MAX = 200
_INIT = Remedy(title="write a starter config", commands=(("cgroup-preflight", "init"),))


def find(start: Path) -> Path:
    """The path of the config in `start` or in the nearest folder above it. Raises UsageError."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise UsageError(f"no {FILE_NAME} here or in a folder above", where=str(start), remedy=_INIT)


def load(path: Path, outside: Sequence[str] = ()) -> Config:
    """The config at `path`; its paths may also lead into the folders `outside`.

    Raises UsageError (unreadable) or ConfigError (wrong, all mistakes at once).
    """
    shown = os.path.relpath(path)
    try:
        # O_NONBLOCK: a FIFO of that name must not block this tool.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError("the config is not a regular file", where=shown, remedy=_INIT)
            data = file.read(_SIZE_MAX + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot read the config: {reason}", where=shown, remedy=_INIT) from None
    if len(data) > _SIZE_MAX:
        raise UsageError("the config is larger than 1M", where=shown, remedy=_INIT)
    return parse(data, shown=shown, folder=str(path.resolve().parent), outside=outside)


def parse(data: bytes, *, shown: str, folder: str, outside: Sequence[str] = ()) -> Config:
    """The config in `data`; `shown` names it in messages. Raises ConfigError."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        if max(map(_dots, text.split("\n"))) > _DOTS_MAX:
            raise ValueError("a key with more than 200 parts")
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_toml(error, data, shown) from None
    mistakes = Mistakes(shown, locate(text))
    if not tables:
        mistakes.add(
            codes.MISSING_KEY, (), "the config is empty", "write a starter config: cgroup-preflight init --force"
        )
    config = _build(tables, mistakes, shown, folder, tuple(map(os.path.realpath, outside)))
    if "policy" in tables or "cgroup-preflight:" in text:
        from cgroup_preflight.config.policy_table import read_rules  # few configs have any

        config = replace(config, rules=read_rules(tables.get("policy", {}), text, mistakes))
    if mistakes.findings:
        findings = tuple(sorted(mistakes.findings, key=lambda item: item.location.line if item.location else 0))
        count = len(findings)
        raise ConfigError(
            f"{count} mistake{'s' if count > 1 else ''} in the config",
            where=shown, remedy=Remedy(title="correct the lines named above"), findings=findings,
        )  # fmt: skip
    return config


def _dots(line: str) -> int:
    """The dots before the value: the TOML reader needs time in the square of their number."""
    return line.partition("=")[0].count(".")


def _not_toml(error: Exception, data: bytes, shown: str) -> ConfigError:
    import re

    match = re.search(r"line (\d+)", str(error))
    line = int(match[1]) if match else data.count(b"\n") + 1 if "end of document" in str(error) else 1
    if isinstance(error, UnicodeDecodeError):
        line = data[: error.start].count(b"\n") + 1
    remedy = Remedy(
        title="correct the TOML; a name with characters other than letters, digits, '-' and '_' needs quotes"
    )
    finding = codes.NOT_TOML.finding(Status.FAIL, shown, f"not TOML: {error}"[:300], remedy, location=Location(file=shown, line=line))  # fmt: skip
    return ConfigError("the config is not TOML", where=shown, remedy=remedy, findings=(finding,))


def _build(
    tables: Mapping[str, Any], mistakes: Mistakes, shown: str, folder: str, outside: tuple[str, ...]
) -> Config:  # fmt: skip
    top = {name.split(".")[0] for name in SECTIONS}
    for name in tables:
        if name not in top:
            unknown_key("", (name,), top, mistakes)
    project = read_table("project", ("project",), tables.get("project", {}), mistakes) if tables else {}
    require = read_table("require", ("require",), tables.get("require", {}), mistakes)
    smoke = read_table("smoke", ("smoke",), tables.get("smoke", {}), mistakes)
    artifacts = read_table("artifacts", ("artifacts",), tables.get("artifacts", {}), mistakes)
    target = read_table("target", ("target",), tables.get("target", {}), mistakes)
    policy = read_table("policy", ("policy",), tables.get("policy", {}), mistakes)
    config = Config(
        path=shown,
        folder=folder,
        project=_get(project, "name", ""),
        require=Require(
            controllers=_get(require, "controllers", ("memory", "cpu")),
            systemd=_get(require, "systemd", ""),
            kernel=_get(require, "kernel", ""),
            limits=_get(require, "limits", ()),
            location=mistakes.at(("require",)) if "require" in tables else None,
        ),
        slices=_slices(tables.get("slices", {}), mistakes),
        services=_services(tables.get("services", {}), policy, mistakes, (folder, outside)),
        engine=_get(smoke, "engine", "auto"),
        inject=_get(artifacts, "inject", ()),
        inject_location=mistakes.at(("artifacts", "inject")) if "inject" in artifacts else None,
        allow_tiny_limits=_get(smoke, "allow_tiny_limits", default=False),
        artifacts=Artifacts(**{key: item.value for key, item in artifacts.items() if key != "inject"}),  # type: ignore[arg-type]
        target=Target(
            **{key: item.value for key, item in target.items()},  # type: ignore[arg-type]
            files_location=mistakes.at(("target", "files")) if "files" in target else None,
            packages_location=mistakes.at(("target", "packages")) if "packages" in target else None,
        ),
        policy=_policy(policy),
        outside=outside,
        rollout=_rollout(tables, mistakes),
    )
    check_rules(
        config, mistakes,
        tiny=_get(smoke, "allow_tiny_limits", default=False), remote=_get(smoke, "allow_remote_ready", default=False),
    )  # fmt: skip
    return config


def _rollout(tables: Mapping[str, Any], mistakes: Mistakes) -> Rollout | None:
    if "rollout" not in tables:
        return None
    from cgroup_preflight.config.rollout_table import read_rollout  # few configs have one

    raw = tables["rollout"]
    named = raw.get("slices", {}) if isinstance(raw, dict) else {}
    return read_rollout(tables, _slices(named, mistakes, ("rollout", "slices")), mistakes)


def _get(table: Mapping[str, Parsed], name: str, default: Any) -> Any:  # noqa: ANN401 - one getter, many types
    return table[name].value if name in table else default


def _named(kind: str, tables: object, mistakes: Mistakes, path: tuple[str, ...] = ()) -> dict[str, object]:
    """The sub-tables of `[slices]` or `[services]` whose names can be part of a unit name; `path` is (kind,) by default."""
    path = path or (kind,)
    if not isinstance(tables, dict):
        read_table("project", path, tables, mistakes)
        return {}
    named: dict[str, object] = {}
    for name, table in tables.items():
        try:
            named[parse_slice_name(name) if kind == "slices" else parse_unit_name(name)] = table
        except QuantityError as error:
            shown = name if len(name) <= 60 else f"{name[:57]}..."
            mistakes.add(codes.BAD_NAME, (*path, name), f"[{'.'.join(path)}.{shown!r}]: {error}"[:300],
                         f"use {error.hint}")  # fmt: skip
    return named


def _settings(table: Mapping[str, Parsed]) -> tuple[Setting, ...]:
    """The properties of a table, in the order of the property table so that output is stable."""
    return tuple(
        Setting(property=name, text=table[name].text, value=cast("Value", table[name].value),
                location=table[name].location)
        for name in BY_NAME
        if name in table
    )  # fmt: skip


def _slices(tables: object, mistakes: Mistakes, path: tuple[str, ...] = ("slices",)) -> tuple[Slice, ...]:
    slices = []
    for name, raw in sorted(_named("slices", tables, mistakes, path).items()):
        table = read_table(f"{'.'.join(path)}.*", (*path, name), raw, mistakes)
        slices.append(Slice(name=name, settings=_settings(table), location=mistakes.at((*path, name))))
    return tuple(slices)


def _policy(table: Mapping[str, Parsed]) -> Policy:
    return Policy(**{key: item.value for key, item in table.items() if key in Policy.__slots__})  # type: ignore[arg-type]


def _services(
    tables: object, policy: Mapping[str, Parsed], mistakes: Mistakes, places: tuple[str, Sequence[str]]
) -> tuple[Service, ...]:  # fmt: skip
    """`places`: the folder of the config, and those outside of it that are allowed."""
    services = []
    for name, raw in sorted(_named("services", tables, mistakes).items()):
        path = ("services", name)
        table = read_table("services.*", path, raw, mistakes)
        smoke, own = (
            read_table(
                f"services.*.{name}", (*path, name), raw.get(name, {}) if isinstance(raw, dict) else {}, mistakes
            )
            for name in ("smoke", "policy")
        )
        unit, instance = _get(table, "unit", ""), _get(table, "instance", "")
        environment, env = _get(table, "Environment", ()), _get(smoke, "env", ())
        services.append(
            Service(
                name=name,
                binary=_get(table, "binary", ""),
                unit=unit,
                instance=instance,
                package=_get(table, "package", ""),
                previous=_get(table, "previous", ""),
                build=tuple(_get(table, "build", ())),
                build_folder=_get(table, "build_folder", "."),
                # The unit of a package is known when the package is read.
                source=None if "package" in table else _source(places, path, unit, instance, mistakes),
                unit_location=table["unit"].location if "unit" in table else None,
                slice=_get(table, "slice", None),
                settings=_settings(table),
                environment=environment,
                variables_at=(
                    *((key, mistakes.at((*path, "Environment", key))) for key, _ in environment),
                    *((key, mistakes.at((*path, "smoke", "env", key))) for key, _ in env),
                ),
                go_settings=_get(table, "go_settings", default=True),
                gomemlimit_ratio=_get(table, "gomemlimit_ratio", GOMEMLIMIT_RATIO),
                policy=_policy({**policy, **own}),
                smoke=_smoke(smoke, places[0]),
                location=mistakes.at(path),
                ready_location=mistakes.at((*path, "smoke", "ready")),
            )
        )
    return tuple(services)


def _smoke(table: Mapping[str, Parsed], folder: str) -> Smoke:
    smoke = Smoke(**{key: parsed.value for key, parsed in table.items()})  # type: ignore[arg-type]
    if not smoke.ready_ca:
        return smoke
    return replace(smoke, ready=replace(smoke.ready, ca=path_of(folder, smoke.ready_ca)))


def _source(
    places: tuple[str, Sequence[str]], path: tuple[str, ...], unit: str, instance: str, mistakes: Mistakes
) -> "UnitSource | None":  # fmt: skip
    """What the unit file says; `mistakes` gets why it cannot be used."""
    if not unit or (unit.endswith("@.service") and not instance):
        return None
    if "/" not in unit:
        if os.path.isfile(os.path.join(places[0], unit)):
            mistakes.add(codes.UNIT_FILE, (*path, "unit"), f"{unit} without a slash is a unit that the machine has "
                         "installed, and the folder of the config has a file of this name",
                         f'write unit = "./{unit}" for the file')  # fmt: skip
        return None
    from cgroup_preflight.config.units import read_unit  # most services have none

    try:
        source = read_unit(places[0], unit, instance, places[1])
    except UsageError as error:
        mistakes.add(codes.UNIT_FILE, (*path, "unit"), f"{error.where}: {error.message}", error.remedy.title)
        return None
    for problem in source.problems():
        mistakes.add(codes.UNIT_FILE, (*path, "unit"), problem.message, problem.remedy)
    return source
