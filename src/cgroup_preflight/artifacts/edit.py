"""What has to change in an artifact: pure, from what was found and what has to be there."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cgroup_preflight.artifacts import manifest
from cgroup_preflight.artifacts.content import wanted_files
from cgroup_preflight.artifacts.errors import conflict, unsafe
from cgroup_preflight.artifacts.model import Found, NewFile
from cgroup_preflight.artifacts.survey import Survey
from cgroup_preflight.plan.unitfile import DROP_IN


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """`replaced` keep their place, `dropped` go, `folders` and `added` come at the end, in this order."""

    replaced: tuple[tuple[Found, NewFile], ...] = ()
    dropped: tuple[Found, ...] = ()
    folders: tuple[str, ...] = ()
    added: tuple[NewFile, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing has to change: the artifact is not written at all."""
        return not (self.replaced or self.dropped or self.added)


def decide(survey: Survey, *, force: bool = False, all_folders: bool = False) -> Edit:
    """The edit that gives `survey`'s artifact the plan. Raises ArtifactError (CGP302, CGP303, CGP306).

    What an earlier `inject` put in, by hash in the manifest it left, is replaced or removed; anything else that
    stands in the way is a conflict. Folders are added where the archive names its folders, or with `all_folders`.
    """
    files = expected(survey)
    owned, changed = _of_earlier(survey)
    replaced, added = [], []
    for path, data in files.items():
        found = survey.found.get(path)
        if found is None:
            added.append(NewFile(path=path, data=data))
        elif found.sha256 != _sha256(data):
            if path not in owned and not force:
                raise conflict(_both(found, data), "remove one of the two, or replace the artifact's with --force")
            replaced.append((found, NewFile(path=path, data=data)))
    stale = sorted(changed - files.keys())
    if stale and not force:
        message = f"{stale[0]!r} is a file of ours that this plan does not have, and no manifest has it like this"
        raise conflict(message, "remove it from the artifact, or let --force do it")
    dropped = [survey.found[path] for path in sorted((owned | changed) - files.keys())]
    _check_links(survey, [*(found for found, _ in replaced), *dropped])
    folders = _folders(survey, files) if added and (all_folders or survey.has_folders) else ()
    return Edit(replaced=tuple(replaced), dropped=tuple(dropped), folders=folders, added=tuple(added))


def expected(survey: Survey) -> Mapping[str, bytes]:
    """What has to be there; a proof in the artifact that still holds is kept. Raises ArtifactError."""
    files = wanted_files(survey.wish, survey.holdings())
    path = survey.wish.manifest_path(survey.package)
    old, new = manifest_of(survey), manifest.parse(files.get(path))
    if old is None or new is None or manifest.dump(old) != survey.found[path].data:
        return files
    new = replace(new, tool_version=old.tool_version)  # It says who put the files in, not who looked last.
    if new.verdict != manifest.UNTESTED:
        if old == new:
            files[path] = survey.found[path].data or files[path]
        return files
    # Called without a report: the same plan with the same programs was tested before, and still is.
    programs = {(label, item.path, item.sha256) for label, found in survey.programs.items() for item in found}
    holds = all(item.path is None or (item.service, item.path, item.sha256) in programs for item in old.binaries)
    bare = tuple(replace(item, sha256=None) for item in old.binaries)
    if old == new or (holds and replace(old, verdict=new.verdict, binaries=bare) == new):
        files[path] = survey.found[path].data or files[path]
    return files


def manifest_of(survey: Survey) -> manifest.Manifest | None:
    """The manifest that an earlier `inject` left, if any."""
    found = survey.found.get(survey.wish.manifest_path(survey.package))
    return manifest.parse(found.data) if found else None


def other_projects(survey: Survey) -> Mapping[str, manifest.Manifest]:
    """Manifests of other projects or packages in the same artifact, by path."""
    own = survey.wish.manifest_path(survey.package)
    parsed = {path: manifest.parse(found.data) for path, found in survey.found.items() if path != own}
    return {path: item for path, item in parsed.items() if item is not None}


def _of_earlier(survey: Survey) -> tuple[set[str], set[str]]:
    """Files of an earlier `inject`: those as it left them with its manifest, and drop-ins that no manifest accounts for.

    A drop-in with our name belongs to nobody else; slices and units that were changed since are somebody's own.
    """
    ours = {path for path in survey.found if path.endswith(f"/{DROP_IN}")}
    for item in other_projects(survey).values():
        ours -= {path for path, digest in item.files if path in ours and survey.found[path].sha256 == digest}
    old = manifest_of(survey)
    if old is None:
        return set(), ours
    owned = {path for path, digest in old.files if path in survey.found and survey.found[path].sha256 == digest}
    owned.add(survey.wish.manifest_path(survey.package))
    return owned, ours - owned


def _check_links(survey: Survey, gone: Iterable[Found]) -> None:
    for found in gone:
        if found.member.path in survey.link_targets:
            raise unsafe(f"another member is a hard link to {found.member.path!r}, which has to change")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _folders(survey: Survey, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Folders above the files that the archive does not name, outermost first."""
    needed = set()
    for path in files:
        parts = path.split("/")[:-1]
        needed |= {"/".join(parts[: end + 1]) for end in range(len(parts))}
    return tuple(sorted(needed - survey.folders))


def _both(found: Found, data: bytes) -> str:
    return (
        f"{found.member.path!r} is there already with other content: the artifact's has {found.member.size} bytes, "
        f"sha256 {found.sha256}; the plan's has {len(data)} bytes, sha256 {_sha256(data)}"
    )
