"""Looks at every member of an artifact once: refuses what is unsafe, remembers what the plan cares about."""

import hashlib
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

from cgroup_preflight.artifacts.content import Holdings, Wish
from cgroup_preflight.artifacts.errors import ArtifactError, too_large, unsafe, unsupported
from cgroup_preflight.artifacts.model import KEEP_MAX, Found, Kind, Limits, Member, Program
from cgroup_preflight.plan.unitfile import DROP_IN
from cgroup_preflight.report import Remedy

#: Folders that systemd reads before ours: a file of the same name there hides ours (systemd.unit(5)).
_BEFORE_OURS = ("etc/systemd", "run/systemd", "usr/local/lib/systemd")
_UNIT_FOLDERS = (*_BEFORE_OURS, "usr/lib/systemd", "lib/systemd")
#: First members of packages that are tar files with a checksum list of their own (Arch, Alpine).
_PACKAGE_MARKS = frozenset({".PKGINFO", ".MTREE"})
#: Members of ours that are kept in memory while a decision is due; far above any plan.
_FOUND_MAX = 10_000


@dataclass(slots=True, kw_only=True)
class Survey:
    """What was seen; `package` for the manifest's name, `dotted`: names begin with `./`.

    `linked`: members whose content belongs to a program that is a hard link to them, with its path and service.
    """

    wish: Wish
    limits: Limits
    package: str = ""
    linked: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    links: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    found: dict[str, Found] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    units: set[str] = field(default_factory=set)
    shadows: set[str] = field(default_factory=set)
    programs: dict[str, list[Program]] = field(default_factory=dict)
    has_folders: bool = False
    dotted: bool = False
    newest: int = 0
    count: int = 0
    total: int = 0
    _seen: set[int] = field(default_factory=set)
    _names: dict[str, list[str]] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _parents: set[str] = field(default_factory=set)
    _unit_names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for service in self.wish.plan.services:
            self._names.setdefault(service.binary.rpartition("/")[2], []).append(service.label)
            self._unit_names[service.unit] = service.label
        drop_ins = [f"{self.wish.unit_folder}/{service.unit}.d" for service in self.wish.plan.services]
        for folder in (*drop_ins, self.wish.unit_folder, self._manifest.rpartition("/")[0]):
            parts = folder.split("/")
            self._parents |= {"/".join(parts[: end + 1]) for end in range(len(parts))}

    @property
    def _manifest(self) -> str:
        return self.wish.manifest_path(self.package)

    def member(self, member: Member) -> bool:
        """Takes note of one member; whether its content is wanted. Raises ArtifactError (CGP304 to CGP306)."""
        self._admit(member)
        if self.count == 1:
            self.dotted = member.raw_name.startswith("./") or member.raw_name == "."
        self.newest = max(self.newest, member.mtime)
        path = member.path
        self._check_alias(member)
        if member.kind is Kind.FOLDER:
            if self._is_ours(path):
                raise unsafe(f"{path!r}, where a file of the plan goes, is a folder")
            self.has_folders = True
            if path in self._parents:
                self.folders.add(path)
            return False
        if path in self._parents:
            raise unsafe(f"{path!r}, a folder that unit files go to, is a {member.kind.value}")
        self._note_unit(path)
        ours = self._is_ours(path)
        if ours and member.kind is not Kind.FILE:
            raise unsafe(f"{path!r}, where a file of the plan goes, is a {member.kind.value}")
        labels = self._names.get(path.rpartition("/")[2], ())
        if member.kind is Kind.HARDLINK:
            self.links.setdefault(member.link, []).extend((path, label) for label in labels)
        return member.kind is Kind.FILE and bool(ours or labels or path in self.linked)

    def content(self, member: Member, chunks: Iterable[bytes]) -> None:
        """Takes in the content of a member that `member` wanted."""
        digest, kept, size = hashlib.sha256(), bytearray(), 0
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            if size <= KEEP_MAX:
                kept += chunk
        if self._is_ours(member.path):
            if len(self.found) >= _FOUND_MAX:
                raise unsafe(f"more than {_FOUND_MAX} unit files")
            data = bytes(kept) if size <= KEEP_MAX else None
            self.found[member.path] = Found(member=member, sha256=digest.hexdigest(), data=data)
        named = [(member.path, label) for label in self._names.get(member.path.rpartition("/")[2], ())]
        for path, label in (*named, *self.linked.get(member.path, ())):
            self.programs.setdefault(label, []).append(Program(path=path, sha256=digest.hexdigest()))

    def again(self) -> "Survey | None":
        """A new survey that follows hard links to programs, where there were any; their targets stand before them."""
        links = {target: found for target, found in self.links.items() if found}
        if not links or self.linked:
            return None
        return Survey(wish=self.wish, limits=self.limits, package=self.package, linked=links)

    def holdings(self) -> Holdings:
        """What the content depends on."""
        programs = {label: tuple(found) for label, found in self.programs.items()}
        return Holdings(programs=programs, units=frozenset(self.units), package=self.package)

    def _admit(self, member: Member) -> None:
        """Refuses what unpackers disagree about, and what no build artifact holds."""
        self.count += 1
        self.total += member.size
        if self.count > self.limits.members:
            raise too_large(f"more than {self.limits.members} members", "--max-members")
        if self.total > self.limits.unpacked:
            raise too_large(f"unpacks to more than {self.limits.unpacked} bytes", "--max-size")
        if member.kind is Kind.DEVICE:
            raise unsafe(f"{member.path!r} is a device node")
        if member.path in _PACKAGE_MARKS:
            raise _package(member.path)
        if member.kind is not Kind.FOLDER:
            key = hash(member.path)
            if key in self._seen:
                raise unsafe(f"{member.path!r} is there twice", "pack it anew with each member once")
            self._seen.add(key)

    def _check_alias(self, member: Member) -> None:
        """Refuses a second way, through a symbolic link, to a place that we write to. Raises ArtifactError."""
        for alias, target in self._aliases.items():
            if member.path.startswith(f"{alias}/"):
                real = posixpath.normpath(f"{target}/{member.path[len(alias) + 1 :]}")
                if real != member.path and self._is_ours(real):
                    raise unsafe(f"{member.path!r} reaches {real!r} through the link {alias!r}")
        if member.kind is Kind.SYMLINK:
            target = posixpath.normpath(posixpath.join("/", posixpath.dirname(member.path), member.link)).strip("/")
            if not target or target in self._parents or target.startswith(f"{self.wish.unit_folder}/"):
                self._aliases[member.path] = target or "."

    def _is_ours(self, path: str) -> bool:
        """Whether `path` is one that some plan of this layout and prefix could have."""
        if path == self._manifest:
            return True
        folder, _, name = path.rpartition("/")
        unit_folder = self.wish.unit_folder
        if folder == unit_folder:
            return name.endswith((".slice", ".service"))
        return name == DROP_IN and folder.startswith(f"{unit_folder}/") and folder.endswith(".service.d")

    def _note_unit(self, path: str) -> None:
        """Services that have a unit file, and files that would hide one of ours."""
        for folder in _UNIT_FOLDERS:
            base = f"{self.wish.below(folder)}/{self.wish.layout}/"
            if not path.startswith(base):
                continue
            name = path.removeprefix(base)
            if name in self._unit_names:
                self.units.add(self._unit_names[name])
            if folder in _BEFORE_OURS and name.endswith((".slice", f".service.d/{DROP_IN}")):
                self.shadows.add(path)
            owner, _, drop_in = name.partition(".d/")
            if owner in self._unit_names and drop_in.endswith(".conf") and drop_in > DROP_IN:
                self.shadows.add(path)


def _package(mark: str) -> ArtifactError:
    return unsupported(
        f"{mark!r} makes it a package with a list of its own (Arch, Alpine), which a new file would contradict",
        Remedy(title="let its packager put the files in", commands=(("cgroup-preflight", "inject", "--emit", "nfpm"),)),
    )


def clean_path(raw: bytes, what: str = "member") -> str:
    """A member name as a relative path without `./`, `//` and a last `/`; empty for the root itself.

    Raises ArtifactError (CGP304) for absolute names, `..`, control characters and what is not UTF-8.
    """
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise unsafe(f"the name {raw!r} is not UTF-8", "pack it anew with UTF-8 names") from None
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise unsafe(f"the name {name!r} has control characters")
    if name.startswith("/"):
        raise unsafe(f"the {what} {name!r} is absolute", "pack it anew with relative names")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise unsafe(f"the {what} {name!r} leads out of the artifact")
    return "/".join(parts)
