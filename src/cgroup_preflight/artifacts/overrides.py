"""Where the files of a plan go in an artifact, and which other files would override them. Pure.

An override is a file that systemd reads instead of ours (it hides it), or after it (a drop-in that changes it), or one
that masks the unit.
Sources: systemd.unit(5), "System Unit Search Path", "User Unit Search Path" and what it says about drop-ins.
"""

import enum
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence

from cgroup_preflight.artifacts.content import ContentRequest
from cgroup_preflight.artifacts.model import FoundMember
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.unit_paths import PACKAGED, SYSTEM, USER_BEFORE
from cgroup_preflight.core.unit_text import parse_unit
from cgroup_preflight.plan.unitfile import drop_in_name

#: Folders that systemd reads before usr/lib: a file of the same name there hides ours.
_BEFORE = {
    "system": tuple(folder.lstrip("/") for folder in SYSTEM[: SYSTEM.index(PACKAGED)]),
    "user": tuple(folder.lstrip("/") for folder in USER_BEFORE),
}

#: Settings that change the effect of another one (systemd.resource-control(5)); `StartupX=` replaces X during the boot.
_REPLACES = {"CPUQuotaPeriodSec": "CPUQuota"}
#: systemd.exec(5): with pam_systemd, the program runs in the scope of a session, without the limits of the unit.
_ESCAPES = frozenset({"PAMName"})
#: The names of our drop-ins, in any package and of any version of this tool.
_DROP_IN = re.compile(r"(?:10|50)-cgroup-preflight(?:-[a-z0-9+.-]+)?\.conf", re.ASCII)
_MASK = "/dev/null"


class Effect(enum.Enum):
    """What a file does to one of ours: it is read instead, or after it, or it is the unit and may mask it."""

    HIDES = "hides"
    CHANGES = "changes"
    MAY_MASK = "may mask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A file that may override `ours`, a file of the plan."""

    ours: str
    effect: Effect


def is_drop_in(path: str) -> bool:
    """Whether `path` has the name of a drop-in of this tool."""
    return _DROP_IN.fullmatch(path.rpartition("/")[2]) is not None


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
        self._slices = frozenset(item.unit for item in request.plan.slices)
        # lib/ is usr/lib/ itself on most systems; elsewhere it is read after it.
        before = [request.below(folder) for folder in (*_BEFORE[request.layout], f"lib/systemd/{request.layout}")]
        self._unit_folders = (self._folder, *before)
        #: Which units a drop-in folder of that name applies to: owner (`api.slice`, `service`, `a-.slice`) to units.
        self._owners: dict[str, list[str]] = {}
        for unit in (*self._slices, *self._units):
            for owner in _owners(unit):
                self._owners.setdefault(owner, []).append(unit)
        self._drop_ins = frozenset({drop_in_name(""), drop_in_name(package)})
        drop_ins = {self._our_drop_in(unit, name) for unit in (*self._slices, *self._units) for name in self._drop_ins}
        whole = {f"{self._folder}/{unit}" for unit in self._units} if request.service_units else set()
        #: Every path that the plan may have, independent of what is in the artifact.
        self.goals = frozenset({*manifests, *drop_ins, *whole})
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
        if not folder.endswith((".service.d", ".slice.d")) or not is_drop_in(name):
            return False
        return posixpath.dirname(folder) in (*self._unit_folders, *self._both_layouts)

    def unit_of(self, path: str) -> str | None:
        """The service whose unit file is at `path`."""
        folder, _, name = path.rpartition("/")
        return self._units.get(name) if folder in self._unit_folders else None

    def names_unit(self, path: str) -> bool:
        """Whether `path` has the name of the unit of a service, in whatever folder."""
        return path.rpartition("/")[2] in self._units

    def precedence(self, path: str) -> int:
        """The place of a unit file among those of the same name: systemd reads the one with the least alone."""
        # Our folder is the last but for lib/, where it is not the same folder.
        order = (*self._unit_folders[1:-1], self._folder, self._unit_folders[-1])
        return order.index(posixpath.dirname(path))

    def has_unit_name(self, path: str) -> bool:
        """Whether `path`, through links not known yet, may be a unit file or drop-in that is read with ours."""
        folder, _, name = path.rpartition("/")
        if name.endswith((".slice", ".service")):
            return name in self._names or name in self._slices
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
            return (Override(ours=same, effect=Effect.HIDES),) if folder != self._folder else ()
        if rest in self._slices:
            return self._changed(rest, Effect.MAY_MASK)
        owner, mark, name = rest.partition(".d/")
        if not mark or "/" in name or not name.endswith(".conf"):
            return ()
        found: list[Override] = []
        for unit in self._owners.get(owner, ()):
            # Drop-ins are read in the order of their names, from all folders together, after the unit file.
            if f"{self._folder}/{unit}" in self.goals:
                found.append(Override(ours=f"{self._folder}/{unit}", effect=Effect.CHANGES))
            found += self._changed(unit, Effect.CHANGES, name)
        return tuple(found)

    def _our_drop_in(self, unit: str, name: str) -> str:
        return f"{self._folder}/{unit}.d/{name}"

    def _changed(self, unit: str, effect: Effect, name: str = "") -> tuple[Override, ...]:
        """Our drop-ins of a unit; with `name`, those that systemd reads before a drop-in of that name."""
        ours = sorted(item for item in self._drop_ins if not name or item < name)
        return tuple(Override(ours=self._our_drop_in(unit, item), effect=effect) for item in ours)


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
    if override.effect is Effect.HIDES:
        return "" if found.data == ours else f"{path!r} hides {override.ours!r}"
    if override.effect is Effect.MAY_MASK:
        # An empty file masks a unit as a link to /dev/null does (systemd.unit(5)).
        masks = found.data == b"" or found.member.link == _MASK
        return f"{path!r} masks the unit of {override.ours!r}" if masks else ""
    if found.data is None:
        return f"{path!r} ({found.member.kind.value}) may change {override.ours!r}: its content is unknown"
    planned: dict[str, list[str]] = {}
    for key, value in _settings(ours):
        planned.setdefault(key, []).append(value)
    if override.ours.partition(".d/")[0].endswith(".slice"):
        # It takes limits away, and the plan never sets it (systemd.resource-control(5)).
        planned["DisableControllers"] = [""]
    changes = sorted({f"{key}={value}" for key, value in _settings(found.data) if _changes(planned, key, value)})
    return f"{path!r} changes {override.ours!r}: {', '.join(changes)}" if changes else ""


def _changes(planned: Mapping[str, list[str]], key: str, value: str) -> bool:
    if key not in planned:
        return bool(value) and (key in _ESCAPES or _REPLACES.get(key, key.removeprefix("Startup")) in planned)
    if key != "Environment":
        return value != planned[key][-1]
    # A list of variables: what it adds does not matter; what it empties or sets again does.
    names = [item.strip('"').partition("=")[0] for item in planned[key]]
    return not value or (value not in planned[key] and any(f"{name}=" in value for name in names))


def _settings(data: bytes) -> Iterator[tuple[str, str]]:
    for item in parse_unit(data.decode("utf-8-sig", "replace")):
        if item.section in ("Service", "Slice"):
            yield item.key, item.value
