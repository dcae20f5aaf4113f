"""The names of slices and units that belong to cgroup paths, as systemd maps them (systemd.slice(5), CGROUP_DELEGATION).

A path is below the mount; the root is an empty path and the slice `-.slice`.
"""

from cgroup_preflight.core.records import dataclass

ROOT_SLICE = "-.slice"
_SLICE = ".slice"
_UNITS = (".service", ".scope", ".slice", ".socket", ".mount", ".swap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What names a cgroup in metrics: its slice, and its unit with the cgroups below it; an empty unit is the slice itself."""

    slice: str
    unit: str


def labels(cgroup: str) -> Labels:
    """The labels of the cgroup at a path, such as `/system.slice/cron.service`.

    Only the slices at the beginning of the path are slices of the system: those of a user's manager belong to its unit
    `user@UID.service`, because each user has slices of the same names.
    """
    name, parts = ROOT_SLICE, [part for part in cgroup.split("/") if part]
    for index, part in enumerate(parts):
        if not part.endswith(_SLICE):
            return Labels(slice=name, unit="/".join(map(_unescaped, parts[index:])))
        name = _unescaped(part)
    return Labels(slice=name, unit="")


def _unescaped(part: str) -> str:
    """The name without the `_` that systemd puts before one that could be taken for a file of the kernel."""
    return part[1:] if part.startswith("_") and part.endswith(_UNITS) else part


def is_slice(cgroup: str) -> bool:
    """Whether a path is that of a slice of the system, or the root."""
    return not labels(cgroup).unit


def slice_path(name: str) -> str:
    """The path of a slice: `a-b.slice` is in `a.slice`. Raises ValueError for what is not the name of a slice."""
    words = name.removesuffix(_SLICE).split("-")
    if not name.endswith(_SLICE) or "/" in name:
        raise ValueError(f"not the name of a slice: {name!r}")
    if name == ROOT_SLICE:
        return ""
    if not all(words):
        raise ValueError(f"not the name of a slice: {name!r}")
    return "".join(f"/{'-'.join(words[:end])}{_SLICE}" for end in range(1, len(words) + 1))
