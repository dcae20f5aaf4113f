"""Reads `[rollout]`, and its rules about several keys at once."""

from collections.abc import Mapping
from typing import Any

from cgroup_preflight.config.model import WHOLE, Rollout, Slice
from cgroup_preflight.config.rollout import Hook, Prometheus, Thresholds
from cgroup_preflight.config.tables import Mistakes, Parsed, read_table
from cgroup_preflight.core import codes


def read_rollout(tables: Mapping[str, Any], slices: tuple[Slice, ...], mistakes: Mistakes) -> Rollout:
    """`[rollout]` of the file, with the targets that `[rollout.slices]` gave; `mistakes` gets what is wrong."""
    raw = tables.get("rollout", {})
    own = {key: value for key, value in raw.items() if key != "slices"} if isinstance(raw, dict) else raw
    table = read_table("rollout", ("rollout",), own, mistakes)
    hook, prometheus = (
        read_table(f"rollout.{name}", ("rollout", name), raw.get(name, {}) if isinstance(raw, dict) else {}, mistakes)
        for name in ("hook", "prometheus")
    )
    values = {name: item.value for name, item in table.items()}
    limits = {name: values.pop(name) for name in Thresholds.__slots__ if name in values}
    rollout = Rollout(
        **values,  # type: ignore[arg-type]
        slices=slices,
        thresholds=Thresholds(**limits),  # type: ignore[arg-type]
        hook=Hook(**_values(hook)),
        prometheus=Prometheus(**_values(prometheus)),
        location=mistakes.at(("rollout",)) if "rollout" in tables else None,
    )
    _check(rollout, table, mistakes)
    return rollout


def _values(table: Mapping[str, Parsed]) -> dict[str, Any]:
    return {name: item.value for name, item in table.items()}


def _check(rollout: Rollout, table: Mapping[str, Parsed], mistakes: Mistakes) -> None:
    steps = rollout.steps
    if "steps" in table and (not steps or steps[-1] != WHOLE or list(steps) != sorted(set(steps))):
        mistakes.add(codes.BAD_VALUE, ("rollout", "steps"), "steps: they must ascend and end with 100%",
                     'use steps such as ["5%", "25%", "50%", "100%"]')  # fmt: skip
    if len(set(rollout.order)) != len(rollout.order):
        mistakes.add(codes.BAD_VALUE, ("rollout", "order"), "order: a slice is named twice, so that its values would go back in between",
                     "name each slice once")  # fmt: skip
    for name in sorted(set(rollout.order) & set(rollout.control)):
        mistakes.add(codes.BAD_VALUE, ("rollout", "control"), f"control: {name} is also in order",
                     "name a slice that the rollout does not change")  # fmt: skip
    commands = (rollout.hook.before, rollout.hook.after, rollout.hook.back)
    if any(commands) and rollout.hook.timeout * 2 > rollout.restore_after:
        mistakes.add(codes.BAD_VALUE, ("rollout", "hook", "timeout"), "timeout: it is more than half of restore_after, so that the "
                     "manager could restore the old values while a command still runs",
                     f"use at most {rollout.restore_after / 2:g}s, or a longer restore_after")  # fmt: skip
    names = {item.name for item in rollout.slices}
    for name in rollout.control:
        if name in names:
            mistakes.add(codes.BAD_VALUE, ("rollout", "control"), f"control: [rollout.slices.{name}] changes this slice",
                         "name a slice that the rollout does not change")  # fmt: skip
    if rollout.prometheus.queries and not rollout.prometheus.url:
        mistakes.add(codes.MISSING_KEY, ("rollout", "prometheus"), "the key url is missing",
                     'add url = "http://127.0.0.1:9090"')  # fmt: skip
