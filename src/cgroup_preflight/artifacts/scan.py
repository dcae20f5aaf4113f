"""Looks at every member of an artifact once: refuses what is unsafe, remembers what matters to the plan.

Symbolic links are remembered, so that a path can be followed as in the unpacked tree.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import IO

from cgroup_preflight.artifacts.content import ContentRequest, Contents
from cgroup_preflight.artifacts.manifest import Manifest, parse
from cgroup_preflight.artifacts.model import (
    KEEP_ALL_MAX,
    KEEP_MAX,
    PATH_MAX,
    ArtifactError,
    FoundMember,
    Limits,
    Member,
    MemberKind,
    PackedProgram,
    too_large,
    unsafe,
    unsupported,
)
from cgroup_preflight.artifacts.overrides import Override, UnitPaths
from cgroup_preflight.artifacts.unit_sources import UnitSources
from cgroup_preflight.core.report import Remedy

#: As the kernel: more links in one path are taken for a loop (path_resolution(7)).
_HOPS_MAX = 40
_ELF = b"\x7fELF"
#: First members of packages that are tar files with a checksum list of their own (Arch, Alpine).
_PACKAGE_MARKS = frozenset({".PKGINFO", ".MTREE"})
#: Folders of a root file system (FHS 3.0, 3.2): what is in one of them alone is no archive with a folder around it.
_ROOT_FOLDERS = frozenset(("bin", "boot", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "root", "run",
                           "sbin", "srv", "tmp", "usr", "var"))  # fmt: skip
#: Most members that matter, programs by name, links to them: far above any artifact.
_NOTED_MAX = 10_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Links:
    """Links by their path; an absolute target begins at `root`, the prefix of what is unpacked to /."""

    def __init__(self, root: str, limit: int) -> None:
        self._root = root.split("/") if root else []
        self._limit = limit
        self._targets: dict[str, str] = {}

    def add(self, path: str, target: str) -> None:
        """Remembers a link. Raises ArtifactError where there are too many to remember."""
        if len(self._targets) >= self._limit:
            raise too_large(f"more than {self._limit} symbolic links", "--max-members (a tenth of it may be links)")
        self._targets[path] = target

    def paths(self) -> Iterable[str]:
        """Where the links are."""
        return self._targets.keys()

    def place(self, path: str) -> str:
        """Where a member named `path` ends up: links are followed in its folders, not in its last part."""
        return self._follow(path, last=False)

    def target(self, path: str) -> str:
        """Where reading `path` ends up."""
        return self._follow(path, last=True)

    def _follow(self, path: str, *, last: bool) -> str:
        if not self._targets:
            return path
        done: list[str] = []
        todo, hops = path.split("/")[::-1], 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del done[-1:]
                continue
            done.append(part)
            target = self._targets.get("/".join(done)) if todo or last else None
            if target is None:
                continue
            hops += 1
            if hops > _HOPS_MAX:
                return path
            done = list(self._root) if target.startswith("/") else done[:-1]
            todo += target.split("/")[::-1]
        return "/".join(done)


class Scan:
    """What is in the artifact; `package` for the manifest's name, `dotted`: names begin with `./`.

    `idle`: programs without execute permission, by service. `linked`: members that a link of a program's name leads to,
    with its path and service; `copies`: files that get a copy of a service's first program. `also`: further files that
    `sources` keeps.
    """

    def __init__(
        self, request: ContentRequest, limits: Limits, package: str = "", *, copies: Mapping[str, IO[bytes]] | None = None,
        linked: Mapping[str, list[tuple[str, str]]] | None = None, also: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.request, self.limits, self.package = request, limits, package
        self.copies, self.linked, self.also = copies or {}, linked or {}, also
        self.found: dict[str, FoundMember] = {}
        self.folders: set[str] = set()
        self.units: dict[str, set[str]] = {}
        self.overrides: list[tuple[FoundMember, Override]] = []
        self.programs: dict[str, list[PackedProgram]] = {}
        self.idle: dict[str, str] = {}
        self.link_targets: set[str] = set()
        self.has_folders = self.dotted = self._has_unit = False
        self.newest = self.count = self.total = self._kept = 0
        self._program_links: list[tuple[Member, list[str]]] = []
        self._candidates: list[FoundMember] = []
        self._tops: set[str] = set()
        self._seen: set[int] = set()
        self._paths = UnitPaths(request, package)
        self.sources = UnitSources(request, self._paths, also)
        self._links = Links(request.prefix, limits.members // 10)
        self._names: dict[str, list[str]] = {}
        for service in request.plan.services:
            self._names.setdefault(service.binary.rpartition("/")[2], []).append(service.label)
        for copy in self.copies.values():
            # What an earlier scan of the artifact wrote.
            copy.seek(0)
            copy.truncate()

    def member(self, member: Member) -> bool:
        """Takes note of one member; returns whether its content is needed. Raises ArtifactError (CGP304 to CGP306)."""
        self._admit(member)
        if self.count == 1:
            self.dotted = member.raw_name.startswith("./") or member.raw_name == "."
        self.newest = max(self.newest, member.mtime)
        if self.request.auto_prefix:
            self._note_top(member)
        self._refuse_in_the_way(member)
        if member.kind is MemberKind.FOLDER:
            self.has_folders = True
            if member.path in self._paths.parents:
                self.folders.add(member.path)
            return False
        if unit := self._paths.unit_of(member.path):
            self.units.setdefault(unit, set()).add(member.path)
        labels = self._labels(member)
        if member.kind is not MemberKind.FILE:
            self._note_link(member, labels)
            return False
        has_unit_name = self._paths.reserved(member.path) or self._paths.has_unit_name(member.path)
        wanted = bool(labels or has_unit_name or member.path in self.linked or self._may_be_idle(member))
        wanted = wanted or self.sources.wants(member.path)
        if wanted and member.sparse:
            raise unsafe(f"{member.path!r} is stored as a sparse file", "pack it again without --sparse")
        if not has_unit_name and self._paths.has_plan_name(member.path):
            self._add_candidate(FoundMember(member=member, sha256="", data=None))
        return wanted

    def content(self, member: Member, chunks: Iterable[bytes]) -> None:
        """Takes the content of a member for which `member` returned True."""
        noted, has_unit_name = self._paths.reserved(member.path), self._paths.has_unit_name(member.path)
        source = self.sources.wants(member.path)
        room = min(KEEP_MAX, KEEP_ALL_MAX - self._kept) if noted or has_unit_name or source else 0
        named = [(member.path, label) for label in self._labels(member)]
        named += self.linked.get(member.path, ())
        copies = [self.copies[label] for _, label in named if label in self.copies and label not in self.programs]
        digest, kept, size, head = hashlib.sha256(), bytearray(), 0, b""
        for chunk in chunks:
            head = head or bytes(chunk[:4])
            digest.update(chunk)
            for copy in copies:
                copy.write(chunk)
            size += len(chunk)
            if size <= room:
                kept += chunk
        if head == _ELF and self._may_be_idle(member):
            self.idle |= dict.fromkeys(self._names[member.path.rpartition("/")[2]], member.path)
        self._kept += len(kept)
        found = FoundMember(member=member, sha256=digest.hexdigest(), data=bytes(kept) if size <= room else None)
        if noted:
            _bounded(self.found)
            self.found[member.path] = found
        if source:
            self.sources.add(member.path, found.data)
        if has_unit_name:
            self._add_candidate(found)
        for path, label in named:
            programs = self.programs.setdefault(label, [])
            _bounded(programs)
            programs.append(PackedProgram(path=path, sha256=found.sha256))

    def finish(self) -> None:
        """Follows the links of the artifact, now that all are known. Raises ArtifactError (CGP304)."""
        if self.request.manifest_path() in self.found and self.request.manifest_path(self.package) not in self.found:
            self.package = ""  # It was built with a manifest of the project's name.
        for found in self._candidates:
            real = self._real(found.member.path)
            self.overrides += [(found, override) for override in self._paths.overrides(real)]
        for path in self._links.paths():
            self._real(path)

    def _real(self, path: str) -> str:
        """Where a member ends up that is not a folder. Raises ArtifactError if that is a path of the plan."""
        real = self._links.place(path)
        if real != path and (real in self._paths.goals or real in self._paths.parents):
            raise unsafe(f"{path!r} leads through a link to {real!r}, where the plan is written")
        return real

    def again(self) -> "Scan | None":
        """A second scan, if links lead to programs or units name environment files: those may come before them."""
        linked: dict[str, list[tuple[str, str]]] = {}
        for member, labels in self._program_links:
            target = member.link if member.kind is MemberKind.HARDLINK else self._links.target(member.path)
            linked.setdefault(target, []).extend((member.path, label) for label in labels)
        also = self.sources.missing(lambda path: hash(path) in self._seen)
        if not (linked or also) or self.linked or self.also:
            return None
        return Scan(self.request, self.limits, self.package, copies=self.copies, linked=linked, also=also)

    @property
    def top_folder(self) -> str:
        """The folder that the whole archive is in, with a program or unit of the plan; empty where there is none."""
        top = next(iter(self._tops), "") if len(self._tops) == 1 else ""
        plain = all(32 < ord(char) < 127 for char in top)
        return top if plain and top not in _ROOT_FOLDERS and (self.programs or self.idle or self._has_unit) else ""

    @property
    def manifest(self) -> Manifest | None:
        """The manifest that an earlier `inject` left, if any."""
        found = self.found.get(self.request.manifest_path(self.package))
        return parse(found.data) if found else None

    @property
    def owned(self) -> frozenset[str]:
        """Files of an earlier `inject` that did not change since, and its manifest."""
        if self.manifest is None:
            return frozenset()
        same = {
            path for path, digest in self.manifest.files if path in self.found and self.found[path].sha256 == digest
        }
        return frozenset({*same, self.request.manifest_path(self.package)})

    def contents(self) -> Contents:
        """What the content depends on; a unit that an earlier `inject` wrote does not count as the artifact's own."""
        programs = {label: tuple(found) for label, found in self.programs.items()}
        owned = self.owned
        units = frozenset(label for label, paths in self.units.items() if paths - owned)
        return Contents(programs=programs, units=units, package=self.package)

    def _admit(self, member: Member) -> None:
        """Refuses what unpackers disagree about, and what no build artifact contains."""
        self.count += 1
        self.total += member.size
        if self.count > self.limits.members:
            raise too_large(f"more than {self.limits.members} members", "--max-members")
        if self.total > self.limits.unpacked:
            raise too_large(f"unpacks to more than {self.limits.unpacked} bytes", "--max-size")
        if member.kind is MemberKind.DEVICE:
            raise unsafe(f"{member.path!r} is a device node")
        if member.path in _PACKAGE_MARKS:
            raise _package(member.path)
        if member.kind is not MemberKind.FOLDER:
            key = hash(member.path)
            if key in self._seen:
                raise unsafe(f"{member.path!r} is in the artifact twice", "pack it again with each member once")
            self._seen.add(key)

    def _refuse_in_the_way(self, member: Member) -> None:
        """Refuses what is no file at a path of the plan, or no folder above one. Raises ArtifactError (CGP304)."""
        path = member.path
        if path in self._paths.parents and member.kind is not MemberKind.FOLDER:
            raise unsafe(f"{path!r} must be a folder for unit files, but is a {member.kind.value}")
        # A link may be the unit of a service (an alias); then no unit is written at this path.
        alias = member.kind in (MemberKind.SYMLINK, MemberKind.HARDLINK) and self._paths.unit_of(path)
        if path in self._paths.goals and member.kind is not MemberKind.FILE and not alias:
            raise unsafe(f"{path!r} is the path of a file of the plan, but is a {member.kind.value}")

    def _note_top(self, member: Member) -> None:
        if not member.path or len(self._tops) > 1:
            return
        self._has_unit = self._has_unit or self._paths.names_unit(member.path)
        top, slash, _ = member.path.partition("/")
        if slash and top in self._tops:
            return
        # What this tool put next to the folder is not part of the archive.
        if not (self._paths.reserved(member.path) or member.path in self._paths.parents):
            self._tops.add(top if slash or member.kind is MemberKind.FOLDER else "")

    def _may_be_idle(self, member: Member) -> bool:
        """Whether this may be a program that was packed without execute permission."""
        named = member.path.rpartition("/")[2] in self._names
        return named and member.kind is MemberKind.FILE and not member.executable

    def _labels(self, member: Member) -> list[str]:
        """Services whose program this may be, by its name; nothing is run from etc/ (FHS 3.0, 3.7)."""
        folder, _, name = member.path.rpartition("/")
        if name not in self._names or f"{folder}/".startswith(self.request.below("etc/")):
            return []
        return self._names[name] if member.executable or member.kind is MemberKind.SYMLINK else []

    def _note_link(self, member: Member, labels: list[str]) -> None:
        if member.kind is MemberKind.SYMLINK:
            self._links.add(member.path, member.link)
        if member.kind is MemberKind.HARDLINK and self._paths.reserved(member.link):
            self.link_targets.add(member.link)
        if labels and member.kind in (MemberKind.SYMLINK, MemberKind.HARDLINK):
            _bounded(self._program_links)
            self._program_links.append((member, labels))
        if self._paths.has_plan_name(member.path):
            self._add_candidate(FoundMember(member=member, sha256="", data=None))

    def _add_candidate(self, found: FoundMember) -> None:
        if len(self._candidates) >= self.limits.members // 10:
            raise unsafe(f"more than {len(self._candidates)} members have the names of unit files or their folders")
        self._candidates.append(found)


def is_root_folder(name: str) -> bool:
    """Whether this is a folder of a root file system, which wraps no archive."""
    return name in _ROOT_FOLDERS


def _bounded(
    noted: "dict[str, FoundMember] | list[PackedProgram] | list[FoundMember] | list[tuple[Member, list[str]]]",
) -> None:
    if len(noted) >= _NOTED_MAX:
        raise unsafe(f"more than {_NOTED_MAX} members have the name of a unit file or program")


def _package(mark: str) -> ArtifactError:
    return unsupported(
        f"{mark!r} marks an Arch or Alpine package, which lists its own files; a new file would contradict that list",
        Remedy(
            title="add the files while the package is built",
            commands=(("cgroup-preflight", "inject", "--emit", "nfpm"),),
        ),
    )


def clean_path(raw: bytes, what: str = "member") -> str:
    """A member name as a relative path without `./`, `//` and a last `/`; empty for the root itself.

    Raises ArtifactError (CGP304) for absolute names, `..`, control characters, what is not UTF-8 or too long.
    """
    if len(raw) > PATH_MAX:
        raise unsafe(f"a {what} has a name of {len(raw)} bytes, which no system unpacks", "pack it again")
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise unsafe(f"the name {raw!r} is not UTF-8", "pack it again with UTF-8 names") from None
    if _CONTROL.search(name):
        raise unsafe(f"the name {name!r} has control characters")
    if name.startswith("/"):
        raise unsafe(f"the {what} {name!r} is absolute", "pack it again with relative names")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise unsafe(f"the {what} {name!r} leads out of the artifact")
    return "/".join(parts)
