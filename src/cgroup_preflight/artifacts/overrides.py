"""Where the files of a plan go in an artifact, and which other files would override them. Pure.

An override is a file that systemd reads instead of ours (it hides the unit) or after it (a drop-in that changes it).
Sources: systemd.unit(5), "System Unit Search Path", "User Unit Search Path" and what it says about drop-ins.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cgroup_preflight.artifacts.content import ContentRequest
from cgroup_preflight.artifacts.model import FoundMember
from cgroup_preflight.plan.unitfile import DROP_IN

#: Folders that systemd reads before usr/lib: a file of the same name there hides ours.
_BEFORE = {
    "system": ("etc/systemd/system.control", "etc/systemd/system", "etc/systemd/system.attached",
               "run/systemd/system.control", "run/systemd/transient", "run/systemd/system",
               "usr/local/lib/systemd/system"),
    "user": ("etc/skel/.config/systemd/user", "etc/xdg/systemd/user", "etc/systemd/user", "run/systemd/user",
             "usr/local/share/systemd/user", "usr/share/systemd/user", "usr/local/lib/systemd/user"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A file that overrides `ours`, a file of the plan; `hides`: systemd reads it instead, else after it."""

    ours: str
    hides: bool


class UnitPaths:
    """The unit paths of one request, in an artifact that is or is not a package."""

    def __init__(self, request: ContentRequest, package: str) -> None:
        self._folder = request.unit_folder
        self._both_layouts = [request.below(f"usr/lib/systemd/{layout}") for layout in _BEFORE]
        # A project that packages itself does not name the manifest after the package.
        self._manifest = request.manifest_path(package)
        self._manifests = posixpath.dirname(self._manifest)
        manifests = {self._manifest, request.manifest_path()}
        self._units = {service.unit: service.label for service in request.plan.services}
        slices = [item.unit for item in request.plan.slices]
        # lib/ is usr/lib/ itself on most systems; elsewhere it is read after it.
        before = [request.below(folder) for folder in (*_BEFORE[request.layout], f"lib/systemd/{request.layout}")]
        self._unit_folders = (self._folder, *before)
        #: Which units a drop-in folder of that name applies to: owner (`api.slice`, `service`, `a-.slice`) to units.
        self._owners: dict[str, list[str]] = {}
        for unit in (*slices, *self._units):
            for owner in _owners(unit):
                self._owners.setdefault(owner, []).append(unit)
        drop_ins = {f"{self._folder}/{unit}.d/{DROP_IN}" for unit in self._units}
        whole = {f"{self._folder}/{unit}" for unit in self._units} if request.service_units else set()
        #: Every path that the plan may have, independent of what is in the artifact.
        self.goals = frozenset({*manifests, *drop_ins, *whole, *(f"{self._folder}/{unit}" for unit in slices)})
        #: Every folder above those.
        self.parents = frozenset(parent for path in self.goals for parent in _parents(path))
        self._names = {posixpath.basename(path) for path in self.goals | self.parents}

    def reserved(self, path: str) -> bool:
        """Whether some plan could contain `path`: an earlier one may have left it, also in the other layout."""
        folder, _, name = path.rpartition("/")
        if folder in self._both_layouts:
            return name.endswith((".slice", ".service"))
        if folder == self._manifests:
            return name.endswith(".json")
        if name != DROP_IN or not folder.endswith(".service.d"):
            return False
        return posixpath.dirname(folder) in (*self._unit_folders, *self._both_layouts)

    def unit_of(self, path: str) -> str | None:
        """The service whose unit file is at `path`."""
        folder, _, name = path.rpartition("/")
        return self._units.get(name) if folder in self._unit_folders else None

    def has_unit_name(self, path: str) -> bool:
        """Whether `path`, through links not known yet, may be a unit file or drop-in that is read with ours."""
        folder, _, name = path.rpartition("/")
        if name.endswith((".slice", ".service")):
            return name in self._names
        return name.endswith(".conf") and folder.rpartition("/")[2].removesuffix(".d") in self._owners

    def has_plan_name(self, path: str) -> bool:
        """Whether `path`, through links that are not known yet, may also be a folder of ours or the manifest."""
        return self.has_unit_name(path) or path.rpartition("/")[2] in self._names

    def overrides(self, path: str) -> tuple[Override, ...]:
        """Which files of the plan a file at `path` would override."""
        folder = next((item for item in self._unit_folders if path.startswith(f"{item}/")), "")
        rest = path.removeprefix(f"{folder}/") if folder else ""
        same = f"{self._folder}/{rest}"
        if same in self.goals:
            return (Override(ours=same, hides=True),) if folder != self._folder else ()
        owner, mark, name = rest.partition(".d/")
        if not mark or "/" in name or not name.endswith(".conf"):
            return ()
        found = []
        for unit in self._owners.get(owner, ()):
            # Drop-ins are read in the order of their names, from all folders together, after the unit file.
            if unit not in self._units:
                found.append(Override(ours=f"{self._folder}/{unit}", hides=False))
                continue
            if f"{self._folder}/{unit}" in self.goals:
                found.append(Override(ours=f"{self._folder}/{unit}", hides=False))
            if name > DROP_IN:
                found.append(Override(ours=f"{self._folder}/{unit}.d/{DROP_IN}", hides=False))
        return tuple(found)


def _owners(unit: str) -> list[str]:
    """Drop-in folders, without `.d`, that apply to a unit: `a-b.slice` has `a-b.slice`, `slice` and `a-.slice`."""
    stem, _, kind = unit.rpartition(".")
    parts = stem.split("-")
    return [unit, kind, *(f"{'-'.join(parts[:end])}-.{kind}" for end in range(1, len(parts)))]


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def describe_overrides(
    overrides: Sequence[tuple[FoundMember, Override]], files: Mapping[str, bytes]
) -> tuple[str, ...]:
    """How each file overrides one of `files`, in words, sorted; files without an effect are left out."""
    said = (_said(found, override, files[override.ours]) for found, override in overrides if override.ours in files)
    return tuple(sorted({text for text in said if text}))


def _said(found: FoundMember, override: Override, ours: bytes) -> str:
    path = found.member.path
    if override.hides:
        return "" if found.data == ours else f"{path!r} hides {override.ours!r}"
    if found.data is None:
        return f"{path!r} ({found.member.kind.value}) may change {override.ours!r}: its content is unknown"
    planned: dict[str, list[str]] = {}
    for key, value in _assignments(ours):
        planned.setdefault(key, []).append(value)
    changes = sorted({f"{key}={value}" for key, value in _assignments(found.data) if _changes(planned, key, value)})
    return f"{path!r} changes {override.ours!r}: {', '.join(changes)}" if changes else ""


def _changes(planned: Mapping[str, list[str]], key: str, value: str) -> bool:
    if key not in planned:
        return False
    if key != "Environment":
        return value != planned[key][-1]
    # A list of variables: what it adds does not matter; what it empties or sets again does.
    names = [item.strip('"').partition("=")[0] for item in planned[key]]
    return not value or (value not in planned[key] and any(f"{name}=" in value for name in names))


def _assignments(data: bytes) -> Iterator[tuple[str, str]]:
    """`Key=value` of the sections that hold settings (systemd.syntax(7)); lines that end in a backslash go on."""
    section = ""
    for line in data.decode("utf-8", "replace").replace("\\\n", " ").splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text
        elif section in ("[Service]", "[Slice]") and not text.startswith(("#", ";")):
            key, equals, value = text.partition("=")
            if equals:
                yield key.strip(), value.strip()
