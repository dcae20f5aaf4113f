"""What has to change in an artifact: pure, from what was found and what has to be there."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cgroup_preflight.artifacts import manifest
from cgroup_preflight.artifacts.content import wanted_files
from cgroup_preflight.artifacts.errors import conflict
from cgroup_preflight.artifacts.model import Found, NewFile
from cgroup_preflight.artifacts.survey import Survey


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
    old = manifest_of(survey)
    owned = _owned(survey, old) if old is not None else set()
    replaced, added = [], []
    for path, data in files.items():
        found = survey.found.get(path)
        if found is None:
            added.append(NewFile(path=path, data=data))
        elif found.data != data:
            if path not in owned and not force:
                raise conflict(_both(found, data), "remove one of the two, or replace the artifact's with --force")
            replaced.append((found, NewFile(path=path, data=data)))
    dropped = [survey.found[path] for path in sorted(owned - files.keys())]
    folders = _folders(survey, files) if added and (all_folders or survey.has_folders) else ()
    return Edit(replaced=tuple(replaced), dropped=tuple(dropped), folders=folders, added=tuple(added))


def expected(survey: Survey) -> Mapping[str, bytes]:
    """What has to be there; a proof in the artifact that still holds is kept. Raises ArtifactError."""
    files = wanted_files(survey.wish, survey.holdings())
    path = survey.wish.manifest_path(survey.package)
    old, new = manifest_of(survey), manifest.parse(files[path])
    if old is None or new is None:
        return files
    new = replace(new, tool_version=old.tool_version)  # It says who put the files in, not who looked last.
    if new.verdict != manifest.UNTESTED:
        if old == new:
            files[path] = survey.found[path].data or files[path]
        return files
    # Called without a report: the same plan with the same programs was tested before, and still is.
    programs = {program.sha256 for found in survey.programs.values() for program in found}
    holds = all(item.path is None or item.sha256 in programs for item in old.binaries)
    bare = tuple(replace(item, sha256=None) for item in old.binaries)
    if old == new or (holds and replace(old, verdict=new.verdict, binaries=bare) == new):
        files[path] = survey.found[path].data or files[path]
    return files


def manifest_of(survey: Survey) -> manifest.Manifest | None:
    """The manifest that an earlier `inject` left, if any."""
    found = survey.found.get(survey.wish.manifest_path(survey.package))
    return manifest.parse(found.data) if found else None


def _owned(survey: Survey, old: manifest.Manifest) -> set[str]:
    """The files of an earlier `inject` that nobody has changed since, and its manifest."""
    unchanged = {path for path, digest in old.files if path in survey.found and survey.found[path].sha256 == digest}
    return unchanged | {survey.wish.manifest_path(survey.package)}


def _folders(survey: Survey, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Folders above the files that the archive does not name, outermost first."""
    needed = set()
    for path in files:
        parts = path.split("/")[:-1]
        needed |= {"/".join(parts[: end + 1]) for end in range(len(parts))}
    return tuple(sorted(needed - survey.folders))


def _both(found: Found, data: bytes) -> str:
    ours = hashlib.sha256(data).hexdigest()
    return (
        f"{found.member.path!r} is there already with other content: the artifact's has {found.member.size} bytes, "
        f"sha256 {found.sha256}; the plan's has {len(data)} bytes, sha256 {ours}"
    )
