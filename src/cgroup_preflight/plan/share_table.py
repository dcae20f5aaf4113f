"""The shares of a plan as a table for people and as a document for programs. Pure."""

from collections.abc import Iterator, Mapping
from fractions import Fraction

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.plan.share_tree import DEMAND, TOP, Entry, ShareTree
from cgroup_preflight.plan.shares import IDLE_WEIGHT, shares

_HEAD = ("unit", "weight", "may use", "wants", "CPUs", "share", "decided by")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRow:
    """What one unit receives, in CPUs; `depth` is how many slices are above it, `limited_by` what decides."""

    entry: Entry
    depth: int
    cpus: Fraction
    limited_by: str


def share_rows(tree: ShareTree) -> tuple[ShareRow, ...]:
    """A row for each unit, each after the slice that it is in; the top itself has none."""
    given = shares(tree.top)
    depths = {TOP: -1}
    for entry in tree.entries.values():
        depths.setdefault(entry.unit, depths[entry.parent] + 1)
    return tuple(
        ShareRow(entry=entry, depth=depths[entry.unit], cpus=given[entry.unit], limited_by=_reason(tree, entry, given))
        for entry in tree.entries.values()
        if entry.unit != TOP
    )


def _reason(tree: ShareTree, entry: Entry, given: Mapping[str, Fraction]) -> str:
    """Why a unit receives no more: a limit of its own, what is below it, or what its siblings want."""
    share, below = given[entry.unit], tree.below(entry.unit)
    own: list[tuple[str, Fraction]] = list(entry.limits)
    if entry.allowed is not None:
        own.append(("AllowedCPUs", Fraction(len(entry.allowed))))
    for name, value in own:
        if value == share < len(tree.cpus) or (name == DEMAND and value == share):
            return name
    if not below and entry.unit.endswith(".slice") and not entry.foreign:
        return "no service"
    if below and all(_is_full(tree, child, given) for child in below):
        return "its services"
    siblings = [item for item in tree.below(entry.parent) if item.unit != entry.unit and given[item.unit]]
    if siblings:
        return "weight"
    return "the machine" if entry.parent == TOP else entry.parent


def _is_full(tree: ShareTree, entry: Entry, given: Mapping[str, Fraction]) -> bool:
    """Whether a unit has all that it wants or may use."""
    if any(value == given[entry.unit] for _, value in entry.limits):
        return True
    below = tree.below(entry.unit)
    return all(_is_full(tree, child, given) for child in below) if below else entry.unit.endswith(".slice")


def render_text(tree: ShareTree, project: str) -> str:
    """The table, with what is to be known about it below."""
    demands = {unit: demand for unit, demand in tree.demands.items() if unit in tree.entries}
    wants = "when all want all they can use" if not demands else "when the others want all they can use"
    lines = [f"CPU shares of {project} on {len(tree.cpus)} CPUs {wants}", ""]
    table = [_HEAD, *(_cells(row, len(tree.cpus)) for row in share_rows(tree))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = [
            text.ljust(width) if number in (0, 6) else text.rjust(width)
            for number, (text, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join([*lines, "", *(f"note: {note}" for note in tree.notes)]).rstrip() + "\n"


def _cells(row: ShareRow, cpus: int) -> tuple[str, ...]:
    entry = row.entry
    limits = [value for name, value in entry.limits if name != DEMAND]
    wanted = next((value for name, value in entry.limits if name == DEMAND), None)
    name = f"{'  ' * row.depth}{entry.unit}{' (host)' if entry.foreign else ''}"
    wants = "" if entry.unit.endswith(".slice") and not entry.foreign else "all" if wanted is None else _number(wanted)
    return (
        name, _weight_text(entry), _number(min(limits)) if limits else "-", wants, _number(row.cpus),
        f"{float(100 * row.cpus / cpus):.1f}%", row.limited_by,
    )  # fmt: skip


def _weight_text(entry: Entry) -> str:
    return "idle" if entry.weight == IDLE_WEIGHT else str(entry.weight)


def _number(value: Fraction) -> str:
    return f"{float(value):.2f}"


def share_document(tree: ShareTree, project: str) -> dict[str, object]:
    """For JSON: CPUs as numbers, `wants` and `may_use` null for no bound; an idle unit has the weight 0."""
    return {
        "schema_version": 1, "project": project, "cpus": len(tree.cpus), "units": list(_units(tree)),
        "notes": list(tree.notes),
    }  # fmt: skip


def _units(tree: ShareTree) -> Iterator[dict[str, object]]:
    for row in share_rows(tree):
        entry = row.entry
        limits = [value for name, value in entry.limits if name != DEMAND]
        wanted = next((value for name, value in entry.limits if name == DEMAND), None)
        yield {
            "unit": entry.unit, "service": entry.service or None, "parent": entry.parent, "from": "host" if entry.foreign else "plan",
            "weight": 0 if entry.weight == IDLE_WEIGHT else int(entry.weight),
            "may_use": round(float(min(limits)), 6) if limits else None,
            "wants": None if wanted is None else round(float(wanted), 6),
            "cpus": round(float(row.cpus), 6), "percent": round(float(100 * row.cpus / len(tree.cpus)), 4), "decided_by": row.limited_by,
        }  # fmt: skip
