"""What has to change in an artifact, from what it contains and what it must contain. Pure."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.artifacts import manifest
from cgroup_preflight.artifacts.content import wanted_files
from cgroup_preflight.artifacts.model import FoundMember, NewFile, PackedProgram, conflict, unsafe
from cgroup_preflight.artifacts.overrides import is_drop_in
from cgroup_preflight.artifacts.scan import Scan
from cgroup_preflight.core.records import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """`replaced` keep their place, `dropped` are removed, `folders` and `added` come at the end, in this order."""

    replaced: tuple[tuple[FoundMember, NewFile], ...] = ()
    dropped: tuple[FoundMember, ...] = ()
    folders: tuple[str, ...] = ()
    added: tuple[NewFile, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing has to change: the artifact is not written at all."""
        return not (self.replaced or self.dropped or self.added)


def decide(scan: Scan, files: Mapping[str, bytes], *, force: bool = False, all_folders: bool = False) -> Edit:
    """The edit that gives `scan`'s artifact the expected `files`. Raises ArtifactError (CGP303, CGP304).

    What an earlier `inject` put in, by hash in the manifest it left, is replaced or removed; any other
    content at the same path is a conflict. Folders are added where the archive names its folders, or with
    `all_folders`.
    """
    owned, changed = _of_earlier(scan)
    replaced, added = [], []
    for path, data in files.items():
        found = scan.found.get(path)
        if found is None:
            added.append(NewFile(path=path, data=data))
        elif found.sha256 != _sha256(data):
            if path not in owned and not force:
                raise conflict(
                    _both(found, data), "remove one of the two files, or replace the one in the artifact with --force"
                )
            replaced.append((found, NewFile(path=path, data=data)))
    stale = sorted(changed - files.keys())
    if stale and not force:
        message = f"{stale[0]!r} has the name of a file of this tool, but is in neither this plan nor a manifest"
        raise conflict(message, "remove it from the artifact, or use --force to remove it")
    dropped = [scan.found[path] for path in sorted((owned | changed) - files.keys())]
    _check_links(scan, [*(found for found, _ in replaced), *dropped])
    folders = _folders(scan, files) if added and (all_folders or scan.has_folders) else ()
    return Edit(replaced=tuple(replaced), dropped=tuple(dropped), folders=folders, added=tuple(added))


def expected(scan: Scan) -> Mapping[str, bytes]:
    """What the artifact must contain; a proof in it that is still true is kept. Raises ArtifactError."""
    files = wanted_files(scan.request, scan.contents())
    path = scan.request.manifest_path(scan.package)
    old, new = scan.manifest, manifest.parse(files.get(path))
    if old is None or new is None or manifest.dump(old) != scan.found[path].data:
        return files
    if _still_true(old, new, scan):
        files[path] = scan.found[path].data or files[path]
    return files


def _still_true(old: manifest.Manifest, new: manifest.Manifest, scan: Scan) -> bool:
    """Whether the manifest in the artifact is still true, and proves no less than the new one would."""
    untested = new.verdict == manifest.UNTESTED
    if not untested and old.verdict != new.verdict:
        return False
    # The version says who put the files in, not who compared last.
    same = replace(new, tool_version=old.tool_version, verdict=old.verdict, binaries=old.binaries) == old
    if not same or [item.service for item in old.binaries] != [item.service for item in new.binaries]:
        return False
    return all(
        _still_there(was, now, scan.programs.get(was.service, ())) and (untested or was.sha256 == now.sha256)
        for was, now in zip(old.binaries, new.binaries, strict=True)
    )


def _still_there(
    was: manifest.ManifestBinary, now: manifest.ManifestBinary, programs: Sequence[PackedProgram]
) -> bool:  # fmt: skip
    """A manifest made before the program was packed names no path; otherwise the program must be where it was."""
    if was.sha256 is None:
        return was.path in (None, now.path)
    if was.path is None:
        return not programs or any(item.sha256 == was.sha256 for item in programs)
    return any((item.path, item.sha256) == (was.path, was.sha256) for item in programs)


def other_projects(scan: Scan) -> Mapping[str, manifest.Manifest]:
    """Manifests of other projects or packages in the same artifact, by path."""
    own = scan.request.manifest_path(scan.package)
    parsed = {path: manifest.parse(found.data) for path, found in scan.found.items() if path != own}
    return {path: item for path, item in parsed.items() if item is not None}


def _of_earlier(scan: Scan) -> tuple[set[str], set[str]]:
    """Files of an earlier `inject`: those that did not change since, and drop-ins that no manifest accounts for.

    A drop-in with our name is ours; slices and units that were changed since belong to somebody else.
    """
    ours = {path for path in scan.found if is_drop_in(path)}
    for item in other_projects(scan).values():
        ours -= {path for path, digest in item.files if path in ours and scan.found[path].sha256 == digest}
    return set(scan.owned), ours - scan.owned


def _check_links(scan: Scan, gone: Iterable[FoundMember]) -> None:
    for found in gone:
        if found.member.path in scan.link_targets:
            raise unsafe(f"another member is a hard link to {found.member.path!r}, which must be changed")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _folders(scan: Scan, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Folders above the files that the archive does not name, outermost first."""
    needed = set()
    for path in files:
        parts = path.split("/")[:-1]
        needed |= {"/".join(parts[: end + 1]) for end in range(len(parts))}
    return tuple(sorted(needed - scan.folders))


def _both(found: FoundMember, data: bytes) -> str:
    return (
        f"{found.member.path!r} exists already with other content: the file in the artifact has "
        f"{found.member.size} bytes, sha256 {found.sha256}; the one of the plan has {len(data)} bytes, sha256 {_sha256(data)}"
    )
